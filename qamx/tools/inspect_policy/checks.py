"""The checks of `qamx inspect`: measures, healthy ranges, faults and remedies."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qamx._utils.finding import Finding
from qamx.data.inspection.value_checks import at_bound
from qamx.data.transitions import AnyArray
from qamx.tools.inspect_policy.inspection import PolicyReport

DISAGREEMENT, DEAR, AT_BOUNDS, COLLAPSED, UNMATCHED = 3.0, 1.5, 0.7, 0.1, 0.85
WEAK_TILT, STRONG_TILT = 0.1, 100.0

FAULTS = {
    "not-finite": (
        "no number below is meaningful",
        "lower the learning rate; the run's folder nonfinite/ has the update that broke it",
    ),
    "values-impossible": (
        "the critic diverges, and the policy follows it",
        "lower agent.learning_rate or agent.target_rate, raise agent.pessimism",
    ),
    "values-low": (
        "the critic has not learned yet, or pessimism adds up: good actions look bad",
        "train on, or lower agent.pessimism",
    ),
    "critics-disagree": (
        "the policy has found actions that the data do not cover: values are guesses",
        "raise agent.pessimism or agent.ensemble_size, or lower agent.inverse_temperature",
    ),
    "tilt-weak": (
        "exp(tau Q) prefers nothing: the policy stays a clone",
        "raise agent.inverse_temperature; if the critic is flat, look at the rewards first",
    ),
    "tilt-strong": (
        "exp(tau Q) is a point: the policy plays the critic's largest error",
        "lower agent.inverse_temperature",
    ),
    "unchanged": (
        "the fine-tuned flow is its base, bit by bit: the policy clones the data",
        "look at the phase: in a cloning phase this is as it should be",
    ),
    "kl-without-gain": (
        "the fine-tuning has not converged, or chases a critic that changes faster than it learns",
        "train on; lower agent.inverse_temperature or agent.learning_rate",
    ),
    "far-from-base": (
        "the policy acts where there are no data, and the critic is guessing there",
        "lower agent.inverse_temperature, or raise agent.pessimism",
    ),
    "no-gain": (
        "the critic does not prefer the policy's actions: nothing was extracted from it",
        "compare with the tilt; if that is healthy, train on, or raise the learning rate",
    ),
    "saturated": (
        "the policy is pushed out of the box, where the critic has no gradient to bring it in",
        "lower agent.inverse_temperature; see that actions are scaled (data.scale_actions)",
    ),
    "collapsed": (
        "one action a state: nothing is explored, and multimodal behaviour is lost",
        "lower agent.inverse_temperature",
    ),
    "adjoint-zero": (
        "there is nothing to learn from: the velocity is pulled back to its base",
        "the critic is flat, or every action is outside the box: see the rows above",
    ),
    "adjoint-explodes": (
        "early steps are regressed onto amplified noise",
        "the base flow is too steep: train it longer, or take more agent.flow_steps",
    ),
    "gradient-blocked": (
        "dimensions without a gradient are outside the box; only the base brings them back",
        "lower agent.inverse_temperature",
    ),
    "not-matched": (
        "the fine-tuned flow does not follow the critic",
        "train on; if the tilt is strong lower it, if it is weak raise it",
    ),
}
"""The effect on training and the remedy of each fault."""


@dataclass(frozen=True)
class CheckResult:
    """A measured text, the healthy range, and the finding if the range is left."""

    name: str
    found: str
    healthy: str
    finding: Finding | None = None


def check_results(report: PolicyReport) -> list[CheckResult]:
    """The results of all checks that the method has."""
    return [result for check in CHECKS if (result := check(report)) is not None]


def findings(report: PolicyReport) -> list[Finding]:
    """The findings of all checks, most fundamental first."""
    return [result.finding for result in check_results(report) if result.finding is not None]


def share_at_bound(actions: AnyArray) -> float:
    """The share of action entries at ±1."""
    return float(np.mean(at_bound(np.asarray(actions))))


def _result(
    name: str, found: str, healthy: str, faults: Mapping[str, bool | np.bool_]
) -> CheckResult:
    """The result, with the first fault that holds."""
    fault = next((fault for fault, holds in faults.items() if holds), None)
    finding = None if fault is None else Finding(fault, "warn", f"{name}: {found}", *FAULTS[fault])
    return CheckResult(name, found, healthy, finding)


def _finite(report: PolicyReport) -> CheckResult:
    broken = report.broken
    names = ", ".join(broken[:3]) + (f" and {len(broken) - 3:,} more" if broken[3:] else "")
    found = "all" if report.finite else f"not {names or 'the outputs of the networks'}"
    return _result("finite numbers", found, "all", {"not-finite": not report.finite})


def _values(report: PolicyReport) -> CheckResult | None:
    if report.attainable is None:
        return None
    low, high = report.attainable
    values = np.mean(report.acting.values, axis=0)
    margin = 0.1 * (high - low)
    outside = np.mean((values < low - margin) | (values > high + margin))
    return _result(
        "critic's values",
        f"{np.mean(values):.4g}, from {np.min(values):.4g} to {np.max(values):.4g}, "
        f"{outside:.0%} outside",
        f"{low:.4g} to {high:.4g}: what rewards here add up to",
        {"values-impossible": outside > 0.05},
    )


def _calibration(report: PolicyReport) -> CheckResult | None:
    windows, values = report.windows, report.found.window_values
    if windows is None or values is None or report.attainable is None:
        return None
    known = np.isfinite(windows.returns)
    if np.sum(known) < 10:
        return None
    value, returns = np.mean(np.mean(values, axis=0)[known]), np.mean(windows.returns[known])
    return _result(
        "critic at the data",
        f"{value:.4g}; returns there {returns:.4g}",
        "at or above the data's returns",
        {"values-low": value < returns - 0.15 * np.ptp(report.attainable)},
    )


def _disagreement(report: PolicyReport) -> CheckResult | None:
    if len(report.acting.values) < 2:
        return None
    whose, values = "data", report.found.window_values
    if values is None:
        whose, values = "base", report.found.stages[0].values
    policy, reference = (np.mean(np.std(each, axis=0)) for each in (report.acting.values, values))
    return _result(
        "disagreement of the critics",
        f"{policy:.3g} at the policy's actions, {reference:.3g} at the {whose}'s",
        f"up to {DISAGREEMENT:g} times that",
        {"critics-disagree": policy > DISAGREEMENT * reference},
    )


def _tilt(report: PolicyReport) -> CheckResult | None:
    if report.found.paths is None or report.base is None:
        return None
    tau = float(report.found.paths.inverse_temperature)
    deviation = float(np.mean(np.std(np.mean(report.base.values, axis=0), axis=-1)))
    tilt = tau * deviation
    return _result(
        "tilt, tau x spread of Q",
        f"{tilt:.3g} (tau {tau:.3g}, std of Q {deviation:.3g})",
        f"{WEAK_TILT:g} to {STRONG_TILT:g}, best 1 to 30",
        {"tilt-weak": tilt < WEAK_TILT, "tilt-strong": tilt > STRONG_TILT},
    )


def _path_kl(report: PolicyReport) -> CheckResult | None:
    if report.path_kls is None or report.tau_gain is None:
        return None
    total, tau_gain = float(np.mean(report.path_kls)), float(np.mean(report.tau_gain))
    per_step, per_entry = total / report.horizon, total / report.acting.actions.shape[-1]
    return _result(
        "path KL",
        f"{total:.3g} nats a chunk, {per_step:.3g} a step, {per_entry:.3g} a dimension",
        f"above 0, below {DEAR:g} tau x gain ({tau_gain:.3g})",
        {
            "unchanged": report.is_unchanged,
            "kl-without-gain": total > 1.0 and total > DEAR * tau_gain,
            "far-from-base": per_entry > 10.0,
        },
    )


def _gain(report: PolicyReport) -> CheckResult | None:
    gains = report.gains
    if gains is None or report.is_unchanged:
        return None
    mean, error = np.mean(gains), 2 * np.std(gains) / np.sqrt(len(gains))
    found = f"{mean:+.3g} ± {error:.2g}, at {np.mean(gains > 0):.0%} of states positive"
    return _result("critic's gain over the base", found, "positive", {"no-gain": mean <= error})


def _bounds(report: PolicyReport) -> CheckResult:
    share = share_at_bound(report.acting.actions)
    data = share_at_bound(report.windows.actions) if report.windows else 0.0
    return _result(
        "acts at the bounds",
        f"{share:.0%} of the entries" + (f" (data {data:.0%})" if report.windows else ""),
        f"below {AT_BOUNDS:.0%}, or as the data",
        {"saturated": share > AT_BOUNDS and share > 1.5 * data},
    )


def _diversity(report: PolicyReport) -> CheckResult | None:
    if report.base is None:
        return None
    acting, base = (np.mean(np.std(s.actions, axis=1)) for s in (report.acting, report.base))
    return _result(
        "diversity of actions",
        f"{acting:.2g}, the base's {base:.2g}",
        f"over {COLLAPSED:g} of the base's",
        {"collapsed": acting < COLLAPSED * base},
    )


def _adjoint(report: PolicyReport) -> CheckResult | None:
    if report.found.paths is None or (adjoints := report.found.paths.adjoints) is None:
        return None
    sizes, blocked = np.mean(adjoints.norms, axis=(1, 2)), np.mean(adjoints.blocked)
    start, end = sizes[0], sizes[-1]
    return _result(
        "adjoint |g|",
        f"{end:.3g} at t = 1, {start:.2g} at t = 0; zero in {blocked:.0%} of dimensions",
        "not 0, largest near t = 1",
        {
            "adjoint-zero": end == 0.0,
            "adjoint-explodes": sizes.max() > 10.0 * end,
            "gradient-blocked": blocked > 0.7,
        },
    )


def _residual(report: PolicyReport) -> CheckResult | None:
    paths = report.found.paths
    if paths is None or paths.adjoints is None or report.is_unchanged:
        return None
    squares = paths.adjoints.targets, paths.adjoints.residuals
    target, residual = (float(np.mean(np.sum(square, axis=0))) for square in squares)
    if target == 0.0:
        return None
    return _result(
        "unexplained adjoint target",
        f"{residual / target:.2f} of |sigma g|² = {target:.3g}",
        f"up to {UNMATCHED:g}, the noise of the paths",
        {"not-matched": residual / target > UNMATCHED},
    )


CHECKS = (
    *(_finite, _values, _calibration, _disagreement, _tilt, _path_kl),
    *(_gain, _bounds, _diversity, _adjoint, _residual),
)
"""The checks from the critic, on which the others depend, to the policy."""
