"""The record of what was downloaded: `hashes.json` beside the data sets.

OGBench publishes no hashes. Those of the first download are kept, and files compared with them
ever after.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from qamx._utils.files import sha256_of
from qamx.errors import UserError

FILE_NAME = "hashes.json"


@dataclass(frozen=True)
class Record:
    """A file as it was when it was first seen, and where it came from."""

    sha256: str
    size: int
    source: str

    @classmethod
    def of(cls, path: Path, source: str) -> "Record":
        """The record of a file as it is now."""
        import pooch

        return cls(pooch.file_hash(str(path)), path.stat().st_size, source)

    def same_as(self, other: "Record") -> bool:
        """Whether both are of the same content."""
        return (self.sha256, self.size) == (other.sha256, other.size)

    def __str__(self) -> str:
        return f"{self.size:,} bytes, SHA-256 {self.sha256}"


PUBLISHED = {
    "cube-double-play-v0.npz": Record(
        "a73d1a33d029cedb8bc170ef94791ec585fa2d9450096f4f2a02b8cfbcf608c9",
        297_435_656,
        "OGBench's server",
    )
}
"""What is known of OGBench's files without having fetched them."""


def read_records(directory: Path) -> dict[str, Record]:
    """The records of a data directory, by path below it; none where nothing was downloaded.

    **Raises:** `UserError` if the file is damaged.
    """
    path = directory / FILE_NAME
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {file: Record(**entry) for file, entry in entries.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not a record of hashes ({error}); remove it: the next qamx data download "
            "records the files that are there anew"
        ) from error


def keep_record(directory: Path, lock: Path, file: str, record: Record) -> None:
    """Adds a record, or replaces the file's; other threads and processes may do so meanwhile."""
    import filelock

    path = directory / FILE_NAME
    with filelock.FileLock(lock):
        records = read_records(directory) | {file: record}
        content = {name: asdict(one) for name, one in sorted(records.items())}
        partial = path.with_name(f".{FILE_NAME}.{os.getpid()}")
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)


def check_recorded(directory: Path, files: Sequence[str]) -> None:
    """Files that were downloaded are what they were then; others pass.

    A large file is read once, and again when its size or date changes (`qamx._utils.files`);
    `qamx data download` reads every byte.

    **Raises:** `UserError` with both hashes.
    """
    records = read_records(directory)
    known = [file for file in files if file in records]
    hashes = sha256_of([directory / file for file in known])
    for file, sha256 in zip(known, hashes, strict=True):
        found = Record(sha256, (directory / file).stat().st_size, "")
        if not found.same_as(records[file]):
            raise UserError(
                f"{changed(directory / file, records[file], found)}\n"
                f"{what_now(directory, 'qamx data download NAME --again')}"
            )


def changed(path: Path, then: Record, now: Record) -> str:
    """That a file is not what it was."""
    return f"{path}: changed\n  then: {then}\n  now:  {now}"


def what_now(directory: Path, again: str) -> str:
    """What to do about files that changed."""
    return (
        f"fetch the set anew with {again}, or remove its entries from {directory / FILE_NAME} if "
        "the change is yours"
    )
