"""HDF5 files: robomimic's layout, a group for each demonstration, or D4RL's, one table."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qamx.data.episodes import Episode, Reading
from qamx.data.formats import table
from qamx.data.formats.access import existing, library, reading_file, success_among
from qamx.data.formats.source import AbstractFilePart, EpisodicData
from qamx.errors import UserError, suggestion

VALIDATION = "valid"
"""The filter key of what robomimic keeps apart from training."""


@dataclass(frozen=True)
class FlatFile(AbstractFilePart):
    """A file in D4RL's layout, or another of `qamx.data.formats.layouts`."""

    def episodes(self) -> Iterator[Episode]:
        with _opened(self.path) as file:
            yield from table.episodes(self.name, _datasets(file), self.success)


@dataclass(frozen=True)
class Demonstrations(AbstractFilePart):
    """Some demonstrations of a file in robomimic's layout, in the order of their numbers.

    **Arguments:** `names` are those of their groups.
    """

    names: tuple[str, ...]

    def episodes(self) -> Iterator[Episode]:
        with _opened(self.path) as file:
            for name in self.names:
                yield _demonstration(f"{self.path}, {name}", file["data"][name], self.success)


def hdf5_data(
    place: str, success: str | None, reading: Reading, filter_key: str | None
) -> EpisodicData:
    """The data of a file in either layout, which its groups tell apart.

    **Arguments:** `filter_key` selects the demonstrations that robomimic's `mask/NAME` lists; by
    default all but those of `mask/valid`, which are kept for validation.

    **Raises:** `UserError` if h5py or the file is missing, or it is of neither layout.
    """
    path = existing(Path(place))
    with _opened(path) as file:
        if {"actions", "observations"} & {*file}:
            if filter_key is not None:
                raise UserError(
                    f'data.filter: found "{filter_key}", but {path} has no demonstrations to '
                    "choose from (it is one table); leave it out"
                )
            return EpisodicData([FlatFile(path, success)], reading)
        if "data" not in file or not len(file["data"]):
            raise UserError(
                f"{path}: neither robomimic's layout (a group data with demonstrations) nor D4RL's "
                f"(observations, actions, ...); the file has {', '.join(file) or 'nothing'}"
            )
        demonstrations = sorted(file["data"], key=_number)
        masks = {name: _masked(file["mask"][name]) for name in file.get("mask", ())}
    chosen, apart = _split(path, demonstrations, masks, filter_key)
    validation = Demonstrations(path, success, apart) if apart else None
    return EpisodicData([Demonstrations(path, success, chosen)], reading, validation=validation)


def _split(
    path: Path, demonstrations: list[str], masks: dict[str, set[str]], filter_key: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The demonstrations to learn from, and those kept apart."""
    if filter_key is not None and filter_key not in masks:
        raise UserError(
            f'data.filter: found "{filter_key}", which {path} does not have under mask; '
            + (suggestion(filter_key, masks) if masks else "it has no filter keys: leave it out")
        )
    valid = masks.get(VALIDATION, set())
    wanted = masks[filter_key] if filter_key is not None else {*demonstrations} - valid
    chosen = tuple(name for name in demonstrations if name in wanted)
    return chosen, tuple(name for name in demonstrations if name in valid - {*chosen})


def _demonstration(where: str, group: Any, success: str | None) -> Episode:
    for name in ("obs", "actions"):
        if name not in group:
            raise UserError(
                f"{where}: {name}: missing; there are {', '.join(group)}. Extract observations "
                "with robomimic's dataset_states_to_obs.py"
            )
    solved = success_among(where, _datasets(group), success)
    return Episode(
        group["obs"],  # read where a key of it is chosen
        group["actions"][:],
        rewards=group["rewards"][:] if "rewards" in group else None,
        terminations=group["dones"][:] if "dones" in group else None,
        success=None if solved is None else solved[:],
        next_observations=group.get("next_obs"),
    )


def _opened(path: Path) -> Any:
    h5py = library("h5py", "hdf5")
    with reading_file(str(path), "an HDF5 file"):
        return h5py.File(path, "r")


def _datasets(group: Any) -> dict[str, Any]:
    """The data sets inside a group by their paths, not yet read."""
    found: dict[str, Any] = {}
    group.visititems(
        lambda name, item: found.update({name: item}) if hasattr(item, "dtype") else None
    )
    return found


def _number(name: str) -> tuple[int, str]:
    """Sorts demo_10 behind demo_9."""
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else -1, name)


def _masked(mask: Any) -> set[str]:
    return {name.decode() if isinstance(name, bytes) else str(name) for name in np.asarray(mask)}
