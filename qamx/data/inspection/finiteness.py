"""Numbers that are none: NaN and infinities."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from qamx._utils.finding import Finding, counted
from qamx.data.checks import not_finite
from qamx.data.sequences import Transitions


def check_finite(transitions: Transitions) -> Iterator[Finding]:
    """Every number is finite."""
    for name, array in vars(transitions).items():
        array = np.asarray(array)
        first = not_finite(array)
        if first is None:
            continue
        broken = ~np.isfinite(array.reshape(len(array), -1))
        rows = counted(int(np.sum(broken.any(axis=1))), "row")
        yield Finding(
            f"{name.replace('_', '-')}-not-finite",
            "refuse",
            f"{name}: not finite in row {first:,} ({rows} in all)",
            "the first batch that holds one makes the loss NaN, and every weight after it",
            "mend or drop the episode",
        )


def mended(transitions: Transitions) -> Transitions:
    """The transitions, in the place of each number that is not finite the last one before it.

    So that what else is wrong with faulty data can be found too.
    """
    arrays = {name: np.asarray(array) for name, array in vars(transitions).items()}
    return replace(transitions, **{name: _filled(array) for name, array in arrays.items()})


def _filled(array: np.ndarray) -> np.ndarray:
    if not_finite(array) is None:
        return array
    columns = array.reshape(len(array), -1)
    sound = np.isfinite(columns)
    source = np.maximum.accumulate(np.where(sound, np.arange(len(columns))[:, None], -1), axis=0)
    first = np.argmax(sound, axis=0)  # where none is before, the first sound one
    filled = np.take_along_axis(columns, np.where(source < 0, first, source), axis=0)
    return np.nan_to_num(filled, nan=0.0, posinf=0.0, neginf=0.0).reshape(array.shape)
