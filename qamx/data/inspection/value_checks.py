"""Checks of observations, actions and rewards."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from qamx._utils.finding import Finding, counted, listed
from qamx.data.inspection.statistics import (
    ColumnStatistics,
    DatasetStatistics,
    explained_variance,
    sample,
)
from qamx.data.validation import Entries, Marked, find_out_of_range, first_row

# Thresholds. Distances from the middle are in widths of the middle 99%.
LARGE = 100.0  # size of an entry beyond which networks hardly learn from raw units
UNEVEN = 1e3  # deviation of an entry, in multiples of the typical entry's, that is uneven
FAR = 100.0  # distance from the middle of an outlier among observations
STILL_RUN, STILL_SHARE = 10, 0.01  # rows in a run without any change, share of all in such runs
LEAP, MOST_LEAPS = 2.0, 0.01  # a jump, in usual largest changes; share of rows that may be jumps
BOUND = 0.999  # size from which an action counts as at its bound
SATURATED, SWITCH = 0.7, 0.99  # shares of the rows at a bound: a saturated entry's, a switch's
NARROW = 0.05  # reach below which an entry uses next to nothing of its range
SHIFTED = 1.5  # variance explained by a neighbouring step's action, over that of the row's own
LARGE_REWARD = 100.0  # root mean square too large for the values of an untrained critic
FAR_REWARD = 1_000.0  # distance from the middle of an outlier among rewards

_UNKNOWN_ACTIONS = "the critic knows no other value, and a policy that climbs it will try them"
_LEAVE_OUT = "leave them out of the action, in the data and the environment"


def at_bound(actions: Float[np.ndarray, "rows act"]) -> Bool[np.ndarray, "rows act"]:
    """Marks actions at ±1, up to rounding."""
    return np.abs(actions) >= BOUND


def _entries(marked: Marked) -> str:
    """`in 2 of 7 dimensions (0, 3)`."""
    entries = np.flatnonzero(marked)
    return f"in {len(entries)} of {len(marked)} dimensions ({listed(entries)})"


# --- observations ---


def check_constant_observations(data: DatasetStatistics) -> Iterator[Finding]:
    """Every entry varies, by more than rounding."""
    effect = (
        "the policy is blind: it can learn no more than one action"
        if data.observations.constant.all()
        else "they teach nothing, and a value that differs at test time drives the networks "
        "where they were never trained"
    )
    remedy = "leave them out, or check whether a sensor was off"
    return _find_constant("observations", data.observations, effect, remedy)


def _find_constant(
    name: str, columns: ColumnStatistics, effect: str, remedy: str
) -> Iterator[Finding]:
    constant, marked = columns.constant, columns.nearly_constant
    if constant.any():
        found = f"{name}: constant {_entries(constant)}"
        yield Finding(f"{name}-constant", "warn", found, effect, remedy)
    yield from find_nearly_constant(name, marked, columns.mean, columns.deviation)


def find_nearly_constant(
    name: str, marked: Marked, middle: Entries, deviation: Entries
) -> Iterator[Finding]:
    """Reports entries of observations or actions that hardly vary, in the data's units."""
    if not marked.any():
        return
    first = int(np.argmax(marked))
    effect, remedy = _UNKNOWN_ACTIONS, _LEAVE_OUT
    if name == "observations":
        effect = (
            "they teach next to nothing, and a value that differs at test time would drive the "
            "networks where they were never trained: normalisation centres them, and does not "
            "enlarge them"
        )
        remedy = (
            "leave them out, or store them without their offset or in a smaller unit, in the data "
            "and the environment"
        )
    found = f"{name}: nearly constant {_entries(marked)}; dimension {first} has a std of "
    found += f"{deviation[first]:.2g} around {middle[first]:.4g}"
    yield Finding(f"{name}-nearly-constant", "warn", found, effect, remedy)


def check_scales(data: DatasetStatistics) -> Iterator[Finding]:
    """Entries are of comparable size."""
    # From the middle 99%: a single outlier is another fault.
    low, middle, high = data.observations.quantiles
    deviation = (high - low) / 5.0
    varied = deviation[deviation > 0]
    if not len(varied):
        return
    typical = np.hypot(middle, deviation)
    large = (typical > LARGE) | (deviation > UNEVEN * np.median(varied))
    if not large.any():
        return
    most = int(np.argmax(typical))
    yield Finding(
        "observations-unscaled",
        "warn",
        f"observations: far larger than 1 or than the others {_entries(large)}; dimension {most} "
        f"is typically {typical[most]:.3g}",
        "large dimensions dominate the small ones, and networks learn slowly or diverge",
        "write data.normalise_observations = true",
    )


def check_outliers(data: DatasetStatistics) -> Iterator[Finding]:
    """No value lies beyond all proportion to the entry's own spread and the typical one."""
    columns = data.observations
    low, middle, high = columns.quantiles
    spread = high - low
    varied = spread[spread > 0]
    common = np.median(varied) if len(varied) else 0.0
    reach = np.maximum(columns.high - middle, middle - columns.low)
    far = reach > FAR * np.maximum(np.maximum(spread, common), 1e-6)
    if not far.any():
        return
    entry = int(np.argmax(np.maximum(columns.high, -columns.low) * far))
    value = max(columns.high[entry], columns.low[entry], key=abs)
    row = int(np.argmax(data.array("observations")[:, entry] == np.float32(value)))
    more = int(far.sum()) - 1
    yield Finding(
        "observations-outliers",
        "warn",
        f"observations: {value:.4g} in row {row:,}, dimension {entry}, where 99% lie between "
        f"{low[entry]:.4g} and {high[entry]:.4g}"
        + (f"; {more} more dimensions have such values" if more else ""),
        "one such row makes a step of the optimiser that undoes many, and spoils the mean and "
        "standard deviation of normalisation",
        "correct the row or remove the episode",
    )


def check_still(data: DatasetStatistics) -> Iterator[Finding]:
    """Observations change from step to step."""
    if data.observations.constant.all():
        return
    still = np.concatenate([[False], data.changes.change == 0.0, [False]])
    turns = np.flatnonzero(still[1:] != still[:-1])
    begins, ends = turns[::2], turns[1::2]
    long = ends - begins >= STILL_RUN
    share = np.sum((ends - begins)[long]) / len(data.transitions)
    if share <= STILL_SHARE:
        return
    yield Finding(
        "observations-frozen",
        "warn",
        f"observations: nothing changes in {counted(int(long.sum()), 'run')} of {STILL_RUN} rows "
        f"or more, {share:.0%} of all, the first from row {int(begins[long][0]):,} on",
        "actions seem to do nothing there: values spread over rows that a real state would tell "
        "apart",
        "cut the rows out where a sensor or the simulation stood still",
    )


def check_jumps(data: DatasetStatistics) -> Iterator[Finding]:
    """States do not jump inside an episode."""
    if data.has_teleports or len(data.transitions) < 100:
        return
    leap = data.changes.leap
    count, row = int(np.sum(leap > LEAP)), int(np.argmax(leap))
    # Where many rows leap, that is how this environment moves; and shuffled rows are another fault.
    if not 0 < count <= MOST_LEAPS * len(leap):
        return
    yield Finding(
        "observations-jump",
        "warn",
        f"observations: {counted(count, 'jump')} in mid-episode, the largest in row {row:,}: "
        f"{leap[row]:.1f} times the change that 99% of the rows stay below, on average over the "
        "dimensions",
        "the critic learns values across steps that no action can make: rows are missing, or an "
        "episode's end is not marked",
        "mark an end before each jump, or restore the rows",
    )


# --- actions ---


def check_range(data: DatasetStatistics) -> Iterator[Finding]:
    """Actions lie in [-1, 1]."""
    return find_out_of_range(data.array("actions"))


def check_saturation(data: DatasetStatistics) -> Iterator[Finding]:
    """Actions are not mostly at their bounds, except for switches."""
    share = np.mean(at_bound(sample(data.array("actions"))), axis=0)
    saturated = share > SATURATED
    if not saturated.any():
        return
    found = f"actions: at ±1 in {share[saturated].min():.0%} of the rows or more, "
    found += _entries(saturated)
    if np.all(share[saturated] > SWITCH) and 2 * saturated.sum() <= len(share):
        effect = "none if it is a switch, such as a gripper"
        yield Finding("actions-saturated", "note", found, effect)
        return
    yield Finding(
        "actions-saturated",
        "warn",
        found,
        "what was clipped is lost, and policies that squash with tanh are driven to where "
        "their gradient vanishes",
        'restore what was clipped, and have it scaled: data.scale_actions = "data"',
    )


def check_constant_actions(data: DatasetStatistics) -> Iterator[Finding]:
    """Every entry varies, by more than rounding."""
    return _find_constant("actions", data.actions, _UNKNOWN_ACTIONS, _LEAVE_OUT)


def check_narrow(data: DatasetStatistics) -> Iterator[Finding]:
    """Actions use their range."""
    columns = data.actions
    reach = np.maximum(columns.high, -columns.low)
    narrow = (reach < NARROW) & ~columns.constant & ~columns.nearly_constant
    if narrow.any():
        found = f"actions: within ±{reach[narrow].max():.2g} {_entries(narrow)}"
        effect = "compared with the noise that a flow starts from, they are all one action"
        remedy = 'have their range scaled: data.scale_actions = "data"'
        yield Finding("actions-narrow", "warn", found, effect, remedy)


def check_causes(data: DatasetStatistics) -> Iterator[Finding]:
    """Actions explain the change that follows them, better than the actions of a step before or
    after."""
    share = explained_variance(data)
    if share is None:
        return
    for name, neighbour, shift in (("before", share.before, "on"), ("after", share.after, "back")):
        if neighbour > SHIFTED * max(share.own, share.chance):
            yield Finding(
                "actions-shifted",
                "warn",
                f"actions: the one a step {name} explains {neighbour / max(share.own, 1e-9):.1f} "
                "times as much of a change as the row's own",
                "the critic learns what other actions did: chunks look backwards or ahead",
                f"shift the actions by one row {shift}: a row has the action that was taken in its "
                "observation",
            )
            return
    if share.own < 3 * share.chance:
        yield Finding(
            "actions-unrelated",
            "warn",
            "actions: they explain no more of what follows than chance would (by a linear model)",
            "the critic can learn nothing about actions",
            "check that actions and observations are of the same episodes, in the same order",
        )


# --- rewards and masks ---


def check_masks(data: DatasetStatistics) -> Iterator[Finding]:
    """Masks are 0 where nothing is bootstrapped, else 1, and mostly 1."""
    masks = data.array("masks")
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
    if zero <= len(masks) / 2 or len(data.lengths) > len(masks) / 2:
        return
    yield Finding(
        "masks-inverted",
        "refuse" if zero == len(masks) else "warn",
        f"masks: 0 in {zero:,} of {len(masks):,} rows",
        "nothing is bootstrapped there: values are those of the next reward alone",
        "write 0 where the episode terminates by itself, else 1 (not the other way round)",
    )


def check_rewards(data: DatasetStatistics) -> Iterator[Finding]:
    """Rewards differ, and are of a size that can be learned."""
    rewards = data.array("rewards")
    low, high = float(rewards.min()), float(rewards.max())
    if low == high:
        yield from _constant_reward(low, data)
        return
    size = float(np.sqrt(np.mean(np.square(rewards, dtype=np.float64))))
    least, median, most = np.quantile(sample(rewards), (0.005, 0.5, 0.995))
    if max(high - median, median - low) > FAR_REWARD * max(most - least, 1.0):
        row = int(np.argmax(np.abs(rewards - median)))
        yield Finding(
            "rewards-outliers",
            "warn",
            f"rewards: {rewards[row]:.4g} in row {row:,}, where 99% lie between {least:.4g} and "
            f"{most:.4g}",
            "the critic fits that row and nothing else",
            "correct the row or remove the episode",
        )
    elif size > LARGE_REWARD:
        yield Finding(
            "rewards-unscaled",
            "warn",
            f"rewards: typically {size:.3g}, from {low:.4g} to {high:.4g}",
            "values are many times larger still, and an untrained critic needs long to reach them",
            f"write environment.reward_scale = {1 / 10 ** np.round(np.log10(size)):.0e}",
        )


def _constant_reward(reward: float, data: DatasetStatistics) -> Iterator[Finding]:
    """Reports a single reward, unless the length of the episodes makes returns differ."""
    terminates = bool(np.any(data.array("masks") == 0))
    if terminates and reward != 0:
        return
    yield Finding(
        "rewards-constant",
        "warn",
        f"rewards: {reward:g} in all {len(data.transitions):,} rows"
        + ("" if terminates else ", and no row is marked as solved"),
        "every policy seems as good as every other: offline, there is nothing to learn but what "
        "the data does",
        "name a task that the data reaches, add data that does, or count on the online phase",
    )


def check_consistent_masks(data: DatasetStatistics) -> Iterator[Finding]:
    """Masks are 0 at the best reward alone, if few rewards occur and the best is rare.

    The rarely reached best reward is taken for success: sparse rewards, and counts of subtasks.
    """
    counts = data.reward_counts
    if len(counts) < 2 or 2 * counts[max(counts)] > len(data.transitions):
        return
    best = data.array("rewards") == np.float32(max(counts))
    stopped = data.array("masks") == 0
    astray = stopped & ~best
    if astray.sum() > 0.01 * stopped.sum():
        yield Finding(
            "masks-inconsistent",
            "warn",
            f"masks: 0 in {astray.sum():,} of {counted(int(stopped.sum()), 'row')} whose reward is "
            f"not the best, the first is row {np.argmax(astray):,}",
            "the return stops where nothing was reached; if that is no failure, such states seem "
            "worse or better than they are",
            "write 0 in the row whose reward says that the task is solved, or ended for good",
        )
    at_end = int(np.sum(best[data.last]))
    if not stopped.any() and at_end > 0.9 * best.sum():
        yield Finding(
            "masks-never-zero",
            "warn",
            f"masks: never 0, although {counted(at_end, 'episode')} of {len(data.lengths):,} end "
            f"with the best reward, {max(counts):g}",
            "values are bootstrapped beyond the end, from states in which nothing was ever done",
            'write 0 where the task is solved (data.terminal = "success")',
        )
