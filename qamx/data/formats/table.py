"""Flat tables of steps and their division into episodes; NumPy archives, a file or a folder of
files as shards."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Num

from qamx.data import validation
from qamx.data.formats.episodes import EpisodeReader, StoredEpisode
from qamx.data.formats.source import EpisodeShard, EpisodicData, existing, select_success
from qamx.data.validation import read_headers, reading_file, require_equal_lengths
from qamx.envs.spaces import named_leaves
from qamx.errors import UserError

VALIDATION = "-val"
"""Suffix of an archive's name for its validation data."""

MARKS = ("terminals", "timeouts", "terminations", "truncations")
PAIRS = (("terminals", "timeouts"), ("terminations", "truncations"))
"""Names in D4RL's and in Gymnasium's layout: ended by the task, ended by time."""

Arrays: TypeAlias = Mapping[str, Any]
"""Arrays by name, read when they are looked up; `observations/position` is an entry of a
dictionary observation."""


EpisodeEnds: TypeAlias = tuple[Bool[np.ndarray, " rows"], Bool[np.ndarray, " rows"] | None]
"""The rows at which episodes end, and those at which they terminate, if that is known."""


def _find_ends(where: str, arrays: Arrays, marks: list[str]) -> EpisodeEnds:
    """The ends of a table's episodes, by the marks that it has.

    **Raises:** `UserError` if none are marked, or they may be read in two ways.
    """
    if marks == ["terminals"]:
        return _ogbench_ends(where, arrays)
    names = next((pair for pair in PAIRS if marks == [*pair]), None)
    if names is None or "masks" in arrays:
        raise UserError(f"{where}: {_ambiguity(marks, 'masks' in arrays)}")
    terminations, timeouts = (_marks(where, arrays, name) > 0 for name in names)
    rows = len(terminations)
    validation.require_rows(f"{where}: {names[1]}", timeouts, (rows,), f"{names[0]} have {rows:,}")
    ends = terminations | timeouts
    if not ends.any():
        raise UserError(
            f"{where}: {names[0]} and {names[1]}: no row of {rows:,} ends an episode, so that "
            f"action chunks would reach from one into the next; write 1 in {names[1]} on the last "
            "row of each"
        )
    return ends, terminations


def _ogbench_ends(where: str, arrays: Arrays) -> EpisodeEnds:
    if "rewards" in arrays and "masks" not in arrays:
        raise UserError(
            f"{where}: terminals: it is not clear whether they mark the last row of each episode "
            "(OGBench's layout) or where the task ended (D4RL's); add masks, 0 where the task is "
            "solved and else 1, in the first case, and timeouts, 1 where an episode was cut, in "
            "the second"
        )
    terminals = _marks(where, arrays, "terminals")
    validation.refuse(where, validation.find_bad_ends("terminals", terminals))
    return terminals > 0, _marks(where, arrays, "masks") == 0 if "masks" in arrays else None


def _marks(where: str, arrays: Arrays, name: str) -> Num[np.ndarray, " rows"]:
    column = validation.require_column(f"{where}: {name}", np.atleast_1d(arrays[name]))
    validation.require_flags(f"{where}: {name}", column)
    return column


def _ambiguity(marks: list[str], masks: bool) -> str:
    """The reason why marks, perhaps with masks, do not say where episodes end."""
    if not marks:
        return (
            "no array marks the ends of episodes; add terminations, 1 where the task ended, and "
            "truncations, 1 where an episode was cut, or OGBench's terminals, 1 on each last row"
        )
    for names in PAIRS:
        if len(marks) == 1 and marks[0] in names:
            missing = names[marks == [names[0]]]
            return (
                f"{marks[0]}: found without {missing}; add it, so that {names[0]} are 1 where the "
                f"task ended, and {names[1]} where an episode was cut"
            )
        if marks == list(names) and masks:
            return (
                f"masks: found beside {names[0]}, which say where nothing is bootstrapped too; "
                "leave the masks out"
            )
    return f"{', '.join(marks)}: they mark ends in two ways; keep {' and '.join(PAIRS[1])} alone"


def read_episodes(where: str, arrays: Arrays, success: str | None) -> Iterator[StoredEpisode]:
    """The episodes of a table.

    **Arguments:** `where` names it in messages, `success` is the value of `data.success`.

    **Raises:** `UserError` if an array is missing or has another number of rows, or the layout is
    not clear.
    """
    marks = [name for name in MARKS if name in arrays]
    ends, terminations = _find_ends(where, arrays, marks)
    solved = select_success(where, arrays, success)
    pairs = any(name.split("/")[0] == "next_observations" for name in arrays)
    columns = {
        "observations": _tree(where, arrays, "observations"),
        "actions": _array(where, arrays, "actions"),
        "rewards": _array(where, arrays, "rewards") if "rewards" in arrays else None,
        "terminations": terminations,
        "success": None if solved is None else np.atleast_1d(solved),
        "next_observations": _tree(where, arrays, "next_observations") if pairs else None,
    }
    rows = len(ends)
    for name, column in columns.items():
        for leaf, array in named_leaves(column).items():
            if array is not None:
                label = "/".join(filter(None, (name, leaf)))
                reference = f"the marks of the ends of episodes have {rows:,}"
                validation.require_rows(f"{where}: {label}", array, (rows,), reference)
    # In OGBench's layout the last row of an episode is an observation without a step.
    observed_last = marks == ["terminals"] and not pairs
    start = 0
    for stop in np.union1d(np.flatnonzero(ends) + 1, [rows]):
        seen, steps = slice(start, stop), slice(start, stop - observed_last)
        episode = StoredEpisode(**jax.tree.map(itemgetter(steps), columns))
        yield replace(episode, observations=jax.tree.map(itemgetter(seen), columns["observations"]))
        start = stop


def _tree(where: str, arrays: Arrays, name: str) -> Any:
    """An array, or the nested dictionaries that `name/...` describe."""
    if name in arrays:
        return _array(where, arrays, name)
    tree: dict[str, Any] = {}
    for key in (key for key in arrays if key.startswith(f"{name}/")):
        *folders, leaf = key.split("/")[1:]
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = _array(where, arrays, key)
    return tree or _array(where, arrays, name)


def _array(where: str, arrays: Arrays, name: str) -> np.ndarray:
    if name not in arrays:
        raise UserError(
            f"{where}: {name}: missing; there are {', '.join(arrays) or 'no arrays'}. Store it "
            "with one row a step"
        )
    array = np.asarray(arrays[name])
    if not validation.is_numeric(array.dtype):
        raise UserError(f"{where}: {name}: found {array.dtype}; store it as numbers")
    return np.atleast_1d(array)


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
