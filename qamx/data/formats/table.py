"""Arrays with one row a step, all episodes one after the other, cut into episodes."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from qamx.data.episodes import Episode
from qamx.data.formats.access import success_among
from qamx.data.formats.layouts import marks_of
from qamx.envs.flatten import named_leaves
from qamx.errors import UserError

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
