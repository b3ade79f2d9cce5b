"""What makes a number, an action or a file's row unfit to learn from: small parts of checks."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from qamx.errors import UserError

LARGEST_ACTION = 1.0 + 1e-3
"""Actions beyond this are refused; between it and 1 they are rounding, and clipped."""


@dataclass(frozen=True)
class Outside:
    """Actions beyond their range: how many rows of how many, and where the largest is."""

    count: int
    rows: int
    row: int
    largest: float

    def text(self, row: int) -> str:
        """The message, with the row as the reader counts it."""
        return (
            f"actions: {self.count:,} of {self.rows:,} rows lie outside [-1, 1], the farthest by "
            f"an entry of {self.largest:.4g} in row {row:,}; scale the actions to [-1, 1], or have "
            'their range scaled: data.scale_actions = "data"'
        )


def outside(actions: Float[np.ndarray, "size act"], limit: float) -> Outside | None:
    """The actions with an entry beyond ±`limit`, if there are any."""
    # No row is looked at where the extremes are inside: two passes without a copy.
    if len(actions) == 0 or max(actions.max(), -actions.min()) <= limit:
        return None
    reach = np.abs(actions).max(axis=1)
    row = int(np.argmax(reach))
    largest = actions[row, np.argmax(np.abs(actions[row]))]
    return Outside(int(np.sum(reach > limit)), len(actions), row, float(largest))


def not_finite(array: np.ndarray) -> int | None:
    """The first row with a NaN or an infinity, or None."""
    # A sum is finite only if all terms are; it costs one pass and no copy. (A sum may overflow
    # where no term is infinite: then the rows decide.)
    with np.errstate(over="ignore", invalid="ignore"):
        if array.dtype.kind != "f" or np.isfinite(np.sum(array)):
            return None
    return first_row(np.any(~np.isfinite(array.reshape(len(array), -1)), axis=1))


def require_marks(where: str, name: str, column: np.ndarray) -> None:
    """Every row of a column says yes (above 0) or no.

    **Raises:** `UserError` with the first row that holds a NaN or an infinity.
    """
    if (row := not_finite(column)) is not None:
        raise UserError(
            f"{where}: {name}: not finite in row {row:,}; write 1 for yes or 0 for no in each row"
        )


SMALLEST_SHARE = 1e-4
"""Of its size, how much an entry must deviate to be told from a constant. In float32, numbers of
that size are 6e-8 of it apart, so that a deviation has a thousand of them; below, normalising would
turn a value that differs by the entry's own size into more than 10,000."""

SMALLEST_DEVIATION = float(np.finfo(np.float32).eps)
"""What rounding leaves of numbers about as large as 1 that should cancel: no entry varies less."""


def nearly_constant(
    mean: Float[np.ndarray, " entries"], deviation: Float[np.ndarray, " entries"]
) -> Bool[np.ndarray, " entries"]:
    """Which entries deviate too little from their mean for a unit of their own."""
    return deviation <= np.maximum(SMALLEST_SHARE * np.abs(mean), SMALLEST_DEVIATION)


def constant(
    low: Float[np.ndarray, " entries"], high: Float[np.ndarray, " entries"]
) -> Bool[np.ndarray, " entries"]:
    """Which entries never change, up to rounding; they are nearly constant too."""
    return high - low <= np.maximum(1e-6 * np.abs(low), SMALLEST_DEVIATION)


def first_row(marked: Bool[np.ndarray, " rows"]) -> int | None:
    """The first marked row, or None."""
    return int(np.argmax(marked)) if marked.any() else None


def refuse_dangling(path: Path) -> None:
    """Nothing on the way to a path is a symbolic link that leads nowhere.

    **Raises:** `UserError` with the link and where it leads.
    """
    for place in (path, *path.parents):
        if os.path.islink(place) and not os.path.exists(place):
            raise UserError(
                f"{place}: a symbolic link to {os.readlink(place)}, where there is nothing to be "
                "read; mount or restore that, or remove the link"
            )
