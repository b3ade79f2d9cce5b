"""Statistics of a data set: columns, motion, row hashes, regression on actions."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

from qamx.data.transitions import Transitions
from qamx.data.validation import constant, nearly_constant

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


_STEP = np.uint64(0x9E3779B97F4A7C15)


def row_hashes(transitions: Transitions) -> UInt64[np.ndarray, " size"]:
    """A hash of each row's observation and action; equal rows have equal ones."""
    observations = np.asarray(transitions.observations)
    actions = np.asarray(transitions.actions)
    width = observations.shape[1] + actions.shape[1]
    factors = np.random.default_rng(0).integers(1, 2**63, width, dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(actions), np.uint64)
    for begin in range(0, len(actions), BLOCK_ROWS):
        part = slice(begin, begin + BLOCK_ROWS)
        both = np.concatenate([observations[part], actions[part]], axis=1, dtype=np.float32)
        hashes[part] = both.view(np.uint32) @ factors
    return _mixed(hashes)


def episode_hashes(
    rows: UInt64[np.ndarray, " size"], starts: Int[np.ndarray, " episodes"]
) -> UInt64[np.ndarray, " episodes"]:
    """A hash of each episode, of its rows in their order."""
    lengths = np.diff(starts, append=len(rows))
    position = np.arange(len(rows)) - np.repeat(starts, lengths)
    return np.add.reduceat(rows * _mixed(position.astype(np.uint64) + np.uint64(1)), starts)


def _mixed(values: UInt64[np.ndarray, " size"]) -> UInt64[np.ndarray, " size"]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): every bit matters."""
    mixed = values * _STEP
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


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


REGRESSION_ROWS = 20_000
"""Rows that the regressions are fitted to."""

_RUN = 500  # consecutive rows taken together: neighbours are in memory together


@dataclass(frozen=True)
class Explained:
    r"""How much of the change s' − s a linear model of s and an action explains beyond s alone.

    The model is \(s'_t-s_t\approx Ws_t+Ba_{t+k}\); each number is the share of the variance that
    the actions add, summed over the entries of the observation.

    **Arguments:** `own` is for k = 0, `before` for k = −1, `after` for k = 1; `chance` is what
    actions without any relation would add, on average.
    """

    before: float
    own: float
    after: float
    chance: float


def explained(facts: Facts) -> Explained | None:
    """What actions explain in a sample of rows; None where there are too few."""
    rows = _rows(facts)
    observations, actions = facts.array("observations"), facts.array("actions")
    varied = np.flatnonzero(~facts.observations.constant)
    acting = np.flatnonzero(~facts.actions.constant)
    if len(rows) < 10 * (len(varied) + len(acting)) or not len(varied) or not len(acting):
        return None
    state = observations[np.ix_(rows, varied)].astype(np.float64)
    change = facts.array("next_observations")[np.ix_(rows, varied)] - state
    base, change = _standardised(state), _standardised(change)
    known = _share(base, change)
    gains = [
        _share(np.hstack([base, _standardised(actions[np.ix_(rows + k, acting)])]), change) - known
        for k in (-1, 0, 1)
    ]
    return Explained(*gains, chance=len(varied) * len(acting) / len(rows))


def _rows(facts: Facts) -> Int[np.ndarray, " rows"]:
    """Rows with a neighbour on each side in their episode, in evenly spaced runs."""
    size = len(facts.transitions)
    inner = np.ones(size, bool)
    inner[facts.starts] = inner[facts.last] = False
    spacing = max(_RUN, size * _RUN // REGRESSION_ROWS)
    taken = np.arange(size) % spacing < _RUN
    return np.flatnonzero(inner & taken)


def _standardised(array: np.ndarray) -> Float[np.ndarray, "rows entries"]:
    centred = array - array.mean(axis=0, dtype=np.float64)
    deviation = centred.std(axis=0)
    return centred / np.where(deviation > 0, deviation, 1.0)


def _share(given: np.ndarray, wanted: np.ndarray) -> float:
    """The explained share of each standardised column of `wanted`, summed."""
    gram = given.T @ given
    gram[np.diag_indices_from(gram)] += 1e-6 * len(given)
    projected = given.T @ wanted
    return float(np.sum(np.linalg.solve(gram, projected) * projected) / len(given))
