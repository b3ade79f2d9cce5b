"""What a healthy policy shows, and what is said of one that does not."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qamx._utils.finding import Finding
from qamx.data.transitions import AnyArray
from qamx.tools.inspect_policy.report import PolicyReport

AT_BOUND = 0.999
"""An entry of an action that is this far out is played at the bound."""


@dataclass(frozen=True)
class CheckResult:
    """One thing that was looked at: what was found, what is healthy, and what is wrong, if so."""

    name: str
    found: str
    healthy: str
    finding: Finding | None = None


def check_results(report: PolicyReport) -> list[CheckResult]:
    """All that can be said of this method."""
    found = (check(report) for check in CHECKS)
    return [reading for reading in found if reading is not None]


def findings(report: PolicyReport) -> list[Finding]:
    """What is wrong, the gravest first."""
    found = [reading.finding for reading in check_results(report)]
    return [finding for finding in found if finding is not None]


def share_at_bound(actions: AnyArray) -> float:
    """The share of the entries of actions that are at the bounds."""
    return float(np.mean(np.abs(np.asarray(actions)) >= AT_BOUND))


def _warning(wrong: object, id: str, found: str, effect: str, remedy: str) -> Finding | None:
    return Finding(id, "warn", found, effect, remedy) if wrong else None


def _finite(report: PolicyReport) -> CheckResult:
    broken = report.diagnostics.broken
    found = f"{len(broken):,} arrays are not" if broken else ("all" if report.finite else "not all")
    return CheckResult(
        "finite numbers",
        found,
        "all",
        _warning(
            not report.finite,
            "not-finite",
            f"not finite: {', '.join(broken[:3]) or 'what the networks give'}"
            + (f" and {len(broken) - 3:,} more" if len(broken) > 3 else ""),
            "nothing below means anything",
            "lower the learning rate; the run's folder nonfinite/ has the update that broke it",
        ),
    )


def _change(report: PolicyReport) -> CheckResult | None:
    kls, worths = report.path_kls, report.tau_gain
    if kls is None or worths is None:
        return None
    per_entry = float(np.mean(kls)) / report.diagnostics.acting.actions.shape[-1]
    total, tau_gain = float(np.mean(kls)), float(np.mean(worths))
    unchanged = _warning(
        report.is_unchanged,
        "unchanged",
        "the fine-tuned flow is its base, bit by bit",
        "nothing is refined: the policy clones the data",
        "look at the phase: in a cloning phase this is as it should be",
    )
    far = _warning(
        per_entry > 10.0,
        "far-from-base",
        f"the paths are {per_entry:.3g} nats apart for each entry of the action",
        "the policy acts where the data say nothing, and the critic is guessing there",
        "lower agent.inverse_temperature, or raise agent.pessimism",
    )
    dear = _warning(
        total > 1.0 and total > 1.5 * tau_gain,
        "kl-without-gain",
        f"{total:.3g} nats for what is tau_gain {tau_gain:.3g} (tau x gain)",
        "the fine-tuning has not converged, or chases a critic that changes faster than it learns",
        "train on; lower agent.inverse_temperature or agent.learning_rate",
    )
    return CheckResult(
        "path KL",
        f"{total:.3g} nats a chunk, {total / report.horizon:.3g} a step",
        f"above 0, below tau x gain ({tau_gain:.3g})",
        unchanged or dear or far,
    )


def _tilt(report: PolicyReport) -> CheckResult | None:
    paths, base = report.diagnostics.raw.paths, report.diagnostics.base
    if paths is None or base is None:
        return None
    tau = float(paths.inverse_temperature)
    spread = float(np.mean(np.std(np.mean(base.values, axis=0), axis=-1)))
    tilt = tau * spread
    weak = _warning(
        tilt < 0.1,
        "tilt-weak",
        f"tau = {tau:.3g}, and the base's actions differ by {spread:.3g} in value",
        "exp(tau Q) prefers nothing: the policy stays a clone",
        "raise agent.inverse_temperature; if the critic is flat, look at the rewards first",
    )
    strong = _warning(
        tilt > 100.0,
        "tilt-strong",
        f"tau = {tau:.3g}, and the base's actions differ by {spread:.3g} in value",
        "exp(tau Q) is a point: the policy plays the critic's largest error",
        "lower agent.inverse_temperature",
    )
    return CheckResult(
        "tilt, tau x spread of Q", f"{tilt:.3g} (tau {tau:.3g})", "1 to 30", weak or strong
    )


def _gain(report: PolicyReport) -> CheckResult | None:
    gains = report.gains
    if gains is None or report.is_unchanged:
        return None
    mean, error = float(np.mean(gains)), float(np.std(gains)) / np.sqrt(len(gains))
    return CheckResult(
        "critic's gain over the base",
        f"{mean:+.3g} ± {2 * error:.2g}, at {np.mean(gains > 0):.0%} of states positive",
        "positive",
        _warning(
            mean <= 2 * error,
            "no-gain",
            f"what acts is worth {mean:+.3g} ± {2 * error:.2g} more than what it was refined from",
            "the critic does not prefer the policy's actions: nothing was extracted from it",
            "compare with the tilt; if that is healthy, train on, or raise the learning rate",
        ),
    )


def _bounds(report: PolicyReport) -> CheckResult:
    acting, beside = share_at_bound(report.diagnostics.acting.actions), _bound_of_data(report)
    known = "" if beside is None else f" (data {beside:.0%})"
    return CheckResult(
        "acts at the bounds",
        f"{acting:.0%} of the entries{known}",
        "below 70%, or as the data",
        _warning(
            acting > 0.7 and acting > 1.5 * (beside or 0.0),
            "saturated",
            f"{acting:.0%} of the entries of actions are at ±1{known}",
            "the policy is pushed out of the box, where the critic has no gradient to bring it in",
            "lower agent.inverse_temperature; see that actions are scaled (data.scale_actions)",
        ),
    )


def _bound_of_data(report: PolicyReport) -> float | None:
    windows = report.windows
    return None if windows is None else share_at_bound(windows.actions)


def _diversity(report: PolicyReport) -> CheckResult | None:
    base = report.diagnostics.base
    if base is None:
        return None
    acting, beside = (
        float(np.mean(np.std(stage.actions, axis=1))) for stage in (report.diagnostics.acting, base)
    )
    return CheckResult(
        "diversity of actions",
        f"{acting:.2g}, the base's {beside:.2g}",
        "over a tenth of the base's",
        _warning(
            acting < 0.1 * beside,
            "collapsed",
            f"samples at a state deviate by {acting:.2g}, the base's by {beside:.2g}",
            "one action a state: nothing is explored, and multimodal behaviour is lost",
            "lower agent.inverse_temperature",
        ),
    )


def _agreement(report: PolicyReport) -> CheckResult | None:
    acting, found = report.diagnostics.acting, report.diagnostics.raw
    if len(acting.values) < 2:
        return None
    data = found.window_values
    other, whose = (data, "data") if data is not None else (found.stages[0].values, "base")
    mine, theirs = (float(np.mean(np.std(values, axis=0))) for values in (acting.values, other))
    return CheckResult(
        "disagreement of the critics",
        f"{mine:.3g} at what acts, {theirs:.3g} at the {whose}'s actions",
        "up to three times that",
        _warning(
            mine > 3.0 * theirs,
            "critics-disagree",
            f"the critics deviate by {mine:.3g} at the policy's actions, by {theirs:.3g} at the "
            f"{whose}'s",
            "the policy has found actions that the data do not cover: values are guesses",
            "raise agent.pessimism or agent.ensemble_size, or lower agent.inverse_temperature",
        ),
    )


def _range(report: PolicyReport) -> CheckResult | None:
    if report.attainable is None:
        return None
    low, high = report.attainable
    values = np.mean(report.diagnostics.acting.values, axis=0)
    margin = 0.1 * (high - low)
    outside = float(np.mean((values < low - margin) | (values > high + margin)))
    return CheckResult(
        "critic's values",
        f"{np.mean(values):.4g}, from {np.min(values):.4g} to {np.max(values):.4g}",
        f"{low:.4g} to {high:.4g}: what rewards here add up to",
        _warning(
            outside > 0.05,
            "values-impossible",
            f"{outside:.0%} of the values are beyond what rewards of this size can add up to",
            "the critic diverges, and the policy follows it",
            "lower agent.learning_rate or agent.target_rate, raise agent.pessimism",
        ),
    )


def _calibration(report: PolicyReport) -> CheckResult | None:
    windows, found = report.windows, report.diagnostics.raw
    if windows is None or found.window_values is None or report.attainable is None:
        return None
    known = np.isfinite(windows.returns)
    if np.sum(known) < 10:
        return None
    values = np.mean(found.window_values, axis=0)[known]
    mean, returns = float(np.mean(values)), float(np.mean(windows.returns[known]))
    width = report.attainable[1] - report.attainable[0]
    return CheckResult(
        "critic at the data",
        f"{mean:.4g}; returns there {returns:.4g}",
        "at or above the data's returns",
        _warning(
            mean < returns - 0.15 * width,
            "values-low",
            f"the critic says {mean:.4g} where the data's returns are {returns:.4g}",
            "the critic has not learned yet, or pessimism adds up: good actions look bad",
            "train on, or lower agent.pessimism",
        ),
    )


def _adjoints(report: PolicyReport) -> CheckResult | None:
    paths = report.diagnostics.raw.paths
    if paths is None or paths.adjoints is None:
        return None
    norms, blocked = paths.adjoints.norms, float(np.mean(paths.adjoints.blocked))
    sizes = np.mean(norms, axis=(1, 2))
    start, most, end = float(sizes[0]), float(sizes.max()), float(sizes[-1])
    zero = _warning(
        end == 0.0,
        "adjoint-zero",
        "the critic's gradient is 0 at every path's end",
        "there is nothing to learn from: the velocity is pulled back to its base",
        "the critic is flat, or every action is outside the box: see the rows above",
    )
    exploding = _warning(
        end > 0.0 and most > 10.0 * end,
        "adjoint-explodes",
        f"|g_t| grows from {end:.3g} at t = 1 to {most:.3g}",
        "early steps are regressed onto amplified noise",
        "the base flow is too steep: train it longer, or take more agent.flow_steps",
    )
    outside = _warning(
        blocked > 0.7,
        "gradient-blocked",
        f"{blocked:.0%} of the entries at the paths' ends have no gradient: they are outside the "
        "box",
        "what is outside is not brought back by the critic, only by the base",
        "lower agent.inverse_temperature",
    )
    return CheckResult(
        "adjoint |g|",
        f"{end:.3g} at t = 1, {start:.2g} at t = 0; none in {blocked:.0%} of entries",
        "not 0, largest near t = 1",
        zero or exploding or outside,
    )


def _fit(report: PolicyReport) -> CheckResult | None:
    paths = report.diagnostics.raw.paths
    if paths is None or paths.adjoints is None or report.is_unchanged:
        return None
    target = float(np.mean(np.sum(paths.adjoints.targets, axis=0)))
    if target == 0.0:
        return None
    left = float(np.mean(np.sum(paths.adjoints.residuals, axis=0))) / target
    return CheckResult(
        "adjoint matching leaves",
        f"{left:.3g} of |sigma g|² = {target:.3g}",
        "0.1 to 0.8, the noise of the paths",
        _warning(
            left > 0.85,
            "not-matched",
            f"{left:.3g} of what the velocity is regressed onto is left",
            "the fine-tuned flow does not follow the critic",
            "train on; if the tilt is strong lower it, if it is weak raise it",
        ),
    )


CHECKS: tuple[Callable[[PolicyReport], CheckResult | None], ...] = (
    _finite,
    _range,
    _calibration,
    _agreement,
    _tilt,
    _change,
    _gain,
    _bounds,
    _diversity,
    _adjoints,
    _fit,
)
"""From the critic, which all else depends on, to what is made of it."""
