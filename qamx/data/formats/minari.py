"""Minari's data sets, by name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qamx.data.formats.episodes import Episode, Reading
from qamx.data.formats.source import EpisodicData, files_below, library, reading_file, success_among
from qamx.envs.spaces import named_leaves
from qamx.errors import UserError, suggestion


@dataclass(frozen=True)
class MinariDataset:
    """A data set that lies where Minari keeps them.

    **Arguments:** `id` is Minari's name, `data` the data set that its library has opened,
    `success` is the value of `data.success`, the name of an entry of `infos`.
    """

    id: str
    data: Any
    success: str | None

    @property
    def name(self) -> str:
        return f"minari:{self.id}"

    @property
    def files(self) -> tuple[Path, ...]:
        folder = Path(self.data.storage.data_path)
        return tuple(files_below(folder))

    def episodes(self) -> Iterator[Episode]:
        stored = self.data.iterate_episodes()
        for number in self.data.episode_indices:
            where = f"{self.name}, episode {number}"
            try:
                with reading_file(where, "an episode"):
                    episode = next(stored)
            except AssertionError as error:  # the library's, of how the file is laid out
                raise UserError(f"{where}: not an episode; make the data set again") from error
            yield self._episode(where, episode)

    def _episode(self, where: str, episode: Any) -> Episode:
        steps = len(episode.rewards)
        infos = _entries(episode.infos)
        solved = success_among(f"{where}: infos", infos, self.success) if steps else None
        return Episode(
            episode.observations,
            np.asarray(episode.actions),
            rewards=episode.rewards,
            terminations=episode.terminations,
            # Infos may begin with that of the reset.
            success=None if solved is None else np.asarray(solved)[-steps:],
            name=f"episode {episode.id}",
        )


def minari_data(name: str, success: str | None, reading: Reading) -> EpisodicData:
    """A data set among those in `$MINARI_DATASETS_PATH`, by default `~/.minari/datasets`.

    **Raises:** `UserError` if Minari or the data set is missing, or has no vectors of actions.
    """
    minari = library("minari", "minari")
    where = f"minari:{name}"
    try:
        with reading_file(where, "a Minari data set"):
            _require_local(minari, name)
            data = minari.load_dataset(name)
    except ImportError as error:  # of what reads the data set's storage
        raise UserError(f"{where}: {error}") from error
    if not isinstance(data.action_space, library("gymnasium", "minari").spaces.Box):
        raise UserError(
            f"{where}: actions are in {data.action_space}; name a data set whose actions are "
            "vectors of continuous numbers (a Box)"
        )
    return EpisodicData([MinariDataset(name, data, success)], reading)


def _require_local(minari: Any, name: str) -> None:
    local = minari.list_local_datasets()
    if name not in local:
        near = f" ({suggestion(name, local)})" if local else ""
        raise UserError(
            f'data.source: found "minari:{name}", which is not on this machine{near}; '
            f"minari download {name}, or set MINARI_DATASETS_PATH to the folder that has it"
        )


def _entries(infos: Any) -> dict[str, Any]:
    return named_leaves(infos) if isinstance(infos, Mapping) else {}
