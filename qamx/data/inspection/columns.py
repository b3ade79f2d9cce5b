"""The entries of an array, one by one: ranges, moments and quantiles, in small pieces."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from qamx.data.checks import constant, nearly_constant

BLOCK_ROWS = 32_768
"""Rows that are looked at together, so that no array of the data's size is made beside it."""

SAMPLE_ROWS = 10_000
"""Rows, evenly spaced, whose quantiles stand for those of all."""


@dataclass(frozen=True)
class Columns:
    """What is known of each entry.

    **Arguments:** `quantiles` are the 0.5%, 50% and 99.5% ones, of a sample.
    """

    low: Float[np.ndarray, " entries"]
    high: Float[np.ndarray, " entries"]
    mean: Float[np.ndarray, " entries"]
    deviation: Float[np.ndarray, " entries"]
    quantiles: Float[np.ndarray, "3 entries"]

    @property
    def width(self) -> Float[np.ndarray, " entries"]:
        """From the smallest to the largest value."""
        return self.high - self.low

    @property
    def constant(self) -> Bool[np.ndarray, " entries"]:
        """Which entries never change, up to rounding."""
        return constant(self.low, self.high)

    @property
    def nearly_constant(self) -> Bool[np.ndarray, " entries"]:
        """Which entries change, but too little for a unit of their own."""
        return nearly_constant(self.mean, self.deviation) & ~self.constant

    @classmethod
    def of(cls, array: Float[np.ndarray, "rows entries"]) -> "Columns":
        """The columns of an array with at least one row, all of it finite."""
        origin = array[0].astype(np.float32)  # near the mean, as sums of squares like it
        low = high = array[0].astype(np.float64)
        total, squares = np.zeros(len(origin)), np.zeros(len(origin))
        for block in blocks(array):
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
            shifted = block - origin
            total += shifted.sum(axis=0, dtype=np.float64)
            squares += np.einsum("ij,ij->j", shifted, shifted, dtype=np.float64)
        shift = total / len(array)
        variance = np.maximum(squares / len(array) - shift**2, 0.0)
        quantiles = np.quantile(sample(array), (0.005, 0.5, 0.995), axis=0)
        return cls(low, high, origin + shift, np.sqrt(variance), quantiles)


def blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of an array, some ten thousand at a time."""
    for begin in range(0, len(array), BLOCK_ROWS):
        yield array[begin : begin + BLOCK_ROWS]


def sample(array: np.ndarray, rows: int = SAMPLE_ROWS) -> np.ndarray:
    """About so many rows, evenly spaced."""
    return array[:: max(1, len(array) // rows)]
