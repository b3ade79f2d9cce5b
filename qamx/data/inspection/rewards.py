"""Checks of rewards and masks: whether there is something to learn, and whether they agree."""

from collections.abc import Iterator

import numpy as np

from qamx._utils.finding import Finding, counted
from qamx.data.checks import first_row
from qamx.data.inspection.columns import sample
from qamx.data.inspection.facts import Facts

LARGE = 100.0
"""Root mean square beyond which rewards make values too large for a network's first guess."""

FAR = 1_000.0
"""Distance from the middle, in widths of the middle 99%, that makes an outlier."""


def check_masks(facts: Facts) -> Iterator[Finding]:
    """Masks are 0 where nothing is bootstrapped, else 1, and mostly 1."""
    masks = facts.array("masks")
    odd = first_row((masks != 0) & (masks != 1))
    if odd is not None:
        yield Finding(
            "masks-not-flags",
            "refuse" if masks.min() < 0 or masks.max() > 1 else "warn",
            f"masks: found {masks[odd]:g} in row {odd:,}",
            "it multiplies the value that follows, as a second discount",
            "write 0 where the episode terminates by itself, else 1",
        )
        return
    zero = int(np.sum(masks == 0))
    if zero <= len(masks) / 2 or len(facts.lengths) > len(masks) / 2:
        return
    yield Finding(
        "masks-inverted",
        "refuse" if zero == len(masks) else "warn",
        f"masks: 0 in {zero:,} of {len(masks):,} rows",
        "nothing is bootstrapped there: values are those of the next reward alone",
        "write 0 where the episode terminates by itself, else 1 (not the other way round)",
    )


def check_rewards(facts: Facts) -> Iterator[Finding]:
    """Rewards differ, and are of a size that can be learned."""
    rewards = facts.array("rewards")
    low, high = float(rewards.min()), float(rewards.max())
    if low == high:
        yield from _constant(low, len(rewards), bool(np.any(facts.array("masks") == 0)))
        return
    size = float(np.sqrt(np.mean(np.square(rewards, dtype=np.float64))))
    middle = sample(rewards)
    least, median, most = np.quantile(middle, (0.005, 0.5, 0.995))
    reach = max(high - median, median - low)
    if reach > FAR * max(most - least, 1.0):
        row = int(np.argmax(np.abs(rewards - median)))
        yield Finding(
            "rewards-outliers",
            "warn",
            f"rewards: {rewards[row]:.4g} in row {row:,}, where 99% lie between {least:.4g} and "
            f"{most:.4g}",
            "the critic fits that row and nothing else",
            "mend the row or drop the episode",
        )
    elif size > LARGE:
        yield Finding(
            "rewards-unscaled",
            "warn",
            f"rewards: typically {size:.3g}, from {low:.4g} to {high:.4g}",
            "values are many times larger still, and an untrained critic needs long to reach them",
            f"write environment.reward_scale = {1 / 10 ** np.round(np.log10(size)):.0e}",
        )


def _constant(reward: float, rows: int, terminates: bool) -> Iterator[Finding]:
    """What is said of one reward throughout: nothing if it matters when an episode terminates."""
    if terminates and reward != 0:
        return
    yield Finding(
        "rewards-constant",
        "warn",
        f"rewards: {reward:g} in all {rows:,} rows"
        + ("" if terminates else ", and no row is marked as solved"),
        "every policy seems as good as every other: offline, there is nothing to learn but what "
        "the data does",
        "name a task that the data reaches, add data that does, or count on the online phase",
    )


def check_agreement(facts: Facts) -> Iterator[Finding]:
    """Where few rewards occur and the best is rare, masks are 0 at the best alone.

    The rarely reached best reward is taken for success: sparse rewards, and counts of subtasks.
    """
    counts = facts.reward_counts
    if len(counts) < 2 or 2 * counts[max(counts)] > len(facts.transitions):
        return
    best = facts.array("rewards") == np.float32(max(counts))
    stopped = facts.array("masks") == 0
    if stopped.any():
        astray = stopped & ~best
        if astray.sum() > 0.01 * stopped.sum():
            yield _astray(int(astray.sum()), int(stopped.sum()), int(np.argmax(astray)))
        return
    at_end = int(np.sum(best[facts.last]))
    if at_end > 0.9 * best.sum():
        yield Finding(
            "masks-never-zero",
            "warn",
            f"masks: never 0, although {counted(at_end, 'episode')} of {len(facts.lengths):,} end "
            f"with the best reward, {max(counts):g}",
            "values are bootstrapped beyond the end, from states in which nothing was ever done",
            'write 0 where the task is solved (data.terminal = "success")',
        )


def _astray(astray: int, stopped: int, row: int) -> Finding:
    return Finding(
        "masks-inconsistent",
        "warn",
        f"masks: 0 in {astray:,} of {counted(stopped, 'row')} whose reward is not the best, the "
        f"first is row {row:,}",
        "the return stops where nothing was reached; if that is no failure, such states seem "
        "worse or better than they are",
        "write 0 in the row whose reward says that the task is solved, or ended for good",
    )
