"""Checks of episodes: where they end, how long they are, and whether their rows are in order."""

from collections.abc import Iterator

import numpy as np

from qamx._utils.finding import Finding, counted
from qamx.data.checks import first_row
from qamx.data.inspection.facts import Facts

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
