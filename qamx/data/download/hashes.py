"""The record of what was downloaded: `hashes.json` beside the data sets.

OGBench publishes no hashes. Those of the first download are kept, and files compared with them
ever after.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

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

    def __str__(self) -> str:
        return f"{self.size:,} bytes, SHA-256 {self.sha256}"


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


def check_size(directory: Path, file: str) -> None:
    """A file that was downloaded is as long as it was then, if it was.

    This costs nothing, so that it can be asked before every use; `qamx data download` compares
    the hashes.

    **Raises:** `UserError`.
    """
    record = read_records(directory).get(file)
    size = (directory / file).stat().st_size
    if record is not None and size != record.size:
        raise UserError(
            f"{directory / file}: {size:,} bytes, and {record.size:,} when it was downloaded; "
            f"fetch it again (qamx data download NAME --again), or remove its entry from "
            f"{directory / FILE_NAME} if the change is yours"
        )
