"""SHA-256 of data files. A large file is read once: its hash is kept until the file changes."""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qamx.cores import usable_cores

WORTH_KEEPING = 64 * 2**20
"""Bytes from which a hash is kept; below, hashing takes less than half a second."""

WORTH_A_WORD = 4 * 2**30
"""Bytes to read from which the wait is announced."""


def sha256_of(files: Sequence[Path]) -> list[str]:
    """The hash of each file, in hexadecimal.

    Files are streamed, several at a time (hashing leaves Python's lock). Hashes of large files
    are kept in `$XDG_CACHE_HOME/qamx` by path, size and time of change.

    **Raises:** `OSError` if a file cannot be read.
    """
    kept = _read_kept()
    stamps = [_stamp(file) for file in files]
    missing = [
        index for index, (name, state) in enumerate(stamps) if kept.get(name, {}).get("at") != state
    ]
    announced = sum(files[index].stat().st_size for index in missing)
    if announced > WORTH_A_WORD:
        print(f"hashing {announced / 1e9:.1f} GB of data, once", flush=True)
    with ThreadPoolExecutor(usable_cores()) as threads:
        hashed = dict(zip(missing, threads.map(hash_of, (files[i] for i in missing)), strict=True))
    new = {
        name: {"at": state, "sha256": hashed[index]}
        for index, (name, state) in enumerate(stamps)
        if index in hashed and files[index].stat().st_size >= WORTH_KEEPING
    }
    if new:
        _keep(new)
    return [hashed.get(index) or kept[name]["sha256"] for index, (name, _) in enumerate(stamps)]


def hash_of(file: Path) -> str:
    """The hash of a file, in hexadecimal, of its content as it is now."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _stamp(file: Path) -> tuple[str, list[int]]:
    """Under what a file's hash is kept, and what must be as it was for the hash to hold."""
    status = file.stat()
    return str(file.resolve()), [status.st_size, status.st_mtime_ns]


def _kept_at() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "qamx" / "sha256.json"


def _read_kept() -> dict[str, dict]:
    try:
        kept = json.loads(_kept_at().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or one that is not ours: hash again
        return {}
    return kept if isinstance(kept, dict) else {}


def _keep(new: dict[str, dict]) -> None:
    path = _kept_at()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # a home that cannot be written costs time, nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(_read_kept() | new), encoding="utf-8")
        partial.replace(path)
