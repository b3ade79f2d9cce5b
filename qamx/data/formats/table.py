"""Flat tables of steps, and how they are cut into episodes."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool

from qamx.data.formats.episodes import Episode
from qamx.data.formats.source import success_among
from qamx.data.validation import check_terminals, require_marks
from qamx.envs.spaces import named_leaves
from qamx.errors import UserError

MARKS = ("terminals", "timeouts", "terminations", "truncations")
PAIRS = (("terminals", "timeouts"), ("terminations", "truncations"))
"""Names in D4RL's and in Gymnasium's layout: ended by the task, ended by time."""


class Marks(NamedTuple):
    """Where episodes end and where they terminate.

    **Arguments:** `bare_ends` says that the last row of an episode is an observation without a
    step, `pairs` that each row has its next observation beside it.
    """

    ends: Bool[np.ndarray, " rows"]
    terminations: Bool[np.ndarray, " rows"] | None
    bare_ends: bool
    pairs: bool


def marks_of(where: str, arrays: Mapping[str, Any]) -> Marks:
    """The marks of a table; `where` is what messages call it.

    **Raises:** `UserError` if there are none, or they may be read in two ways.
    """
    found = [name for name in MARKS if name in arrays]
    pairs = any(name.split("/")[0] == "next_observations" for name in arrays)
    if found == ["terminals"]:
        return _ogbench(where, arrays, pairs)
    for names in PAIRS:
        if found == list(names) and "masks" not in arrays:
            return _two_marks(where, names, arrays, pairs)
    raise UserError(f"{where}: {_unclear(found, 'masks' in arrays)}")


def _ogbench(where: str, arrays: Mapping[str, Any], pairs: bool) -> Marks:
    if "rewards" in arrays and "masks" not in arrays:
        raise UserError(
            f"{where}: terminals: it is not clear whether they mark the last row of each episode "
            "(OGBench's layout) or where the task ended (D4RL's); add masks, 0 where the task is "
            "solved and else 1, in the first case, and timeouts, 1 where an episode was cut, in "
            "the second"
        )
    terminals = _column(where, arrays, "terminals")
    check_terminals(where, terminals)
    terminations = _column(where, arrays, "masks") == 0 if "masks" in arrays else None
    return Marks(terminals > 0, terminations, bare_ends=not pairs, pairs=pairs)


def _two_marks(where: str, names: tuple[str, str], arrays: Mapping[str, Any], pairs: bool) -> Marks:
    terminations, timeouts = (_column(where, arrays, name) > 0 for name in names)
    if len(terminations) != len(timeouts):
        raise UserError(
            f"{where}: {names[1]}: {len(timeouts):,} rows, and {names[0]} have "
            f"{len(terminations):,}; every array has one row a step"
        )
    ends = terminations | timeouts
    if not ends.any():
        raise UserError(
            f"{where}: {names[0]} and {names[1]}: no row of {len(ends):,} ends an episode, so that "
            f"action chunks would reach from one into the next; write 1 in {names[1]} on the last "
            "row of each"
        )
    return Marks(ends, terminations, bare_ends=False, pairs=pairs)


def _unclear(found: list[str], masks: bool) -> str:
    """Why the marks that were found, perhaps beside masks, do not say where episodes end."""
    if not found:
        return (
            "no array marks the ends of episodes; add terminations, 1 where the task ended, and "
            "truncations, 1 where an episode was cut, or OGBench's terminals, 1 on each last row"
        )
    for names in PAIRS:
        if len(found) == 1 and found[0] in names:
            missing = names[found == [names[0]]]
            return (
                f"{found[0]}: found without {missing}; add it, so that {names[0]} are 1 where the "
                f"task ended, and {names[1]} where an episode was cut"
            )
        if found == list(names) and masks:
            return (
                f"masks: found beside {names[0]}, which say where nothing is bootstrapped too; "
                "leave the masks out"
            )
    return f"{', '.join(found)}: they mark ends in two ways; keep {' and '.join(PAIRS[1])} alone"


def _column(where: str, arrays: Mapping[str, Any], name: str) -> np.ndarray:
    column = np.atleast_1d(arrays[name])
    if column.dtype.kind not in "fiub" or column.size != len(column):
        raise UserError(
            f"{where}: {name}: found {column.dtype} of shape {column.shape}; write one number a row"
        )
    require_marks(where, name, column)
    return column.reshape(-1)


Arrays: TypeAlias = Mapping[str, Any]
"""Arrays by name, read when they are looked up; `observations/position` is an entry of a
dictionary observation."""


def episodes(where: str, arrays: Arrays, success: str | None) -> Iterator[Episode]:
    """The episodes of a table.

    **Arguments:** `where` is what messages call it, `success` is the value of `data.success`.

    **Raises:** `UserError` if an array is missing or has another number of rows, or the layout is
    not clear.
    """
    marks = marks_of(where, arrays)
    solved = success_among(where, arrays, success)
    columns = {
        "observations": _tree(where, arrays, "observations"),
        "actions": _array(where, arrays, "actions"),
        "rewards": _array(where, arrays, "rewards") if "rewards" in arrays else None,
        "terminations": marks.terminations,
        "success": None if solved is None else np.atleast_1d(solved),
        "next_observations": _tree(where, arrays, "next_observations") if marks.pairs else None,
    }
    for name, column in columns.items():
        _require_rows(where, name, column, len(marks.ends))
    start = 0
    for stop in _stops(marks.ends):
        seen, steps = slice(start, stop), slice(start, stop - marks.bare_ends)
        cut = {name: _rows(column, steps) for name, column in columns.items()}
        yield Episode(**(cut | {"observations": _rows(columns["observations"], seen)}))
        start = stop


def _stops(ends: np.ndarray) -> list[int]:
    """Behind the last row of each episode; rows after the last mark are an episode too."""
    stops = [int(row) + 1 for row in np.flatnonzero(ends)]
    return stops if stops and stops[-1] == len(ends) else [*stops, len(ends)]


def _rows(tree: Any, rows: slice) -> Any:
    if isinstance(tree, Mapping):
        return {name: _rows(leaf, rows) for name, leaf in tree.items()}
    return None if tree is None else tree[rows]


def _tree(where: str, arrays: Arrays, name: str) -> Any:
    """An array, or the nested dictionaries that `name/...` describe."""
    if name in arrays:
        return _array(where, arrays, name)
    tree: dict[str, Any] = {}
    for key in (key for key in arrays if key.startswith(f"{name}/")):
        *folders, leaf = key.split("/")[1:]
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[leaf] = _array(where, arrays, key)
    return tree or _array(where, arrays, name)


def _array(where: str, arrays: Arrays, name: str) -> np.ndarray:
    if name not in arrays:
        raise UserError(
            f"{where}: {name}: missing; there are {', '.join(arrays) or 'no arrays'}. Store it "
            "with one row a step"
        )
    array = np.asarray(arrays[name])
    if array.dtype.kind not in "fiub":
        raise UserError(f"{where}: {name}: found {array.dtype}; store it as numbers")
    return np.atleast_1d(array)


def _require_rows(where: str, name: str, tree: Any, rows: int) -> None:
    for leaf, array in named_leaves(tree).items():
        if array is not None and len(array) != rows:
            raise UserError(
                f"{where}: {'/'.join(filter(None, (name, leaf)))}: {len(array):,} rows, and the "
                f"marks of the ends of episodes have {rows:,}; every array has one row a step"
            )
