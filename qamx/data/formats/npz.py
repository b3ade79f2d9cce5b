"""NumPy archives: a file, or a folder of files as shards."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qamx.data.formats.episodes import EpisodeReader, StoredEpisode
from qamx.data.formats.source import EpisodeShard, EpisodicData, existing
from qamx.data.formats.table import read_episodes
from qamx.data.validation import read_headers, reading_file, require_equal_lengths
from qamx.errors import UserError

VALIDATION = "-val"
"""Suffix of a file's name for its validation data."""


def _read(path: Path, success: str | None) -> Iterator[StoredEpisode]:
    read_headers(path)  # refuses pickled objects, by name
    with np.load(path, allow_pickle=False) as arrays:
        yield from read_episodes(str(path), arrays, success)


def _length(path: Path, success: str | None, reader: EpisodeReader) -> int:
    """The number of transitions, found without reading observations and actions."""
    with reading_file(str(path), "an npz file"), np.load(path, allow_pickle=False) as arrays:
        columns = {
            name: arrays[name]
            if len(header.shape) < 2
            else np.broadcast_to(np.zeros((), header.dtype), (header.shape[0], 1))
            for name, header in read_headers(path).items()
        }
        return len(reader.transitions(str(path), read_episodes(str(path), columns, success)))


def npz_data(
    name: str, success: str | None, reader: EpisodeReader, updates_per_shard: int | None
) -> EpisodicData:
    """The data of a file, or of a folder whose files are shards in the order of their names.

    A file `NAME-val.npz` in the same folder as `NAME.npz` is kept for validation.

    **Raises:** `UserError` if there is no such file, shards differ in length, or
    `updates_per_shard` does not fit their number.
    """
    path = existing(Path(name))
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.glob("*.npz") if not p.stem.endswith(VALIDATION))
        if not files:
            raise UserError(f"data.source: {path} holds no npz file; name a folder that does")
        files = [existing(file) for file in files]
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
    if len(files) > 1:
        lengths = (_length(file, success, reader) for file in files)
        require_equal_lengths(map(str, files), lengths)
    shards = [EpisodeShard.of_file(file, _read, success) for file in files]
    apart, validation = files[0].with_name(f"{files[0].stem}{VALIDATION}.npz"), None
    if os.path.lexists(apart):
        validation = EpisodeShard.of_file(existing(apart), _read, success)
    return EpisodicData(shards, reader, updates_per_shard, validation)
