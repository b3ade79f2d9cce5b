"""NumPy archives of one's own: a file, or a folder of files as shards."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qamx.data.formats.episodes import Episode, Reading
from qamx.data.formats.source import AbstractFilePart, EpisodicData, existing, reading_file
from qamx.data.formats.table import episodes
from qamx.data.source import require_equal_lengths
from qamx.data.validation import Header, read_headers
from qamx.errors import UserError

VALIDATION = "-val"
"""What is added to a file's name for the data that is kept apart from training."""


@dataclass(frozen=True)
class Archive(AbstractFilePart):
    """An npz file in one of the layouts of `qamx.data.formats.table`."""

    def episodes(self) -> Iterator[Episode]:
        read_headers(self.path)  # refuses pickled objects, by name
        with np.load(self.path, allow_pickle=False) as arrays:
            yield from episodes(self.name, arrays, self.success)

    def length(self, reading: Reading) -> int:
        """How many transitions the file holds, without its observations and actions being read."""
        with reading_file(self.name, "an npz file"):
            headers = read_headers(self.path)
            with np.load(self.path, allow_pickle=False) as arrays:
                outline = _Outline(arrays, headers)
                return len(
                    reading.transitions(self.name, episodes(self.name, outline, self.success))
                )


class _Outline(Mapping[str, np.ndarray]):
    """The arrays of a file, those with more than one number a row in outline only."""

    def __init__(self, arrays: Any, headers: Mapping[str, Header]):
        self._arrays, self._headers = arrays, headers

    def __getitem__(self, name: str) -> np.ndarray:
        header = self._headers[name]
        if len(header.shape) < 2:
            return self._arrays[name]
        return np.broadcast_to(np.zeros((), header.dtype), (header.shape[0], 1))

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


def npz_data(
    place: str, success: str | None, reading: Reading, updates_per_shard: int | None
) -> EpisodicData:
    """The data of a file, or of a folder whose files are shards in the order of their names.

    A file `NAME-val.npz` beside `NAME.npz` is kept for validation.

    **Raises:** `UserError` if there is no such file, shards differ in length, or
    `updates_per_shard` does not fit their number.
    """
    path = existing(Path(place))
    files = _shards(path) if path.is_dir() else [path]
    if len(files) > 1 and updates_per_shard is None:
        raise UserError(
            f"data.updates_per_shard: missing, and {path} holds {len(files)} files; write after "
            "how many updates the next takes the place of the one before, e.g. 1000"
        )
    if len(files) == 1 and updates_per_shard is not None:
        raise UserError(
            f"data.updates_per_shard: found {updates_per_shard}, but {path} is one file; leave it "
            "out, or name a folder of files"
        )
    parts = [Archive(file, success) for file in files]
    if len(parts) > 1:
        require_equal_lengths([p.name for p in parts], [p.length(reading) for p in parts])
    apart = files[0].with_name(f"{files[0].stem}{VALIDATION}.npz")
    validation = Archive(existing(apart), success) if os.path.lexists(apart) else None
    return EpisodicData(parts, reading, updates_per_shard, validation)


def _shards(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.glob("*.npz") if not p.stem.endswith(VALIDATION))
    if not files:
        raise UserError(f"data.source: {folder} holds no npz file; name a folder that does")
    return [existing(file) for file in files]
