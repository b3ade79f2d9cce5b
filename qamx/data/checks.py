"""What makes a number, an action or a file's row unfit to learn from: small parts of checks."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

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


def first_row(marked: Bool[np.ndarray, " rows"]) -> int | None:
    """The first marked row, or None."""
    return int(np.argmax(marked)) if marked.any() else None
