"""All checks of transitions, in one order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from qamx._utils.finding import Finding
from qamx.data.inspection.actions import (
    check_causes,
    check_constant_actions,
    check_narrow,
    check_nearly_constant_actions,
    check_range,
    check_saturation,
)
from qamx.data.inspection.episodes import check_ends, check_lengths, check_order, check_size
from qamx.data.inspection.facts import Facts
from qamx.data.inspection.finiteness import check_finite, mended
from qamx.data.inspection.observations import (
    check_constant_observations,
    check_jumps,
    check_nearly_constant_observations,
    check_outliers,
    check_scales,
    check_still,
)
from qamx.data.inspection.repeats import check_duplicates
from qamx.data.inspection.rewards import check_agreement, check_masks, check_rewards
from qamx.data.inspection.shapes import check_shapes
from qamx.data.sequences import Transitions

Check: TypeAlias = Callable[[Facts], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    check_range,
    check_ends,
    check_lengths,
    check_masks,
    check_order,
    check_causes,
    check_outliers,
    check_constant_observations,
    check_nearly_constant_observations,
    check_still,
    check_rewards,
    check_agreement,
    check_scales,
    check_jumps,
    check_saturation,
    check_narrow,
    check_constant_actions,
    check_nearly_constant_actions,
    check_duplicates,
    check_size,
)
"""From what spoils a run most to what costs it least, among findings of one level."""


REWARD_CHECKS: tuple[Check, ...] = (check_masks, check_rewards, check_agreement)
"""Those that depend on the task."""


@dataclass(frozen=True)
class Examination:
    """What was found, and the facts if the form of the arrays allowed for any."""

    findings: tuple[Finding, ...]
    facts: Facts | None


def examine(
    transitions: Transitions, horizon: int, jumps: bool = False, checks: Sequence[Check] = CHECKS
) -> Examination:
    """Looks for everything that is wrong with transitions.

    **Arguments:** `horizon` is the length of the windows that will be drawn; `jumps` says that
    states do jump in this environment; `checks` are those beside form and finiteness.
    """
    findings = tuple(check_shapes(transitions))
    if findings:
        return Examination(findings, None)
    findings = tuple(check_finite(transitions))
    if findings:
        transitions = mended(transitions)
    facts = Facts(transitions, horizon, jumps)
    return Examination(
        (*findings, *(finding for check in checks for finding in check(facts))), facts
    )
