"""What the checks look at, computed once for all of them."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from qamx.data.inspection.columns import BLOCK_ROWS, Columns
from qamx.data.inspection.fingerprints import episode_hashes, row_hashes
from qamx.data.sequences import Transitions


@dataclass(frozen=True)
class Motion:
    """How each row differs from what follows.

    **Arguments:**

    - `change`: |s' − s|, as a share of each entry's range, on average over the entries.
    - `gap`: the same of the next row's s and this one's s'; 0 at the end of an episode.
    """

    change: Float[np.ndarray, " size"]
    gap: Float[np.ndarray, " size"]


class Facts:
    """Transitions, and what follows from them.

    **Arguments:** `transitions` are on the host, of fitting shapes and finite; `horizon` is the
    length of the windows that will be drawn; `jumps` says that states do jump in this environment.
    """

    def __init__(self, transitions: Transitions, horizon: int, jumps: bool = False):
        self.transitions, self.horizon, self.jumps = transitions, horizon, jumps

    def array(self, name: str) -> np.ndarray:
        """One of the arrays of the transitions."""
        return np.asarray(getattr(self.transitions, name))

    @functools.cached_property
    def last(self) -> Int[np.ndarray, " episodes"]:
        """The last row of each episode; the data's last row ends one."""
        return np.flatnonzero(np.append(self.array("ends")[:-1], 1))

    @functools.cached_property
    def starts(self) -> Int[np.ndarray, " episodes"]:
        """The first row of each episode."""
        return np.append(0, self.last[:-1] + 1)

    @functools.cached_property
    def lengths(self) -> Int[np.ndarray, " episodes"]:
        """Rows of each episode."""
        return self.last - self.starts + 1

    @property
    def whole_windows(self) -> int:
        """Windows that lie inside an episode."""
        return int(np.sum(np.maximum(self.lengths - self.horizon + 1, 0)))

    @property
    def window_share(self) -> float:
        """The share of the windows drawn that lie inside an episode."""
        return self.whole_windows / max(len(self.transitions) - self.horizon + 1, 1)

    @functools.cached_property
    def observations(self) -> Columns:
        return Columns.of(self.array("observations"))

    @functools.cached_property
    def actions(self) -> Columns:
        return Columns.of(self.array("actions"))

    @functools.cached_property
    def reward_counts(self) -> dict[float, int]:
        """How often each reward is given; empty where there are more than a few."""
        values, counts = np.unique(self.array("rewards"), return_counts=True)
        if len(values) > 64:
            return {}
        return dict(zip(values.tolist(), counts.tolist(), strict=True))

    @functools.cached_property
    def rows(self) -> UInt64[np.ndarray, " size"]:
        """A hash of each row."""
        return row_hashes(self.transitions)

    @functools.cached_property
    def episodes(self) -> UInt64[np.ndarray, " episodes"]:
        """A hash of each episode."""
        return episode_hashes(self.rows, self.starts)

    @functools.cached_property
    def motion(self) -> Motion:
        observations, following = self.array("observations"), self.array("next_observations")
        weights = _weights(self.observations)
        size = len(observations)
        change, gap = np.empty(size, np.float32), np.zeros(size, np.float32)
        for begin in range(0, size, BLOCK_ROWS):
            end = min(begin + BLOCK_ROWS, size)
            change[begin:end] = _distance(following[begin:end], observations[begin:end], weights)
            end = min(end, size - 1)
            behind = observations[begin + 1 : end + 1]
            gap[begin:end] = _distance(following[begin:end], behind, weights)
        gap[self.last] = 0.0
        return Motion(change, gap)

    @property
    def inside(self) -> Bool[np.ndarray, " size"]:
        """Rows that another row of their episode follows."""
        inside = np.ones(len(self.transitions), bool)
        inside[self.last] = False
        return inside


def _weights(columns: Columns) -> Float[np.ndarray, " entries"]:
    """One over the range of each entry, and over how many there are."""
    width = np.where(columns.constant, 1.0, columns.width)
    return (1.0 / width / len(width)).astype(np.float32)


def _distance(one: Any, other: Any, weights: Any) -> Float[np.ndarray, " rows"]:
    apart = one - other
    np.abs(apart, out=apart)
    return apart @ weights
