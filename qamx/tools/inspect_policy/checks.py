"""The table of checks of `qamx inspect`: measures, healthy ranges, faults and remedies."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace as Numbers
from typing import NamedTuple

import numpy as np

from qamx._utils.finding import Finding
from qamx.data.inspection.value_checks import at_bound
from qamx.data.transitions import AnyArray
from qamx.tools.inspect_policy.inspection import PolicyReport

Measure = Callable[[PolicyReport], Numbers | None]
"""Named numbers of a policy; None for a method that has none of them."""

DISAGREEMENT, DEAR, AT_BOUNDS, COLLAPSED, UNMATCHED = 3.0, 1.5, 0.7, 0.1, 0.85
WEAK_TILT, STRONG_TILT = 0.1, 100.0


class Fault(NamedTuple):
    """A condition on a check's numbers, with the effect on training and the remedy."""

    id: str
    when: Callable[[Numbers], bool]
    effect: str
    remedy: str


@dataclass(frozen=True)
class CheckResult:
    """A measured text, the healthy range, and the finding if the range is left."""

    name: str
    found: str
    healthy: str
    finding: Finding | None = None


@dataclass(frozen=True)
class PolicyCheck:
    """A row of the report; `found` and `healthy` are formats of the measured numbers."""

    name: str
    found: str
    healthy: str
    faults: tuple[Fault, ...]
    measure: Measure

    def run(self, report: PolicyReport) -> CheckResult | None:
        """The result, with the first fault that holds; None for a method without the numbers."""
        numbers = self.measure(report)
        if numbers is None:
            return None
        found, healthy = (text.format(**vars(numbers)) for text in (self.found, self.healthy))
        fault = next((fault for fault in self.faults if fault.when(numbers)), None)
        finding = fault and Finding(
            fault.id, "warn", f"{self.name}: {found}", fault.effect, fault.remedy
        )
        return CheckResult(self.name, found, healthy, finding)


CHECKS: list[PolicyCheck] = []
"""The checks from the critic, on which the others depend, to the policy."""


def check_results(report: PolicyReport) -> list[CheckResult]:
    """The results of all checks that the method has."""
    return [result for check in CHECKS if (result := check.run(report)) is not None]


def findings(report: PolicyReport) -> list[Finding]:
    """The findings of all checks, most fundamental first."""
    return [result.finding for result in check_results(report) if result.finding is not None]


def share_at_bound(actions: AnyArray) -> float:
    """The share of action entries at ±1."""
    return float(np.mean(at_bound(np.asarray(actions))))


def _check(name: str, found: str, healthy: str, *faults: Fault) -> Callable[[Measure], Measure]:
    def add(measure: Measure) -> Measure:
        CHECKS.append(PolicyCheck(name, found, healthy, faults, measure))
        return measure

    return add


@_check(
    "finite numbers",
    "{shown}",
    "all",
    Fault(
        "not-finite",
        lambda n: not n.finite,
        "no number below is meaningful",
        "lower the learning rate; the run's folder nonfinite/ has the update that broke it",
    ),
)
def _finite(report: PolicyReport) -> Numbers:
    broken = report.diagnostics.broken
    names = ", ".join(broken[:3]) + (f" and {len(broken) - 3:,} more" if broken[3:] else "")
    fault = f"not {names or 'the outputs of the networks'}"
    return Numbers(finite=report.finite, shown="all" if report.finite else fault)


@_check(
    "critic's values",
    "{mean:.4g}, from {least:.4g} to {most:.4g}, {outside:.0%} outside",
    "{low:.4g} to {high:.4g}: what rewards here add up to",
    Fault(
        "values-impossible",
        lambda n: n.outside > 0.05,
        "the critic diverges, and the policy follows it",
        "lower agent.learning_rate or agent.target_rate, raise agent.pessimism",
    ),
)
def _values(report: PolicyReport) -> Numbers | None:
    if report.attainable is None:
        return None
    low, high = report.attainable
    values = np.mean(report.diagnostics.acting.values, axis=0)
    margin = 0.1 * (high - low)
    outside = np.mean((values < low - margin) | (values > high + margin))
    mean, least, most = np.mean(values), np.min(values), np.max(values)
    return Numbers(mean=mean, least=least, most=most, low=low, high=high, outside=outside)


@_check(
    "critic at the data",
    "{value:.4g}; returns there {returns:.4g}",
    "at or above the data's returns",
    Fault(
        "values-low",
        lambda n: n.value < n.returns - 0.15 * n.width,
        "the critic has not learned yet, or pessimism adds up: good actions look bad",
        "train on, or lower agent.pessimism",
    ),
)
def _calibration(report: PolicyReport) -> Numbers | None:
    windows, values = report.windows, report.diagnostics.raw.window_values
    if windows is None or values is None or report.attainable is None:
        return None
    known = np.isfinite(windows.returns)
    if np.sum(known) < 10:
        return None
    value, returns = np.mean(np.mean(values, axis=0)[known]), np.mean(windows.returns[known])
    return Numbers(value=value, returns=returns, width=np.ptp(report.attainable))


@_check(
    "disagreement of the critics",
    "{policy:.3g} at the policy's actions, {reference:.3g} at the {whose}'s",
    f"up to {DISAGREEMENT:g} times that",
    Fault(
        "critics-disagree",
        lambda n: n.policy > DISAGREEMENT * n.reference,
        "the policy has found actions that the data do not cover: values are guesses",
        "raise agent.pessimism or agent.ensemble_size, or lower agent.inverse_temperature",
    ),
)
def _disagreement(report: PolicyReport) -> Numbers | None:
    acting, raw = report.diagnostics.acting, report.diagnostics.raw
    if len(acting.values) < 2:
        return None
    whose, values = "data", raw.window_values
    if values is None:
        whose, values = "base", raw.stages[0].values
    policy, reference = (np.mean(np.std(each, axis=0)) for each in (acting.values, values))
    return Numbers(policy=policy, reference=reference, whose=whose)


@_check(
    "tilt, tau x spread of Q",
    "{tilt:.3g} (tau {tau:.3g}, deviation of Q {deviation:.3g})",
    f"{WEAK_TILT:g} to {STRONG_TILT:g}, best 1 to 30",
    Fault(
        "tilt-weak",
        lambda n: n.tilt < WEAK_TILT,
        "exp(tau Q) prefers nothing: the policy stays a clone",
        "raise agent.inverse_temperature; if the critic is flat, look at the rewards first",
    ),
    Fault(
        "tilt-strong",
        lambda n: n.tilt > STRONG_TILT,
        "exp(tau Q) is a point: the policy plays the critic's largest error",
        "lower agent.inverse_temperature",
    ),
)
def _tilt(report: PolicyReport) -> Numbers | None:
    paths, base = report.diagnostics.raw.paths, report.diagnostics.base
    if paths is None or base is None:
        return None
    tau = float(paths.inverse_temperature)
    deviation = float(np.mean(np.std(np.mean(base.values, axis=0), axis=-1)))
    return Numbers(tau=tau, deviation=deviation, tilt=tau * deviation)


@_check(
    "path KL",
    "{total:.3g} nats a chunk, {per_step:.3g} a step, {per_entry:.3g} an entry",
    f"above 0, below {DEAR:g} tau x gain ({{tau_gain:.3g}})",
    Fault(
        "unchanged",
        lambda n: n.unchanged,
        "the fine-tuned flow is its base, bit by bit: the policy clones the data",
        "look at the phase: in a cloning phase this is as it should be",
    ),
    Fault(
        "kl-without-gain",
        lambda n: n.total > 1.0 and n.total > DEAR * n.tau_gain,
        "the fine-tuning has not converged, or chases a critic that changes faster than it learns",
        "train on; lower agent.inverse_temperature or agent.learning_rate",
    ),
    Fault(
        "far-from-base",
        lambda n: n.per_entry > 10.0,
        "the policy acts where there are no data, and the critic is guessing there",
        "lower agent.inverse_temperature, or raise agent.pessimism",
    ),
)
def _path_kl(report: PolicyReport) -> Numbers | None:
    if report.path_kls is None or report.tau_gain is None:
        return None
    total = float(np.mean(report.path_kls))
    return Numbers(
        unchanged=report.is_unchanged,
        total=total,
        per_step=total / report.horizon,
        per_entry=total / report.diagnostics.acting.actions.shape[-1],
        tau_gain=float(np.mean(report.tau_gain)),
    )


@_check(
    "critic's gain over the base",
    "{mean:+.3g} ± {error:.2g}, at {positive:.0%} of states positive",
    "positive",
    Fault(
        "no-gain",
        lambda n: n.mean <= n.error,
        "the critic does not prefer the policy's actions: nothing was extracted from it",
        "compare with the tilt; if that is healthy, train on, or raise the learning rate",
    ),
)
def _gain(report: PolicyReport) -> Numbers | None:
    gains = report.gains
    if gains is None or report.is_unchanged:
        return None
    error = 2 * np.std(gains) / np.sqrt(len(gains))
    return Numbers(mean=np.mean(gains), error=error, positive=np.mean(gains > 0))


@_check(
    "acts at the bounds",
    "{share:.0%} of the entries{known}",
    f"below {AT_BOUNDS:.0%}, or as the data",
    Fault(
        "saturated",
        lambda n: n.share > AT_BOUNDS and n.share > 1.5 * n.data,
        "the policy is pushed out of the box, where the critic has no gradient to bring it in",
        "lower agent.inverse_temperature; see that actions are scaled (data.scale_actions)",
    ),
)
def _bounds(report: PolicyReport) -> Numbers:
    share, data = share_at_bound(report.diagnostics.acting.actions), 0.0
    if report.windows is None:
        return Numbers(share=share, data=data, known="")
    data = share_at_bound(report.windows.actions)
    return Numbers(share=share, data=data, known=f" (data {data:.0%})")


@_check(
    "diversity of actions",
    "{acting:.2g}, the base's {base:.2g}",
    f"over {COLLAPSED:g} of the base's",
    Fault(
        "collapsed",
        lambda n: n.acting < COLLAPSED * n.base,
        "one action a state: nothing is explored, and multimodal behaviour is lost",
        "lower agent.inverse_temperature",
    ),
)
def _diversity(report: PolicyReport) -> Numbers | None:
    if report.diagnostics.base is None:
        return None
    stages = report.diagnostics.acting, report.diagnostics.base
    acting, base = (np.mean(np.std(stage.actions, axis=1)) for stage in stages)
    return Numbers(acting=acting, base=base)


@_check(
    "adjoint |g|",
    "{end:.3g} at t = 1, {start:.2g} at t = 0; none in {blocked:.0%} of entries",
    "not 0, largest near t = 1",
    Fault(
        "adjoint-zero",
        lambda n: n.end == 0.0,
        "there is nothing to learn from: the velocity is pulled back to its base",
        "the critic is flat, or every action is outside the box: see the rows above",
    ),
    Fault(
        "adjoint-explodes",
        lambda n: n.most > 10.0 * n.end,
        "early steps are regressed onto amplified noise",
        "the base flow is too steep: train it longer, or take more agent.flow_steps",
    ),
    Fault(
        "gradient-blocked",
        lambda n: n.blocked > 0.7,
        "entries without a gradient are outside the box; only the base brings them back",
        "lower agent.inverse_temperature",
    ),
)
def _adjoint(report: PolicyReport) -> Numbers | None:
    paths = report.diagnostics.raw.paths
    if paths is None or paths.adjoints is None:
        return None
    sizes, blocked = np.mean(paths.adjoints.norms, axis=(1, 2)), np.mean(paths.adjoints.blocked)
    return Numbers(start=sizes[0], most=sizes.max(), end=sizes[-1], blocked=blocked)


@_check(
    "adjoint matching leaves",
    "{left:.3g} of |sigma g|² = {target:.3g}",
    f"up to {UNMATCHED:g}, the noise of the paths",
    Fault(
        "not-matched",
        lambda n: n.left > UNMATCHED,
        "the fine-tuned flow does not follow the critic",
        "train on; if the tilt is strong lower it, if it is weak raise it",
    ),
)
def _residual(report: PolicyReport) -> Numbers | None:
    paths = report.diagnostics.raw.paths
    if paths is None or paths.adjoints is None or report.is_unchanged:
        return None
    squares = paths.adjoints.targets, paths.adjoints.residuals
    target, left = (float(np.mean(np.sum(square, axis=0))) for square in squares)
    return None if target == 0.0 else Numbers(target=target, left=left / target)
