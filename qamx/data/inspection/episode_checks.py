"""Checks of shapes, finiteness, ends, lengths, order and duplicates."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool

from qamx._utils.finding import Finding, counted
from qamx.data.inspection.statistics import Facts
from qamx.data.transitions import Transitions
from qamx.data.validation import first_row, not_finite

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


FEW_WINDOWS = 1_000
"""Whole windows below which a set is small for any network."""

GAP = 1e-3
"""Share of the observations' range by which two that should be equal may differ."""

_CROSSING = "action chunks and returns reach from one episode into another"


def check_ends(facts: Facts) -> Iterator[Finding]:
    """The ends of episodes are marked, with ones."""
    ends = facts.array("ends")
    odd = first_row((ends != 0) & (ends != 1))
    if odd is not None:
        yield Finding(
            "ends-not-flags",
            "refuse",
            f"ends: found {ends[odd]:g} in row {odd:,}",
            "it is not said where episodes end",
            "write 1 at the last row of each episode, else 0",
        )
    elif not ends.any():
        yield Finding(
            "no-ends",
            "refuse",
            f"ends: no row of {len(ends):,} ends an episode",
            _CROSSING,
            "write 1 at the last row of each episode",
        )
    elif not ends[-1]:
        yield Finding(
            "cut-off",
            "warn",
            f"ends: the last episode, from row {facts.starts[-1]:,} on, has no end",
            "the data may have been cut off; the last row is taken for the end",
            "make or download the data again, or mark its last row",
        )


def check_lengths(facts: Facts) -> Iterator[Finding]:
    """Episodes are long enough for a window."""
    lengths, horizon = facts.lengths, facts.horizon
    short, longest = int(np.sum(lengths < horizon)), int(lengths.max())
    if short == len(lengths):
        yield Finding(
            "all-episodes-short",
            "refuse",
            f"all {counted(short, 'episode')} are shorter than a chunk of {horizon} steps, the "
            f"longest has {longest}",
            "no window is whole, and nothing is learned",
            f"write agent.horizon = {longest} or less",
        )
    elif short:
        yield Finding(
            "episodes-short",
            "warn",
            f"{short:,} of {counted(len(lengths), 'episode')} are shorter than a chunk of "
            f"{horizon} steps",
            f"they teach nothing; {1 - facts.window_share:.0%} of the windows drawn are cut by an "
            "episode's end",
            "lower agent.horizon, or join what belongs together",
        )
    elif facts.window_share < 0.5:
        yield Finding(
            "windows-cut",
            "warn",
            f"{1 - facts.window_share:.0%} of the windows of {horizon} steps are cut by an "
            "episode's end",
            "so much of every batch teaches nothing",
            "lower agent.horizon",
        )


def check_size(facts: Facts) -> Iterator[Finding]:
    """There are windows enough to learn from."""
    windows = facts.whole_windows
    if 0 < windows < FEW_WINDOWS:
        yield Finding(
            "few-windows",
            "warn",
            f"{counted(windows, 'whole window')} of {facts.horizon} steps, in "
            f"{counted(len(facts.lengths), 'episode')}",
            "networks learn them by heart within minutes, and the critic is sure of nothing else",
            "collect more data, or choose small networks and few updates",
        )


def check_order(facts: Facts) -> Iterator[Finding]:
    """Within an episode, each row is followed by the one that it leads to."""
    inside = facts.inside
    apart = facts.motion.gap > GAP
    broken, rows = int(np.sum(apart)), int(np.sum(inside))
    if not broken:
        yield from _check_shuffled(facts)
        return
    row = int(np.argmax(apart))
    found = (
        f"{broken:,} of {rows:,} rows are not followed by the observation that they lead to, the "
        f"first is row {row:,}"
    )
    if broken > rows / 2:
        chunks = facts.horizon > 1
        yield Finding(
            "rows-shuffled",
            "refuse" if chunks else "note",
            f"next_observations: {found}",
            "action chunks are strung together from steps that never followed each other"
            if chunks
            else "none with a horizon of 1; longer chunks cannot be learned from it",
            "keep the rows of an episode together, in the order of time",
        )
    else:
        yield Finding(
            "ends-missing",
            "warn",
            f"ends: {found}",
            _CROSSING,
            "mark the rows before a break as ends of episodes",
        )


def _check_shuffled(facts: Facts) -> Iterator[Finding]:
    """Neighbours are nearer to each other than rows that were picked at random."""
    observations = facts.array("observations")
    if len(observations) < 100 or len(observations) < 10 * len(facts.lengths):
        return
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, len(observations), (2, 2_000))
    width = np.where(facts.observations.constant, 1.0, facts.observations.width)
    apart = np.median(np.mean(np.abs(observations[one] - observations[other]) / width, axis=1))
    steps = float(np.median(facts.motion.change))
    if apart > 0 and steps > 0.5 * apart:
        yield Finding(
            "rows-shuffled",
            "warn",
            f"observations: from one row to the next they change by {steps / apart:.0%} of what "
            "they differ by between any two rows",
            "if rows are shuffled, steps and chunks are of no episode that was ever played",
            "keep the rows of an episode together, in the order of time",
        )


LEAK = 0.001
"""Share of validation rows that may stand in the training data by chance."""


def check_duplicates(facts: Facts) -> Iterator[Finding]:
    """No episode is there twice."""
    _, first, counts = np.unique(facts.episodes, return_index=True, return_counts=True)
    copies = int(np.sum(counts - 1))
    if copies:
        row = int(facts.starts[first[np.argmax(counts > 1)]])
        yield Finding(
            "episodes-duplicate",
            "warn",
            f"episodes: {copies:,} of {len(facts.episodes):,} copy another bit by bit; one that is "
            f"copied begins in row {row:,}",
            "what is repeated weighs more in every batch, and validation may see what was learned",
            "drop the copies",
        )


@dataclass
class Shards:
    """What is kept of each shard to compare the next with: length and episodes."""

    lengths: list[int] = field(default_factory=list)
    episodes: dict[int, int] = field(default_factory=dict)

    def compare(self, shard: int, facts: Facts) -> Iterator[Finding]:
        """How a shard relates to those before it; it is one of them from then on."""
        size = len(facts.transitions)
        if self.lengths and size != self.lengths[0]:
            yield Finding(
                "shards-unequal",
                "refuse",
                f"{size:,} transitions, and the first shard has {self.lengths[0]:,}",
                "shards take each other's place in the buffer and must be equally long",
                "cut the shards to one length",
            )
        hashes = np.unique(facts.episodes).tolist()
        met = [self.episodes[one] for one in hashes if one in self.episodes]
        if met:
            yield Finding(
                "shards-duplicate",
                "warn",
                f"{len(met):,} of {counted(len(hashes), 'episode')} stand in shard "
                f"{met[0]} already",
                "the same data is learned from again in the place of new data",
                "replace the shard",
            )
        self.lengths.append(size)
        self.episodes |= {one: shard for one in hashes if one not in self.episodes}


def leakage(leaked: Bool[np.ndarray, " rows"]) -> Iterator[Finding]:
    """Whether validation rows stand in the training data; `leaked` marks those that do."""
    shared = int(leaked.sum())
    if shared > LEAK * len(leaked):
        yield Finding(
            "validation-leak",
            "warn",
            f"{shared:,} of {counted(len(leaked), 'validation row')} stand in the training data "
            "bit by bit",
            "figures on the validation data flatter: they measure what was learned by heart",
            "split the data anew, by episodes",
        )
