"""Checks of shapes, finite values, ends, lengths, order and duplicates."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool

from qamx._utils.finding import Finding, counted
from qamx.data import validation
from qamx.data.inspection.statistics import DatasetStatistics
from qamx.data.transitions import Transitions

FEW_WINDOWS = 1_000  # whole windows below which a set is small for any network
GAP = 1e-3  # largest difference between equal observations, as a share of their range
LEAK = 0.001  # share of validation rows that may occur in the training data by chance

_MATRICES = ("observations", "actions", "next_observations")


def check_shapes(transitions: Transitions) -> Iterator[Finding]:
    """The arrays hold numbers, one row a step; observations and actions are vectors."""
    problem = _shape_problem({name: np.asarray(array) for name, array in vars(transitions).items()})
    if problem:
        rows = "one row a step: vectors of observations and actions, numbers else"
        effect, remedy = "windows cannot be cut from it", f"have the source return {rows}"
        yield Finding("shapes", "refuse", problem, effect, remedy)


def _shape_problem(arrays: dict[str, np.ndarray]) -> str | None:
    size = len(arrays["rewards"]) if arrays["rewards"].ndim else 0
    if size == 0:
        return "rewards: no row"
    for name, array in arrays.items():
        if not validation.is_numeric(array.dtype):
            return f"{name}: found {array.dtype}, which are no numbers"
        if array.ndim != (2 if name in _MATRICES else 1) or array.shape[-1] == 0:
            form = "rows of entries" if name in _MATRICES else "one number a row"
            return f"{name}: shape {array.shape}, which is not {form}"
        if len(array) != size:
            return f"{name}: {len(array):,} rows, and rewards has {size:,}"
    before, after = arrays["observations"].shape, arrays["next_observations"].shape
    if before != after:
        return f"next_observations: shape {after}, and observations has {before}"
    return None


def check_finite(transitions: Transitions) -> Iterator[Finding]:
    """Every number is finite; an observation that the next row repeats is reported once."""
    arrays = {name: np.asarray(array) for name, array in vars(transitions).items()}
    following = arrays.pop("next_observations")
    for name, array in arrays.items():
        yield from validation.find_nonfinite(name, array)
    if validation.first_nonfinite(following) is not None:
        finite = np.all(np.isfinite(arrays["observations"]), axis=1)
        rows = np.flatnonzero(np.append(finite[1:], True))
        yield from validation.find_nonfinite("next_observations", following[rows], rows)


def fill_nonfinite(transitions: Transitions) -> Transitions:
    """The transitions, each number that is not finite replaced by the last finite one before it.

    The remaining checks can then be applied to faulty data too.
    """
    arrays = {name: np.asarray(array) for name, array in vars(transitions).items()}
    return replace(transitions, **{name: _fill(array) for name, array in arrays.items()})


def _fill(array: np.ndarray) -> np.ndarray:
    if validation.first_nonfinite(array) is None:
        return array
    columns = array.reshape(len(array), -1)
    finite = np.isfinite(columns)
    source = np.maximum.accumulate(np.where(finite, np.arange(len(columns))[:, None], -1), axis=0)
    first = np.argmax(finite, axis=0)  # the first finite one, where none is before
    filled = np.take_along_axis(columns, np.where(source < 0, first, source), axis=0)
    return np.nan_to_num(filled, nan=0.0, posinf=0.0, neginf=0.0).reshape(array.shape)


def check_ends(data: DatasetStatistics) -> Iterator[Finding]:
    """The ends of episodes are marked, with ones."""
    return validation.find_bad_ends("ends", data.array("ends"))


def check_lengths(data: DatasetStatistics) -> Iterator[Finding]:
    """Episodes are long enough for a window."""
    lengths, horizon = data.lengths, data.horizon
    short, longest = int(np.sum(lengths < horizon)), int(lengths.max())
    cut = f"{1 - data.window_share:.0%} of the windows"
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
            f"they teach nothing; {cut} drawn are cut by an episode's end",
            "lower agent.horizon, or join episodes that belong together",
        )
    elif data.window_share < 0.5:
        found = f"{cut} of {horizon} steps are cut by an episode's end"
        effect = "that share of every batch teaches nothing"
        remedy = "lower agent.horizon"
        yield Finding("windows-cut", "warn", found, effect, remedy)


def check_size(data: DatasetStatistics) -> Iterator[Finding]:
    """There are enough windows to learn from."""
    windows = data.whole_windows
    if 0 < windows < FEW_WINDOWS:
        yield Finding(
            "few-windows",
            "warn",
            f"{counted(windows, 'whole window')} of {data.horizon} steps, in "
            f"{counted(len(data.lengths), 'episode')}",
            "networks overfit within minutes, and the critic does not generalise",
            "collect more data, or choose small networks and few updates",
        )


def check_order(data: DatasetStatistics) -> Iterator[Finding]:
    """Within an episode, each row is followed by its next observation."""
    apart = data.changes.gap > GAP
    broken, rows = int(np.sum(apart)), len(data.transitions) - len(data.last)
    if not broken:
        yield from _check_shuffled(data)
        return
    found = (
        f"{broken:,} of {rows:,} rows are not followed by their next observation, the first is "
        f"row {int(np.argmax(apart)):,}"
    )
    if broken <= rows / 2:
        remedy = "mark the rows before a break as ends of episodes"
        yield Finding("ends-missing", "warn", f"ends: {found}", validation.CROSSING, remedy)
        return
    chunks = data.horizon > 1
    yield Finding(
        "rows-shuffled",
        "refuse" if chunks else "note",
        f"next_observations: {found}",
        "action chunks join steps that never followed each other"
        if chunks
        else "none with a horizon of 1; longer chunks cannot be learned from it",
        "keep the rows of an episode together, in the order of time",
    )


def _check_shuffled(data: DatasetStatistics) -> Iterator[Finding]:
    """Neighbours are nearer to each other than rows that were picked at random."""
    observations = data.array("observations")
    if len(observations) < 100 or len(observations) < 10 * len(data.lengths):
        return
    left, right = np.random.default_rng(0).integers(0, len(observations), (2, 2_000))
    difference = np.abs(observations[left] - observations[right]) / data.observations.width
    apart = np.median(np.mean(difference, axis=1))
    steps = float(np.median(data.changes.change))
    if apart > 0 and steps > 0.5 * apart:
        yield Finding(
            "rows-shuffled",
            "warn",
            f"observations: from one row to the next they change by {steps / apart:.0%} of the "
            "difference between any two rows",
            "if rows are shuffled, transitions and chunks are invalid",
            "keep the rows of an episode together, in the order of time",
        )


def check_duplicates(data: DatasetStatistics) -> Iterator[Finding]:
    """No episode occurs twice."""
    hashes = data.episode_hashes
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    copies = int(np.sum(counts - 1))
    if copies:
        row = int(data.starts[first[np.argmax(counts > 1)]])
        yield Finding(
            "episodes-duplicate",
            "warn",
            f"episodes: {copies:,} of {len(hashes):,} copy another bit by bit; one that is "
            f"copied begins in row {row:,}",
            "copies weigh more in every batch, and validation data may repeat training data",
            "drop the copies",
        )


@dataclass
class ShardHistory:
    """Lengths and episodes of the shards inspected so far."""

    lengths: list[int] = field(default_factory=list)
    shard_of: dict[int, int] = field(default_factory=dict)

    def compare(self, shard: int, data: DatasetStatistics) -> Iterator[Finding]:
        """Compares a shard with those before it, and adds it to them."""
        size = len(data.transitions)
        if self.lengths and size != self.lengths[0]:
            found = f"{size:,} transitions, and the first shard has {self.lengths[0]:,}"
            effect = "shards replace each other in the buffer and must be equally long"
            remedy = "cut the shards to one length"
            yield Finding("shards-unequal", "refuse", found, effect, remedy)
        hashes = np.unique(data.episode_hashes).tolist()
        known = [self.shard_of[episode] for episode in hashes if episode in self.shard_of]
        if known:
            yield Finding(
                "shards-duplicate",
                "warn",
                f"{len(known):,} of {counted(len(hashes), 'episode')} are in shard {known[0]} "
                "already",
                "the same data is learned from again in the place of new data",
                "replace the shard",
            )
        self.lengths.append(size)
        for episode in hashes:
            self.shard_of.setdefault(episode, shard)


def check_leakage(leaked: Bool[np.ndarray, " rows"]) -> Iterator[Finding]:
    """Validation rows are not in the training data; `leaked` marks those that are."""
    shared = int(leaked.sum())
    if shared > LEAK * len(leaked):
        yield Finding(
            "validation-leak",
            "warn",
            f"{shared:,} of {counted(len(leaked), 'validation row')} are in the training data "
            "bit by bit",
            "metrics on the validation data are too good: these rows were trained on",
            "split the data again, by episodes",
        )
