"""Files: reading text, checksums, and the messages of failed writes."""

import codecs
import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qamx._utils.machine import usable_cores
from qamx.errors import UserError

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


def explain(error: Exception, directory: Path) -> str:
    """What went wrong with a write below `directory`, and what to do."""
    if not is_full(error):
        return f"{directory}: cannot be written to ({type(error).__name__}: {error})"
    usage = shutil.disk_usage(directory)
    return (
        f"{directory}: the disk is full ({usage.free / 2**20:,.0f} MiB of "
        f"{usage.total / 2**20:,.0f} MiB free, or a quota is reached); make room, for example with "
        "a lower checkpoint.keep or by removing other runs, and run the same command again"
    )


def is_full(error: Exception) -> bool:
    """Whether an error says that no room is left; TensorStore says it in its message alone."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    said = str(error)
    return any(name in said for name in ("ENOSPC", "EDQUOT", "EFBIG", "No space left"))
