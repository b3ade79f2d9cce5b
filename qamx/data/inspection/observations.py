"""Checks of observations: entries that say nothing, scales, outliers, and how they move."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from qamx._utils.finding import Finding, counted, listed
from qamx.data.inspection.columns import Columns
from qamx.data.inspection.facts import Facts

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
