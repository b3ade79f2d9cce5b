"""What a checkpoint must be: a hash of each of its files, and the form of each of its arrays."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from qamx._utils.files import hash_of

Schema: TypeAlias = dict[str, tuple[list[int], str]]
"""Shape and dtype of every array, by name."""

NAME = "manifest.json"


class Damaged(Exception):
    """A file is not what was saved; the message names it and says what was found."""


def persist(path: Path) -> None:
    """Returns when a file's or folder's content is on the disk, so that a power cut keeps it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def schema_of(arrays: dict[str, np.ndarray]) -> Schema:
    """The form of named arrays."""
    return {name: (list(array.shape), str(array.dtype)) for name, array in arrays.items()}


def write_manifest(directory: Path, schema: Schema) -> None:
    """Hashes every file in `directory` and writes the manifest beside them, all of it durably."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    for path in (*files, *(path for path in directory.rglob("*") if path.is_dir())):
        persist(path)
    content = {
        "files": {
            str(path.relative_to(directory)): [path.stat().st_size, hash_of(path)] for path in files
        },
        "schema": schema,
    }
    path = directory / NAME
    # The manifest's own hash: a flipped bit in it must not pass for a flaw of what it describes.
    path.write_text(json.dumps({"sha256": _digest(content), **content}), encoding="utf-8")
    persist(path)
    persist(directory)


def verify(directory: Path) -> Schema:
    """Checks every file in `directory` against its manifest; returns the schema.

    **Raises:** `Damaged` at the first file that is missing, was added, or has another content.
    """
    content = _read(directory / NAME)
    for name, (size, digest) in content["files"].items():
        verify_file(directory / name, size, digest)
    known = {*content["files"], NAME}
    found = (path for path in sorted(directory.rglob("*")) if path.is_file())
    for path in found:
        if str(path.relative_to(directory)) not in known:
            raise Damaged(f"{path}: not a file of this checkpoint")
    return {name: (shape, dtype) for name, (shape, dtype) in content["schema"].items()}


def verify_file(path: Path, size: int, digest: str) -> None:
    """Checks one file.

    **Raises:** `Damaged` if it is missing, or has another size or hash.
    """
    try:
        found = path.stat().st_size
        if found != size:
            raise Damaged(f"{path}: {found:,} bytes, {size:,} were saved")
        actual = hash_of(path)
    except OSError as error:
        raise Damaged(f"{path}: {_reason(error)}") from error
    if actual != digest:
        raise Damaged(f"{path}: SHA-256 {actual[:12]}..., {digest[:12]}... was saved")


def verify_schema(schema: Schema, arrays: dict[str, np.ndarray]) -> None:
    """Checks the form of what was read.

    **Raises:** `Damaged` at the first array that is missing, was added, or has another form.
    """
    found = schema_of(arrays)
    for name in sorted(schema.keys() | found.keys()):
        saved, read = schema.get(name), found.get(name)
        if saved is None or read is None or list(saved) != list(read):
            raise Damaged(f"array {name}: {_form(read)}, {_form(saved)} was saved")


def _form(entry: tuple[list[int], str] | None) -> str:
    return "nothing" if entry is None else f"{entry[1]}{entry[0]}"


def _read(path: Path) -> dict[str, Any]:
    try:
        saved = json.loads(path.read_bytes())
        digest, content = saved["sha256"], {name: saved[name] for name in ("files", "schema")}
    except OSError as error:
        raise Damaged(f"{path}: {_reason(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path}: not a manifest ({error})") from error
    if _digest(content) != digest:
        raise Damaged(f"{path}: its own SHA-256 does not match its content")
    return content


def _reason(error: OSError) -> str:
    return "missing" if isinstance(error, FileNotFoundError) else str(error.strerror).lower()


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
