"""Grids of a suite: lists of values by key, and the points that they span."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

from qamx.config.experiment import flat
from qamx.config.problems import show
from qamx.config.sources import Override, Tree

Point = tuple[str, tuple[Override, ...]]
"""A name that a folder can have, and what the point sets."""


def points(tree: Tree, place: str, grid: Mapping[str, Any]) -> list[Point]:
    """Every combination of the grid's values, in the order of the file; one empty point without.

    **Arguments:** `place` is where the grid stands in the tree's file, such as `group.1.grid`. Of
    what is no list of values the tree gets a complaint.
    """
    axes = []
    for key, values in flat(dict(grid)).items():
        if isinstance(values, list) and values:
            axes.append([_value(key, value, f"{tree.file}: {place}") for value in values])
        else:
            text = f"found {show(values)}; write a list of values, e.g. [1.0, 3.0]"
            tree.complain(str(tree.file), f"{place}.{key}", text)
    return [
        ("-".join(name for name, _ in point), tuple(override for _, override in point))
        for point in itertools.product(*axes)
    ]


def _value(key: str, value: Any, origin: str) -> tuple[str, Override]:
    text = to_toml(value)
    shown = re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_")
    return f"{key.rpartition('.')[2]}-{shown}", Override(f"{key}={text}", origin)


def to_toml(value: Any) -> str:
    """A value as it is written behind `key=`, a table in one line."""
    if isinstance(value, Mapping):
        entries = (f"{key} = {to_toml(inner)}" for key, inner in value.items())
        return f"{{ {', '.join(entries)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(to_toml, value))}]"
    return show(value)
