"""Checks of observations, actions and rewards."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from qamx._utils.finding import Finding, counted, listed
from qamx.data.inspection.statistics import Columns, Facts, explained, sample
from qamx.data.validation import LARGEST_ACTION, first_row, outside

LARGE = 100.0
"""Size of an entry beyond which networks hardly learn from raw units."""

UNEVEN = 1e3
"""How many times the typical entry's deviation another may have."""

FAR = 100.0
"""Distances from the middle, in widths of the middle 99%, that make an outlier."""

STILL_RUN, STILL_SHARE = 10, 0.01
"""Rows in a row without any change, and the share of all rows in such runs, to warn from."""

LEAP, MOST_LEAPS = 2.0, 0.01
"""A jump, in multiples of the usual largest change, and the share of rows that may be jumps."""


def check_constant_observations(facts: Facts) -> Iterator[Finding]:
    """Every entry varies."""
    constant = np.flatnonzero(facts.observations.constant)
    size = len(facts.observations.constant)
    if len(constant):
        yield Finding(
            "observations-constant",
            "warn",
            f"observations: constant in {len(constant)} of {size} entries ({listed(constant)})",
            "they teach nothing, and a value that differs at test time drives the networks where "
            "they were never trained"
            if len(constant) < size
            else "the policy is blind: it can learn no more than one action",
            "leave them out, or see whether a sensor was off",
        )


def check_nearly_constant_observations(facts: Facts) -> Iterator[Finding]:
    """Every entry that varies does so by more than rounding."""
    columns = facts.observations
    yield from nearly_constant_observations(
        columns.nearly_constant, columns.mean, columns.deviation
    )


def nearly_constant_observations(
    found: Bool[np.ndarray, " obs"],
    mean: Float[np.ndarray, " obs"],
    deviation: Float[np.ndarray, " obs"],
) -> Iterator[Finding]:
    """The finding about entries that hardly vary; their moments are those of the data's units."""
    entries = np.flatnonzero(found)
    if len(entries):
        yield Finding(
            "observations-nearly-constant",
            "warn",
            f"observations: nearly constant in {len(entries)} of {len(found)} entries "
            f"({listed(entries)}); entry {entries[0]} deviates by {deviation[entries[0]]:.2g} from "
            f"{mean[entries[0]]:.4g}",
            "they teach next to nothing, and a value that differs at test time would drive the "
            "networks where they were never trained: normalisation centres them, and does not "
            "enlarge them",
            "leave them out, or store them without their offset or in a smaller unit, in the data "
            "and the environment",
        )


def check_scales(facts: Facts) -> Iterator[Finding]:
    """Entries are of comparable size."""
    # From the middle 99%: a single outlier is another fault.
    low, middle, high = facts.observations.quantiles
    deviation = (high - low) / 5.0
    varied = deviation[deviation > 0]
    if not len(varied):
        return
    typical, uneven = np.hypot(middle, deviation), deviation > UNEVEN * np.median(varied)
    large = np.flatnonzero((typical > LARGE) | uneven)
    if not len(large):
        return
    most = int(np.argmax(typical))
    yield Finding(
        "observations-unscaled",
        "warn",
        f"observations: far larger than 1 or than the others in {len(large)} of {len(typical)} "
        f"entries ({listed(large)}); entry {most} is typically {typical[most]:.3g}",
        "large entries drown the others, and networks learn slowly or diverge",
        "write data.normalise_observations = true",
    )


def check_outliers(facts: Facts) -> Iterator[Finding]:
    """No value lies beyond all others."""
    columns = facts.observations
    far = _far(columns)
    if not far.any():
        return
    entry = int(np.argmax(np.maximum(columns.high, -columns.low) * far))
    value = columns.high[entry]
    if -columns.low[entry] > value:
        value = columns.low[entry]
    column = facts.array("observations")[:, entry]
    row = int(np.argmax(column == np.float32(value)))
    low, _, high = columns.quantiles[:, entry]
    yield Finding(
        "observations-outliers",
        "warn",
        f"observations: {value:.4g} in row {row:,}, entry {entry}, where 99% lie between "
        f"{low:.4g} and {high:.4g}" + _others(int(far.sum()) - 1),
        "one such row makes a step of the optimiser that undoes many, and spoils the mean and "
        "deviation of normalisation",
        "mend or drop the episode",
    )


def _others(number: int) -> str:
    return f"; {number} more entries have such values" if number else ""


def _far(columns: Columns) -> Bool[np.ndarray, " entries"]:
    """Entries with a value beyond all proportion to their own spread and the others'."""
    low, middle, high = columns.quantiles
    spread = high - low
    varied = spread[spread > 0]
    common = np.median(varied) if len(varied) else 0.0
    reach = np.maximum(columns.high - middle, middle - columns.low)
    return reach > FAR * np.maximum(np.maximum(spread, common), 1e-6)


def check_still(facts: Facts) -> Iterator[Finding]:
    """Observations change from step to step."""
    if facts.observations.constant.all():
        return
    still = np.concatenate([[False], facts.motion.change == 0.0, [False]])
    turns = np.flatnonzero(still[1:] != still[:-1])
    begins, ends = turns[::2], turns[1::2]
    long = ends - begins >= STILL_RUN
    rows = int(np.sum((ends - begins)[long]))
    if rows <= STILL_SHARE * len(facts.transitions):
        return
    yield Finding(
        "observations-frozen",
        "warn",
        f"observations: nothing changes in {counted(int(long.sum()), 'run')} of {STILL_RUN} rows "
        f"or more, {rows / len(facts.transitions):.0%} of all, the first from row "
        f"{int(begins[long][0]):,} on",
        "actions seem to do nothing there: values spread over rows that a real state would tell "
        "apart",
        "cut the rows out where a sensor or the simulation stood still",
    )


def check_jumps(facts: Facts) -> Iterator[Finding]:
    """States follow from the ones before them, without leaps in mid-episode."""
    if facts.jumps or len(facts.transitions) < 100:
        return
    leap = facts.motion.leap
    leaps = leap > LEAP
    count, row = int(leaps.sum()), int(np.argmax(leap))
    # Where many rows leap, that is how this environment moves; and shuffled rows are another fault.
    if not 0 < count <= MOST_LEAPS * len(leap):
        return
    yield Finding(
        "observations-jump",
        "warn",
        f"observations: {counted(count, 'jump')} in mid-episode, the largest in row {row:,}: "
        f"{leap[row]:.1f} times the change that 99% of the rows stay below, on average over the "
        "entries",
        "the critic learns values across steps that no action can make: rows are missing, or an "
        "episode's end is not marked",
        "mark an end before each jump, or restore the rows",
    )


BOUND = 0.999
"""From where on an action counts as standing at its bound."""

SATURATED, SWITCH = 0.7, 0.99
"""Shares of the rows at a bound that make an entry saturated, and a switch."""

NARROW = 0.05
"""Reach below which an entry uses next to nothing of its range."""

SHIFTED = 1.5
"""How many times as much a neighbouring step's action must explain to be suspected."""


def check_range(facts: Facts) -> Iterator[Finding]:
    """Actions lie in [-1, 1]."""
    wild = outside(facts.array("actions"), LARGEST_ACTION)
    if wild is not None:
        found, _, remedy = wild.text(wild.row).partition("; ")
        yield Finding(
            "actions-outside",
            "refuse",
            found,
            "policies act in [-1, 1], and can neither imitate nor judge such actions",
            remedy,
        )


def check_saturation(facts: Facts) -> Iterator[Finding]:
    """Actions are not mostly at their bounds, but for a switch among them."""
    share = np.mean(np.abs(sample(facts.array("actions"))) >= BOUND, axis=0)
    saturated = np.flatnonzero(share > SATURATED)
    if not len(saturated):
        return
    switches = bool(np.all(share[saturated] > SWITCH)) and 2 * len(saturated) <= len(share)
    yield Finding(
        "actions-saturated",
        "note" if switches else "warn",
        f"actions: at ±1 in {share[saturated].min():.0%} of the rows or more, in "
        f"{len(saturated)} of {len(share)} entries ({listed(saturated)})",
        "none if it is a switch, such as a gripper"
        if switches
        else "what was clipped is lost, and policies that squash with tanh are driven to where "
        "their gradient vanishes",
        ""
        if switches
        else 'restore what was clipped, and have it scaled: data.scale_actions = "data"',
    )


def check_constant_actions(facts: Facts) -> Iterator[Finding]:
    """Every entry of the actions varies."""
    constant = np.flatnonzero(facts.actions.constant)
    if len(constant):
        yield Finding(
            "actions-constant",
            "warn",
            f"actions: constant in {len(constant)} of {len(facts.actions.constant)} entries "
            f"({listed(constant)})",
            "the critic knows nothing of other values, and a policy that climbs it will try them",
            "leave them out of the action, in the data and the environment",
        )


def check_nearly_constant_actions(facts: Facts) -> Iterator[Finding]:
    """Every entry of the actions that varies does so by more than rounding."""
    columns = facts.actions
    yield from nearly_constant_actions(
        columns.nearly_constant,
        columns.low,
        columns.high,
        "the critic knows nothing of other values, and a policy that climbs it will try them",
        "leave them out of the action, in the data and the environment",
    )


def nearly_constant_actions(
    found: Bool[np.ndarray, " act"],
    low: Float[np.ndarray, " act"],
    high: Float[np.ndarray, " act"],
    effect: str,
    remedy: str,
) -> Iterator[Finding]:
    """The finding about entries that hardly vary."""
    entries = np.flatnonzero(found)
    if len(entries):
        one = entries[0]
        yield Finding(
            "actions-nearly-constant",
            "warn",
            f"actions: nearly constant in {len(entries)} of {len(found)} entries "
            f"({listed(entries)}); entry {one} lies within {(high[one] - low[one]) / 2:.2g} of "
            f"{(high[one] + low[one]) / 2:.4g}",
            effect,
            remedy,
        )


def check_narrow(facts: Facts) -> Iterator[Finding]:
    """Actions use their range."""
    columns = facts.actions
    reach = np.maximum(columns.high, -columns.low)
    narrow = np.flatnonzero((reach < NARROW) & ~columns.constant & ~columns.nearly_constant)
    if len(narrow):
        yield Finding(
            "actions-narrow",
            "warn",
            f"actions: within ±{reach[narrow].max():.2g} in {len(narrow)} of {len(reach)} entries "
            f"({listed(narrow)})",
            "beside the noise that a flow starts from they are all one action",
            'have their range scaled: data.scale_actions = "data"',
        )


def check_causes(facts: Facts) -> Iterator[Finding]:
    """Actions explain what follows them, better than those of the step before or after."""
    found = explained(facts)
    if found is None:
        return
    for steps, other, name in ((-1, found.before, "before"), (1, found.after, "after")):
        if other > SHIFTED * max(found.own, found.chance):
            yield Finding(
                "actions-shifted",
                "warn",
                f"actions: the one a step {name} explains {other / max(found.own, 1e-9):.1f} times "
                "as much of a change as the row's own",
                "the critic learns what other actions did: chunks look backwards or ahead",
                f"shift the actions by {'one row back' if steps > 0 else 'one row on'}: a row has "
                "the action that was taken in its observation",
            )
            return
    if found.own < 3 * found.chance:
        yield Finding(
            "actions-unrelated",
            "warn",
            "actions: they explain no more of what follows than chance would (by a linear model)",
            "the critic can learn nothing about actions",
            "see that actions and observations are of the same episodes, in the same order",
        )


LARGE_REWARD = 100.0
"""Root mean square beyond which rewards make values too large for a network's first guess."""

FAR_REWARD = 1_000.0
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
    if reach > FAR_REWARD * max(most - least, 1.0):
        row = int(np.argmax(np.abs(rewards - median)))
        yield Finding(
            "rewards-outliers",
            "warn",
            f"rewards: {rewards[row]:.4g} in row {row:,}, where 99% lie between {least:.4g} and "
            f"{most:.4g}",
            "the critic fits that row and nothing else",
            "mend the row or drop the episode",
        )
    elif size > LARGE_REWARD:
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
