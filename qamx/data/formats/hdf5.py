"""HDF5 files: robomimic's layout, a group for each demonstration, or D4RL's, one table."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qamx.data.formats.episodes import EpisodeReader, StoredEpisode
from qamx.data.formats.source import EpisodeShard, EpisodicData, existing, library, select_success
from qamx.data.formats.table import read_episodes
from qamx.data.validation import reading_file
from qamx.errors import UserError, suggestion

VALIDATION = "valid"
"""robomimic's filter key of the demonstrations kept for validation."""


def _read_table(path: Path, success: str | None) -> Iterator[StoredEpisode]:
    with _open(path) as file:
        yield from read_episodes(str(path), _datasets(file), success)


def _read_demonstrations(
    path: Path, names: Sequence[str], success: str | None
) -> Iterator[StoredEpisode]:
    with _open(path) as file:
        for name in names:
            where, group = f"{path}, {name}", file["data"].get(name)
            entries = _datasets(group)
            if problem := _find_problem(group, entries):
                raise UserError(
                    f"{where}: {problem}leave it out: delete the group data/{name}, or list the "
                    'others in mask/NAME and write data.filter = "NAME"'
                )
            actions = entries["actions"][()]
            solved = select_success(where, entries, success) if len(actions) else None
            yield StoredEpisode(
                group["obs"],  # an entry is read when its key is chosen
                actions,
                rewards=entries["rewards"][()] if "rewards" in entries else None,
                terminations=entries["dones"][()] if "dones" in entries else None,
                success=None if solved is None else solved[()],
                next_observations=group.get("next_obs"),
                name=name,
            )


def _find_problem(group: Any, entries: Mapping[str, Any]) -> str | None:
    """The reason why a demonstration cannot be read: no observations, or actions cut off."""
    if not isinstance(group, Mapping):
        return f"found {'a link to nothing' if group is None else 'an array'}, and no group; "
    if not len(group):
        return "the demonstration is empty; "
    if "obs" not in group:
        return (
            f"obs: missing; there are {', '.join(group)}. Extract observations with robomimic's "
            "dataset_states_to_obs.py, or "
        )
    if "actions" not in entries or not entries["actions"].shape:
        return (
            "actions: missing, as an array with one row a step; there are "
            f"{', '.join(group)}. Add it, or "
        )
    steps = len(entries["actions"])
    stated = getattr(group, "attrs", {}).get("num_samples", steps)
    if np.any(np.asarray(stated) != steps):
        return (
            f"actions: {steps:,} rows, and its attribute num_samples says {stated}; the file was "
            "cut off or edited: copy or extract it again, or "
        )
    return None


def hdf5_data(
    name: str, success: str | None, reader: EpisodeReader, filter_key: str | None
) -> EpisodicData:
    """The data of a file in either layout.

    **Arguments:** `filter_key` selects the demonstrations that robomimic's `mask/NAME` lists; by
    default all but those of `mask/valid`, which are kept for validation.

    **Raises:** `UserError` if h5py or the file is missing, or it is of neither layout.
    """
    path = existing(Path(name))
    with _open(path) as file, reading_file(str(path), "an HDF5 file"):
        if {"actions", "observations"} & {*file}:
            if filter_key is not None:
                raise UserError(
                    f'data.filter: found "{filter_key}", but {path} has no demonstrations to '
                    "choose from (it is one table); leave it out"
                )
            return EpisodicData([EpisodeShard.of_file(path, _read_table, success)], reader)
        if not isinstance(file.get("data"), Mapping) or not len(file["data"]):
            raise UserError(
                f"{path}: neither robomimic's layout (a group data with demonstrations) nor D4RL's "
                f"(observations, actions, ...); the file has {', '.join(file) or 'nothing'}"
            )
        demonstrations = sorted(file["data"], key=_number)
        masks = _masks(path, file.get("mask", {}))
    chosen, apart = _split(path, demonstrations, masks, filter_key)
    training, validation = (
        EpisodeShard.of_file(path, _read_demonstrations, names, success)
        for names in (chosen, apart)
    )
    return EpisodicData([training], reader, validation=validation if apart else None)


def _split(
    path: Path, demonstrations: list[str], masks: dict[str, set[str]], filter_key: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The demonstrations for training, and those for validation."""
    if filter_key is not None and filter_key not in masks:
        raise UserError(
            f'data.filter: found "{filter_key}", which {path} does not have under mask; '
            + (suggestion(filter_key, masks) if masks else "it has no filter keys: leave it out")
        )
    for name in filter(None, (filter_key, VALIDATION)):
        missing = sorted(masks.get(name, set()) - {*demonstrations}, key=_number)
        if missing:
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise UserError(
                f'{path}: mask/{name}: names "{missing[0]}"{more}, and there is no such group in '
                "data; take the missing names out of the mask, or copy the file again"
            )
    valid = masks.get(VALIDATION, set())
    selected = masks[filter_key] if filter_key is not None else {*demonstrations} - valid
    chosen = tuple(name for name in demonstrations if name in selected)
    if not chosen:
        found = "lists none" if filter_key is not None else "lists all, to be kept apart"
        raise UserError(
            f"{path}: mask/{filter_key or VALIDATION}: of the demonstrations it {found}, so that "
            "none is left to learn from; name another mask in data.filter, or correct this one"
        )
    return chosen, tuple(name for name in demonstrations if name in valid - selected)


def _open(path: Path) -> Any:
    h5py = library("h5py", "hdf5")
    with reading_file(str(path), "an HDF5 file"):
        return h5py.File(path, "r")


def _datasets(group: Any, parents: tuple[Any, ...] = ()) -> dict[str, Any]:
    """The data sets inside a group by their paths, through links too, not yet read."""
    datasets: dict[str, Any] = {}
    for name in group if isinstance(group, Mapping) else ():
        item = group.get(name)
        if getattr(item, "shape", None) is not None:
            datasets[name] = item
        elif item is not None and item not in (*parents, group):
            inner = _datasets(item, (*parents, group))
            datasets |= {f"{name}/{path}": leaf for path, leaf in inner.items()}
    return datasets


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
    masks = {key: np.ravel(mask[()]) for key, mask in _datasets(group).items()}
    return {
        key: {name.decode() if isinstance(name, bytes) else str(name) for name in names}
        for key, names in masks.items()
    }
