"""HDF5 files: robomimic's layout, a group for each demonstration, or D4RL's, one table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qamx.data.formats import table
from qamx.data.formats.episodes import Episode, Reading
from qamx.data.formats.source import (
    AbstractFilePart,
    EpisodicData,
    existing,
    library,
    reading_file,
    success_among,
)
from qamx.errors import UserError, suggestion

VALIDATION = "valid"
"""The filter key of what robomimic keeps apart from training."""


@dataclass(frozen=True)
class FlatFile(AbstractFilePart):
    """A file in D4RL's layout, or another of `qamx.data.formats.table`."""

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
                yield _demonstration(self.path, name, file["data"].get(name), self.success)


def hdf5_data(
    place: str, success: str | None, reading: Reading, filter_key: str | None
) -> EpisodicData:
    """The data of a file in either layout, which its groups tell apart.

    **Arguments:** `filter_key` selects the demonstrations that robomimic's `mask/NAME` lists; by
    default all but those of `mask/valid`, which are kept for validation.

    **Raises:** `UserError` if h5py or the file is missing, or it is of neither layout.
    """
    path = existing(Path(place))
    with _opened(path) as file, reading_file(str(path), "an HDF5 file"):
        if {"actions", "observations"} & {*file}:
            if filter_key is not None:
                raise UserError(
                    f'data.filter: found "{filter_key}", but {path} has no demonstrations to '
                    "choose from (it is one table); leave it out"
                )
            return EpisodicData([FlatFile(path, success)], reading)
        if not isinstance(file.get("data"), Mapping) or not len(file["data"]):
            raise UserError(
                f"{path}: neither robomimic's layout (a group data with demonstrations) nor D4RL's "
                f"(observations, actions, ...); the file has {', '.join(file) or 'nothing'}"
            )
        demonstrations = sorted(file["data"], key=_number)
        masks = _masks(path, file.get("mask", {}))
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
    for name in filter(None, (filter_key, VALIDATION)):
        _require_there(path, name, masks.get(name, set()), demonstrations)
    valid = masks.get(VALIDATION, set())
    wanted = masks[filter_key] if filter_key is not None else {*demonstrations} - valid
    chosen = tuple(name for name in demonstrations if name in wanted)
    if not chosen:
        found = "lists none" if filter_key is not None else "lists all, to be kept apart"
        raise UserError(
            f"{path}: mask/{filter_key or VALIDATION}: of the demonstrations it {found}, so that "
            "none is left to learn from; name another mask in data.filter, or correct this one"
        )
    return chosen, tuple(name for name in demonstrations if name in valid - {*chosen})


def _require_there(path: Path, mask: str, names: set[str], demonstrations: list[str]) -> None:
    missing = sorted(names - {*demonstrations}, key=_number)
    if missing:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise UserError(
            f'{path}: mask/{mask}: names "{missing[0]}"{more}, and there is no such group in data; '
            "take what is not there out of the mask, or copy the file anew"
        )


def _demonstration(path: Path, name: str, group: Any, success: str | None) -> Episode:
    where = f"{path}, {name}"
    entries = _datasets(group)
    _require_whole(where, name, group, entries)
    actions = entries["actions"][()]
    said = group.attrs.get("num_samples", len(actions))
    if np.any(np.asarray(said) != len(actions)):
        raise UserError(
            f"{where}: actions: {len(actions):,} rows, and its attribute num_samples says {said}; "
            f"the file was cut off or edited: copy or extract it anew, or {_left_out(name)}"
        )
    solved = success_among(where, entries, success) if len(actions) else None
    return Episode(
        group["obs"],  # read where a key of it is chosen
        actions,
        rewards=entries["rewards"][()] if "rewards" in entries else None,
        terminations=entries["dones"][()] if "dones" in entries else None,
        success=None if solved is None else solved[()],
        next_observations=group.get("next_obs"),
        name=name,
    )


def _require_whole(where: str, name: str, group: Any, entries: Mapping[str, Any]) -> None:
    """A demonstration has observations and actions.

    **Raises:** `UserError` that says what it lacks, and how to leave it out.
    """
    if not isinstance(group, Mapping):
        found = "a link to nothing" if group is None else "an array"
        raise UserError(f"{where}: found {found}, and no group; {_left_out(name)}")
    if not len(group):
        raise UserError(f"{where}: the demonstration is empty; {_left_out(name)}")
    there = ", ".join(group)
    if "obs" not in group:
        raise UserError(
            f"{where}: obs: missing; there are {there}. Extract observations with robomimic's "
            f"dataset_states_to_obs.py, or {_left_out(name)}"
        )
    if "actions" not in entries or not entries["actions"].shape:
        raise UserError(
            f"{where}: actions: missing, as an array with one row a step; there are {there}. Add "
            f"it, or {_left_out(name)}"
        )


def _left_out(name: str) -> str:
    return (
        f"leave it out: delete the group data/{name}, or list the others in mask/NAME and write "
        'data.filter = "NAME"'
    )


def _opened(path: Path) -> Any:
    h5py = library("h5py", "hdf5")
    with reading_file(str(path), "an HDF5 file"):
        return h5py.File(path, "r")


def _datasets(group: Any, above: tuple[Any, ...] = ()) -> dict[str, Any]:
    """The data sets inside a group by their paths, through links too, not yet read."""
    found: dict[str, Any] = {}
    for name in group if isinstance(group, Mapping) else ():
        item = group.get(name)
        if getattr(item, "shape", None) is not None:
            found[name] = item
        elif item is not None and item not in (*above, group):
            inner = _datasets(item, (*above, group))
            found |= {f"{name}/{path}": leaf for path, leaf in inner.items()}
    return found


def _number(name: str) -> tuple[int, str]:
    """Sorts demo_10 behind demo_9."""
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdecimal() else -1, name)


def _masks(path: Path, group: Any) -> dict[str, set[str]]:
    """The names of the demonstrations that each filter key lists."""
    if not isinstance(group, Mapping):
        raise UserError(
            f"{path}: mask: found an array, and no group; make it a group with an array of the "
            "names of demonstrations for each filter key, or delete it"
        )
    return {name: _masked(mask) for name, mask in _datasets(group).items()}


def _masked(mask: Any) -> set[str]:
    names = np.ravel(mask[()])
    return {name.decode() if isinstance(name, bytes) else str(name) for name in names}
