"""The online part of the replay on disk, as append-only files."""

from pathlib import Path
from typing import TypeAlias

import numpy as np

from qamx._utils.files import atomic_path, fsync, sha256
from qamx.data.transitions import Transitions
from qamx.training.checkpoint import DamagedCheckpoint, verify_file

Record: TypeAlias = tuple[str, int, str]
"""Name, size in bytes and SHA-256 of one file."""


class OnlineRows:
    """A folder of files named by their rows; a save writes the new rows alone.

    A checkpoint holds the records of the files that it needs.
    """

    def __init__(self, directory: Path):
        self._directory = directory

    def save(self, first: int, rows: Transitions) -> list[Record]:
        """Writes the rows from `first` on, atomically; returns the file's record, if any."""
        if len(rows) == 0:
            return []
        self._directory.mkdir(exist_ok=True)
        name = f"{first:09d}-{first + len(rows):09d}.npz"
        path = self._directory / name
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, **vars(rows))
        fsync(self._directory)
        return [(name, path.stat().st_size, sha256(path))]

    def verify(self, records: list[Record]) -> None:
        """Checks files against their records.

        **Raises:** `DamagedCheckpoint` if one is missing or has another content.
        """
        for name, size, digest in records:
            verify_file(self._directory / name, size, digest)

    def load(self, records: list[Record], count: int) -> Transitions | None:
        """The rows in the recorded files, `count` of them.

        **Raises:** `DamagedCheckpoint` if they do not follow each other up to `count`.
        """
        parts, reached = [], 0
        for name, _, _ in records:
            with np.load(self._directory / name, allow_pickle=False) as file:
                parts.append({key: file[key] for key in file.files})
            if int(name.split("-")[0]) != reached:
                raise DamagedCheckpoint(
                    f"{self._directory / name}: row {reached:,} should come first"
                )
            reached += len(parts[-1]["rewards"])
        if reached != count:
            raise DamagedCheckpoint(f"{self._directory}: {reached:,} rows, {count:,} were saved")
        if not parts:
            return None
        joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        return Transitions(**joined)

    def keep_only(self, records: list[Record]) -> None:
        """Removes other files: their rows were played after the checkpoint, and are repeated."""
        names = {name for name, _, _ in records}
        for path in self._directory.glob("*"):
            if path.name not in names:
                path.unlink()
