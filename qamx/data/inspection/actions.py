"""Checks of actions: range, saturation, use of the range, and whether they fit what follows."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from qamx._utils.finding import Finding, listed
from qamx.data.checks import LARGEST_ACTION, outside
from qamx.data.inspection.causality import explained
from qamx.data.inspection.columns import sample
from qamx.data.inspection.facts import Facts

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
