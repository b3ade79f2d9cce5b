"""What the checks look at, computed once for all of them."""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from qamx.data.inspection.columns import BLOCK_ROWS, Columns, sample
from qamx.data.inspection.fingerprints import episode_hashes, row_hashes
from qamx.data.sequences import Transitions


@dataclass(frozen=True)
class Motion:
    """How each row differs from what follows.

    **Arguments:**

    - `change`: |s' − s|, as a share of each entry's range, on average over the entries.
    - `gap`: the same of the next row's s and this one's s'; 0 at the end of an episode.
    - `leap`: |s' − s| in multiples of what each entry stays below in 99% of the rows, at most 10,
      on average over the entries that move all the time. The one that leaps farthest is left out:
      an angle that wraps, or a velocity at a wall, is no leap of the state.
    """

    change: Float[np.ndarray, " size"]
    gap: Float[np.ndarray, " size"]
    leap: Float[np.ndarray, " size"]


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
        weights, (moving, usual) = _weights(self.observations), _usual(observations, following)
        size = len(observations)
        change, leap, gap = (np.zeros(size, np.float32) for _ in range(3))
        for begin in range(0, size, BLOCK_ROWS):
            part = slice(begin, min(begin + BLOCK_ROWS, size))
            apart = np.abs(following[part] - observations[part])
            change[part] = _mean(apart, weights)
            leap[part] = _leap(apart[:, moving] / usual)
            behind = observations[begin + 1 : part.stop + 1]
            ahead = following[begin : begin + len(behind)]
            gap[begin : begin + len(behind)] = _mean(np.abs(ahead - behind), weights)
        gap[self.last] = 0.0
        return Motion(change, gap, leap)

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


def _mean(apart: np.ndarray, weights: Float[np.ndarray, " entries"]) -> np.ndarray:
    # Not a product of matrices: that would take every core for an eighth of a second's work.
    return np.einsum("ij,j->i", apart, weights)


def _usual(
    observations: Float[np.ndarray, "size obs"], following: Float[np.ndarray, "size obs"]
) -> tuple[Int[np.ndarray, " moving"], Float[np.ndarray, " moving"]]:
    """The entries that move all the time, and what their changes stay below in 99% of the rows.

    Left out are entries that stand still, or nearly so, in half of the rows and move at times:
    a button, an object that is seldom touched.
    """
    apart = np.abs(sample(following) - sample(observations))
    middle, most = np.quantile(apart, (0.5, 0.99), axis=0)
    moving = np.flatnonzero(middle > 0.02 * most)
    return moving, most[moving].astype(np.float32)


def _leap(ratios: Float[np.ndarray, "rows moving"]) -> Float[np.ndarray, " rows"] | float:
    entries = ratios.shape[1]
    if entries == 0:
        return 0.0
    np.minimum(ratios, 10.0, out=ratios)
    if entries == 1:
        return ratios[:, 0]
    return (ratios.sum(axis=1) - ratios.max(axis=1)) / (entries - 1)
