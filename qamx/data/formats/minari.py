"""Minari's data sets, by name."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qamx.data.formats.episodes import EpisodeReader, StoredEpisode
from qamx.data.formats.source import (
    EpisodeShard,
    EpisodicData,
    files_below,
    library,
    select_success,
)
from qamx.data.validation import reading_file
from qamx.envs.spaces import named_leaves
from qamx.errors import UserError, suggestion


def _read(where: str, data: Any, success: str | None) -> Iterator[StoredEpisode]:
    stored = data.iterate_episodes()
    for number in data.episode_indices:
        name = f"{where}, episode {number}"
        try:
            with reading_file(name, "an episode"):
                episode = next(stored)
        except AssertionError as error:  # Minari's, about the file's layout
            raise UserError(f"{name}: not an episode; make the data set again") from error
        steps = len(episode.rewards)
        infos = named_leaves(episode.infos) if isinstance(episode.infos, Mapping) else {}
        solved = select_success(f"{name}: infos", infos, success) if steps else None
        yield StoredEpisode(
            episode.observations,
            np.asarray(episode.actions),
            rewards=episode.rewards,
            terminations=episode.terminations,
            # Infos may begin with that of the reset.
            success=None if solved is None else np.asarray(solved)[-steps:],
            name=f"episode {episode.id}",
        )


def minari_data(name: str, success: str | None, reader: EpisodeReader) -> EpisodicData:
    """A data set in `$MINARI_DATASETS_PATH`, by default `~/.minari/datasets`.

    **Raises:** `UserError` if Minari or the data set is missing, or its actions are no vectors.
    """
    minari = library("minari", "minari")
    where = f"minari:{name}"
    try:
        with reading_file(where, "a Minari data set"):
            local = minari.list_local_datasets()
            if name not in local:
                near = f" ({suggestion(name, local)})" if local else ""
                raise UserError(
                    f'data.source: found "{where}", which is not on this machine{near}; minari '
                    f"download {name}, or set MINARI_DATASETS_PATH to the folder that has it"
                )
            data = minari.load_dataset(name)
    except ImportError as error:  # of a library that reads the data set's storage
        raise UserError(f"{where}: {error}") from error
    if not isinstance(data.action_space, library("gymnasium", "minari").spaces.Box):
        raise UserError(
            f"{where}: actions are in {data.action_space}; name a data set whose actions are "
            "vectors of continuous numbers (a Box)"
        )
    files = tuple(files_below(Path(data.storage.data_path)))
    read = functools.partial(_read, where, data, success)
    return EpisodicData([EpisodeShard(where, files, read)], reader)
