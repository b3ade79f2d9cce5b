"""NumPy archives: a file, or a folder of files as shards."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qamx.data.formats.episodes import EpisodeReader, StoredEpisode
from qamx.data.formats.source import AbstractFileShard, EpisodicData, existing, reading_file
from qamx.data.formats.table import read_episodes
from qamx.data.validation import NpyHeader, read_headers, require_equal_lengths
from qamx.errors import UserError

VALIDATION = "-val"
"""Suffix of a file's name for its validation data."""


@dataclass(frozen=True)
class NpzFile(AbstractFileShard):
    """An npz file in one of the layouts of `qamx.data.formats.table`."""

    def episodes(self) -> Iterator[StoredEpisode]:
        read_headers(self.path)  # refuses pickled objects, by name
        with np.load(self.path, allow_pickle=False) as arrays:
            yield from read_episodes(self.name, arrays, self.success)

    def length(self, reader: EpisodeReader) -> int:
        """The number of transitions, found without reading observations and actions."""
        with (
            reading_file(self.name, "an npz file"),
            np.load(self.path, allow_pickle=False) as arrays,
        ):
            lazy = LazyArrays(arrays, read_headers(self.path))
            episodes = read_episodes(self.name, lazy, self.success)
            return len(reader.transitions(self.name, episodes))


class LazyArrays(Mapping[str, np.ndarray]):
    """The arrays of a file; those with several numbers a row are zeros of the right length."""

    def __init__(self, arrays: Any, headers: Mapping[str, NpyHeader]):
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
    name: str, success: str | None, reader: EpisodeReader, updates_per_shard: int | None
) -> EpisodicData:
    """The data of a file, or of a folder whose files are shards in the order of their names.

    A file `NAME-val.npz` in the same folder as `NAME.npz` is kept for validation.

    **Raises:** `UserError` if there is no such file, shards differ in length, or
    `updates_per_shard` does not fit their number.
    """
    path = existing(Path(name))
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
    shards = [NpzFile(file, success) for file in files]
    if len(shards) > 1:
        require_equal_lengths([s.name for s in shards], [s.length(reader) for s in shards])
    apart = files[0].with_name(f"{files[0].stem}{VALIDATION}.npz")
    validation = NpzFile(existing(apart), success) if os.path.lexists(apart) else None
    return EpisodicData(shards, reader, updates_per_shard, validation)


def _shards(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.glob("*.npz") if not p.stem.endswith(VALIDATION))
    if not files:
        raise UserError(f"data.source: {folder} holds no npz file; name a folder that does")
    return [existing(file) for file in files]
