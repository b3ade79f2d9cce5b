"""Files: atomic writes, checksums, text, JSON lines, package versions, failed writes."""

import codecs
import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from qamx._utils.machine import usable_cores
from qamx.errors import UserError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` after the block, and is removed if the block fails.

    The content is on the disk before it takes the name: a kill or a power cut leaves the old file
    or the new one.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        fsync(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)  # a full disk needs the space


def atomic_write(path: Path, content: str | bytes) -> None:
    """Writes a file as a whole or not at all; text in UTF-8."""
    with atomic_path(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def fsync(path: Path) -> None:
    """Waits until the content of a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Makes a folder.

    **Raises:** `UserError` if it can't be made or written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: can't be made ({error.strerror})") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder}: can't be written into; name another place with --directory")


def describe_write_error(error: Exception, directory: Path) -> str:
    """The message for a failed write below `directory`, with the remedy for a full disk."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    # TensorStore says so in its message alone.
    full = full or any(n in str(error) for n in ("ENOSPC", "EDQUOT", "EFBIG", "No space left"))
    if not full:
        return f"{directory}: cannot be written to ({type(error).__name__}: {error})"
    usage = shutil.disk_usage(directory)
    return (
        f"{directory}: the disk is full ({usage.free / 2**20:,.0f} MiB of "
        f"{usage.total / 2**20:,.0f} MiB free, or a quota is reached); make room, for example with "
        "a lower checkpoint.keep or by removing other runs, and run the same command again"
    )


CACHED_FROM = 64 * 2**20
"""Bytes from which a checksum is cached; hashing less takes under half a second."""

ANNOUNCED_FROM = 4 * 2**30
"""Bytes to hash from which the wait is announced."""


def sha256(file: Path) -> str:
    """The SHA-256 of a file's present content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cached_sha256(files: Sequence[Path]) -> list[str]:
    """The SHA-256 of each file, in hexadecimal.

    Files are hashed in parallel (hashing releases Python's lock). Checksums of large files are
    cached in `$XDG_CACHE_HOME/qamx` by path, size and modification time.

    **Raises:** `OSError` if a file cannot be read.
    """
    cache = _read_cache()
    keys = [str(file.resolve()) for file in files]
    states = [[status.st_size, status.st_mtime_ns] for status in (file.stat() for file in files)]
    known = [cache.get(key, {}) for key in keys]
    missing = [index for index, entry in enumerate(known) if entry.get("at") != states[index]]
    size = sum(states[index][0] for index in missing)
    if size > ANNOUNCED_FROM:
        logging.getLogger("qamx").info(f"hashing {size / 1e9:.1f} GB of data, once")
    with ThreadPoolExecutor(usable_cores()) as threads:
        hashes = threads.map(sha256, [files[index] for index in missing])
        for index, digest in zip(missing, hashes, strict=True):
            known[index] = {"at": states[index], "sha256": digest}
    new = {keys[index]: known[index] for index in missing if states[index][0] >= CACHED_FROM}
    if new:
        with contextlib.suppress(OSError):  # a read-only home costs time, nothing else
            _cache_file().parent.mkdir(parents=True, exist_ok=True)
            atomic_write(_cache_file(), json.dumps(_read_cache() | new))
    return [entry["sha256"] for entry in known]


def cache_directory() -> Path:
    """The user's folder of what can be made again (`$XDG_CACHE_HOME/qamx`); it may be missing."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "qamx"


def _cache_file() -> Path:
    return cache_directory() / "sha256.json"


def _read_cache() -> dict[str, dict]:
    try:
        cache = json.loads(_cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # missing, or another program's: hash again
        return {}
    return cache if isinstance(cache, dict) else {}


class TextError(UserError):
    """A file that is no UTF-8 text; `reason` is the message without the file's name."""

    def __init__(self, path: Path, found: str):
        self.reason = f"not a UTF-8 text file: {found}; save it as UTF-8"
        super().__init__(f"{path}: {self.reason}")


def read_text(path: Path) -> str:
    r"""The text of a file in UTF-8, with lines that end in `\n`, however it was saved.

    A byte-order mark, which Windows editors put first, is left out.

    **Raises:** `TextError` for another encoding, or a file that is no text; `OSError` if it
    cannot be read.
    """
    raw = path.read_bytes()
    if raw.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # begins with UTF-16's mark
        raise TextError(path, "it is in UTF-32")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise TextError(path, "it is in UTF-16, as PowerShell's > writes it")
    if (place := raw.find(b"\0")) >= 0:
        raise TextError(path, f"a NUL byte in line {_line(raw, place)}")
    try:
        text = raw.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        found = f"byte 0x{raw[error.start]:02x} in line {_line(raw, error.start)}"
        raise TextError(path, found) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line(raw: bytes, place: int) -> int:
    return raw.count(b"\n", 0, place) + 1


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, which may be written to meanwhile; none without a file.

    **Raises:** `UserError` naming the first line that is not JSON.
    """
    if not path.exists():
        return []
    rows = []
    *lines, unterminated = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            text = line.decode(errors="replace").strip()
            raise UserError(
                f"{path}: line {number}: found {text!r}, not JSON ({error}); restore the file, or "
                "remove the line"
            ) from error
    with contextlib.suppress(ValueError):  # a row that is being written
        rows.append(json.loads(unterminated))
    return rows


def package_version(name: str) -> str | None:
    """The version of an installed package; `None` for a missing one and for a source tree."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None
