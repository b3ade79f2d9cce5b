"""Checks of form: what must hold before any number is looked at."""

from collections.abc import Iterator

import numpy as np

from qamx._utils.finding import Finding
from qamx.data.sequences import Transitions

_WIDE = ("observations", "actions", "next_observations")


def check_shapes(transitions: Transitions) -> Iterator[Finding]:
    """The arrays hold numbers, one row a step, and vectors where vectors belong."""
    problem = _problem({name: np.asarray(array) for name, array in vars(transitions).items()})
    if problem:
        yield Finding(
            "shapes",
            "refuse",
            problem,
            "windows cannot be cut from it",
            "have the source return one row a step: vectors of observations and actions, numbers "
            "else",
        )


def _problem(arrays: dict[str, np.ndarray]) -> str | None:
    size = len(arrays["rewards"]) if arrays["rewards"].ndim else 0
    if size == 0:
        return "rewards: no row"
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            return f"{name}: found {array.dtype}, which are no numbers"
        if array.ndim != (2 if name in _WIDE else 1) or array.shape[-1] == 0:
            form = "rows of entries" if name in _WIDE else "one number a row"
            return f"{name}: shape {array.shape}, which is not {form}"
        if len(array) != size:
            return f"{name}: {len(array):,} rows, and rewards has {size:,}"
    seen, following = arrays["observations"].shape, arrays["next_observations"].shape
    if seen != following:
        return f"next_observations: shape {following}, and observations has {seen}"
    return None
