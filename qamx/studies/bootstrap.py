"""Stratified bootstrap intervals: runs are drawn again within each task."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

Key = TypeVar("Key")

RESAMPLES = 5_000
"""How often runs are drawn again; the paper's number."""

CONFIDENCE = 0.95
"""How often an interval is to hold what is estimated."""

Parts = Sequence[Float[np.ndarray, "... runs"]]
"""The success rates of each task, one entry a run; axes before the last are resamples."""


def indices(name: str, runs: int) -> Int[np.ndarray, "resamples runs"]:
    """Which runs each resample draws, for one method on one task.

    **Arguments:** `name` seeds the draw, so that the intervals of a method on a task are the
    same in every report, whatever else is in it.
    """
    generator = np.random.default_rng(tuple(name.encode()))
    return generator.integers(runs, size=(RESAMPLES, runs))


def resample(label: str, scores: Mapping[Key, Float[np.ndarray, " runs"]]) -> Parts:
    """The resamples of a method's success rates, task by task, in the order of `scores`."""
    return [rates[indices(f"{label}/{task}", len(rates))] for task, rates in scores.items()]


def interval(
    draws: Float[np.ndarray, "resamples ..."],
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """The percentile interval of a statistic from its value in each resample."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(draws, (tail, 100 - tail), axis=0)
    return low, high
