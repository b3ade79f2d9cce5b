"""Statistics of a data set: columns, changes from step to step, hashes, regression on actions."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int, UInt64

from qamx.data.transitions import Transitions
from qamx.data.validation import Entries, Marked, constant, nearly_constant

BLOCK_ROWS = 32_768  # processed together, so that no temporary array is as large as the data
SAMPLE_ROWS = 10_000  # evenly spaced, that quantiles are computed from


def blocks(size: int) -> Iterator[slice]:
    """Consecutive rows, `BLOCK_ROWS` at a time."""
    for begin in range(0, size, BLOCK_ROWS):
        yield slice(begin, min(begin + BLOCK_ROWS, size))


def sample(array: np.ndarray, rows: int = SAMPLE_ROWS) -> np.ndarray:
    """About `rows` rows, evenly spaced."""
    return array[:: max(1, len(array) // rows)]


Observations: TypeAlias = Float[np.ndarray, "size obs"]
EpisodeRows: TypeAlias = Int[np.ndarray, " episodes"]
Hashes: TypeAlias = UInt64[np.ndarray, " size"]


@dataclass(frozen=True)
class ColumnStatistics:
    """Statistics of each entry; the quantiles are those of 0.5%, 50% and 99.5%, of a sample."""

    low: Entries
    high: Entries
    mean: Entries
    deviation: Entries
    quantiles: Float[np.ndarray, "3 entries"]

    @property
    def constant(self) -> Marked:
        return constant(self.low, self.high)

    @property
    def nearly_constant(self) -> Marked:
        return nearly_constant(self.mean, self.deviation) & ~self.constant

    @property
    def width(self) -> Entries:
        """The range of each entry, 1 where it is constant."""
        return np.where(self.constant, 1.0, self.high - self.low)

    @classmethod
    def of(cls, array: Float[np.ndarray, "rows entries"]) -> "ColumnStatistics":
        """The statistics of an array with at least one row, all of it finite."""
        origin = array[0].astype(np.float32)  # near the mean, as sums of squares like it
        low = high = array[0].astype(np.float64)
        total, squares = np.zeros(len(origin)), np.zeros(len(origin))
        for rows in blocks(len(array)):
            block = array[rows]
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
            shifted = block - origin
            total += shifted.sum(axis=0, dtype=np.float64)
            squares += np.einsum("ij,ij->j", shifted, shifted, dtype=np.float64)
        shift = total / len(array)
        variance = np.maximum(squares / len(array) - shift**2, 0.0)
        quantiles = np.quantile(sample(array), (0.005, 0.5, 0.995), axis=0)
        return cls(low, high, origin + shift, np.sqrt(variance), quantiles)


def row_hashes(transitions: Transitions) -> Hashes:
    """A hash of each row's observation and action."""
    observations, actions = map(np.asarray, (transitions.observations, transitions.actions))
    width = observations.shape[1] + actions.shape[1]
    factors = np.random.default_rng(0).integers(1, 2**63, width, dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(actions), np.uint64)
    for rows in blocks(len(actions)):
        both = np.concatenate([observations[rows], actions[rows]], axis=1, dtype=np.float32)
        hashes[rows] = both.view(np.uint32) @ factors
    return _mix(hashes)


def episode_hashes(rows: Hashes, starts: EpisodeRows) -> Hashes:
    """A hash of each episode, from the hashes of its rows and their order."""
    lengths = np.diff(starts, append=len(rows))
    position = np.arange(len(rows)) - np.repeat(starts, lengths)
    return np.add.reduceat(rows * _mix(position.astype(np.uint64) + np.uint64(1)), starts)


def _mix(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): every bit matters."""
    mixed = values * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass(frozen=True)
class StepChanges:
    """Differences between each row and the next.

    **Arguments:**

    - `change`: |s' − s|, as a share of each entry's range, on average over the entries.
    - `gap`: the same of the next row's s and this one's s'; 0 at the end of an episode.
    - `leap`: |s' − s| in multiples of each entry's 99% quantile, at most 10, on average over the
      entries that move all the time. The entry that leaps farthest is left out: an angle that
      wraps, or a velocity at a wall, is no leap of the state.
    """

    change: Float[np.ndarray, " size"]
    gap: Float[np.ndarray, " size"]
    leap: Float[np.ndarray, " size"]

    @classmethod
    def of(
        cls, observations: Observations, following: Observations, width: Entries, last: EpisodeRows
    ) -> "StepChanges":
        """The changes of episodes that end at the rows `last`."""
        weights, (moving, usual) = 1.0 / width / len(width), _usual_changes(observations, following)
        weights, size = weights.astype(np.float32), len(observations)
        change, leap, gap = (np.zeros(size, np.float32) for _ in range(3))
        for rows in blocks(size):
            difference = np.abs(following[rows] - observations[rows])
            change[rows] = _weighted(difference, weights)
            leap[rows] = _leap(difference[:, moving] / usual)
            after = observations[rows.start + 1 : rows.stop + 1]
            pairs = slice(rows.start, rows.start + len(after))
            gap[pairs] = _weighted(np.abs(following[pairs] - after), weights)
        gap[last] = 0.0
        return cls(change, gap, leap)


def _weighted(difference: np.ndarray, weights: Entries) -> np.ndarray:
    # Not a product of matrices: that would take every core for an eighth of a second's work.
    return np.einsum("ij,j->i", difference, weights)


def _usual_changes(
    observations: Observations, following: Observations
) -> tuple[Int[np.ndarray, " moving"], Float[np.ndarray, " moving"]]:
    """The entries that move all the time, and the 99% quantiles of their changes.

    Entries that hardly move in half of the rows are left out: a button, an object that is seldom
    touched.
    """
    difference = np.abs(sample(following) - sample(observations))
    middle, most = np.quantile(difference, (0.5, 0.99), axis=0)
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


@dataclass(eq=False)
class DatasetStatistics:
    """Transitions of a shard with their statistics, each computed when it is first used.

    **Arguments:** `transitions` are on the host, of matching shapes and finite; `horizon` is the
    length of the windows that will be drawn; `has_teleports` is true where states jump in the
    environment itself.
    """

    transitions: Transitions
    horizon: int
    has_teleports: bool = False

    def array(self, name: str) -> np.ndarray:
        """An array of the transitions."""
        return np.asarray(getattr(self.transitions, name))

    @functools.cached_property
    def last(self) -> EpisodeRows:
        """The last row of each episode; the data's last row ends one."""
        return np.flatnonzero(np.append(self.array("ends")[:-1], 1))

    @functools.cached_property
    def starts(self) -> EpisodeRows:
        """The first row of each episode."""
        return np.append(0, self.last[:-1] + 1)

    @functools.cached_property
    def lengths(self) -> EpisodeRows:
        """Rows of each episode."""
        return self.last - self.starts + 1

    @property
    def windows(self) -> int:
        """Windows that may be drawn."""
        return max(len(self.transitions) - self.horizon + 1, 0)

    @property
    def whole_windows(self) -> int:
        """Windows that lie inside an episode."""
        return int(np.sum(np.maximum(self.lengths - self.horizon + 1, 0)))

    @property
    def window_share(self) -> float:
        """The share of the windows drawn that lie inside an episode."""
        return self.whole_windows / max(self.windows, 1)

    @functools.cached_property
    def observations(self) -> ColumnStatistics:
        return ColumnStatistics.of(self.array("observations"))

    @functools.cached_property
    def actions(self) -> ColumnStatistics:
        return ColumnStatistics.of(self.array("actions"))

    @functools.cached_property
    def reward_counts(self) -> dict[float, int]:
        """The rows of each reward; empty if there are more than 64 rewards."""
        values, counts = np.unique(self.array("rewards"), return_counts=True)
        few = len(values) <= 64
        return dict(zip(values.tolist(), counts.tolist(), strict=True)) if few else {}

    @functools.cached_property
    def row_hashes(self) -> Hashes:
        return row_hashes(self.transitions)

    @functools.cached_property
    def episode_hashes(self) -> Hashes:
        return episode_hashes(self.row_hashes, self.starts)

    @functools.cached_property
    def changes(self) -> StepChanges:
        arrays = self.array("observations"), self.array("next_observations")
        return StepChanges.of(*arrays, self.observations.width, self.last)


REGRESSION_ROWS = 20_000  # that the regressions are fitted to
_RUN = 500  # consecutive rows taken together: neighbours are in memory together


class ExplainedVariance(NamedTuple):
    r"""Share of the change s' − s that a linear model of s and an action explains beyond s alone.

    The model is \(s'_t-s_t\approx Ws_t+Ba_{t+k}\); each number is the share of the variance that
    the actions add, summed over the entries of the observation.

    **Arguments:** `own` is for k = 0, `before` for k = −1, `after` for k = 1; `chance` is the
    expected share of actions without any relation.
    """

    before: float
    own: float
    after: float
    chance: float


def explained_variance(data: DatasetStatistics) -> ExplainedVariance | None:
    """The variance that actions explain in a sample of rows; None if there are too few."""
    rows = _regression_rows(data)
    observations, actions = data.array("observations"), data.array("actions")
    varied = np.flatnonzero(~data.observations.constant)
    acting = np.flatnonzero(~data.actions.constant)
    if len(rows) < 10 * (len(varied) + len(acting)) or not len(varied) or not len(acting):
        return None
    state = observations[np.ix_(rows, varied)].astype(np.float64)
    change = data.array("next_observations")[np.ix_(rows, varied)] - state
    base, change = _standardise(state), _standardise(change)
    known = _share(base, change)
    gains = [
        _share(np.hstack([base, _standardise(actions[np.ix_(rows + k, acting)])]), change) - known
        for k in (-1, 0, 1)
    ]
    return ExplainedVariance(*gains, chance=len(varied) * len(acting) / len(rows))


def _regression_rows(data: DatasetStatistics) -> Int[np.ndarray, " rows"]:
    """Rows with a neighbour on each side in their episode, in evenly spaced runs."""
    size = len(data.transitions)
    inner = np.ones(size, bool)
    inner[data.starts] = inner[data.last] = False
    spacing = max(_RUN, size * _RUN // REGRESSION_ROWS)
    return np.flatnonzero(inner & (np.arange(size) % spacing < _RUN))


def _standardise(array: np.ndarray) -> Float[np.ndarray, "rows entries"]:
    centred = array - array.mean(axis=0, dtype=np.float64)
    deviation = centred.std(axis=0)
    return centred / np.where(deviation > 0, deviation, 1.0)


def _share(inputs: np.ndarray, outputs: np.ndarray) -> float:
    """The explained share of each standardised column of `outputs`, summed."""
    gram = inputs.T @ inputs
    gram[np.diag_indices_from(gram)] += 1e-6 * len(inputs)
    projected = inputs.T @ outputs
    return float(np.sum(np.linalg.solve(gram, projected) * projected) / len(inputs))
