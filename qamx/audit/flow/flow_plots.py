"""The figures of flows: the critic along them, what fine-tuning costs, adjoints, calibration."""

from typing import TYPE_CHECKING

import numpy as np

from qamx.audit.flow.drawing import ACTING, BASE, BETWEEN, DATA, GREEN, band, colours, widen
from qamx.audit.flow.paths import Adjoints, Paths
from qamx.audit.flow.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TIME = "flow time t (0 noise, 1 action)"


def draw_critic(figure: "Figure", report: Report) -> None:
    """The critic along each flow, from where each state's base starts."""
    axes = figure.subplots(1, 2, width_ratios=(1.6, 1))
    stages, lower = report.measures.found.stages, report.measures.lower
    for stage, name, colour in zip(
        stages, report.measures.names, colours(len(stages)), strict=True
    ):
        if stage.along is None:
            continue
        values = lower(stage.along)
        centred = values - _level(report)[None, :, None]
        band(axes[0], np.linspace(0, 1, len(values)), centred, colour, name)
    axes[0].axhline(0, color=DATA, lw=0.8)
    axes[0].set(xlabel=TIME, ylabel="pessimistic critic,\nabove the state's mean at noise")
    axes[0].legend()
    _draw_ends(axes[1], report)


def _level(report: Report) -> np.ndarray:
    """What each state is worth: the first flow's mean at its noise."""
    first = next(s.along for s in report.measures.found.stages if s.along is not None)
    return np.mean(report.measures.lower(first)[0], axis=-1)


def _draw_ends(axes: "Axes", report: Report) -> None:
    """What each state gains, state by state."""
    if report.gains is None:
        axes.set_visible(False)
        return
    order = np.argsort(report.gains)
    gains = report.gains[order]
    axes.bar(np.arange(len(gains)), gains, color=[ACTING if g > 0 else BASE for g in gains])
    axes.axhline(0, color="black", lw=0.8)
    axes.set(xlabel="states, in order", ylabel="critic's gain, acting less base", xticks=[])


def draw_costs(figure: "Figure", report: Report, paths: Paths) -> None:
    """Where along the flow, and at which states, the path KL arises."""
    axes = figure.subplots(1, 2)
    costs = np.asarray(paths.costs)
    times = np.arange(len(costs)) / len(costs)
    band(axes[0], times, costs, ACTING, "a step's part of the path KL")
    axes[0].set(xlabel=TIME, ylabel="nats in a step of the flow", xlim=(-0.02, 1.0))
    axes[0].legend(loc="upper left")
    kls, worth = report.path_kls, report.worth
    assert kls is not None
    assert worth is not None
    order, total = np.argsort(kls), float(np.mean(kls))
    axes[1].bar(np.arange(len(kls)), kls[order], color=ACTING, label="path KL")
    axes[1].plot(
        worth[order], "D", color="black", ms=3.5, label="tau x gain: its bound at the solution"
    )
    axes[1].axhline(total, color=DATA, ls="--", lw=1.2, label=f"mean {total:.3g} nats a chunk")
    axes[1].set(xlabel="states, in order", ylabel="nats a chunk", xticks=[])
    top = max(kls.max(), worth.max())
    axes[1].set_ylim(min(0.0, worth.min()), 1.4 * top if top > 0 else 1.0)
    axes[1].legend(loc="upper left")


def draw_adjoints(figure: "Figure", adjoints: Adjoints) -> None:
    """The adjoint's size along the flow, and what the regression leaves of it."""
    axes = figure.subplots(1, 2)
    norms = np.asarray(adjoints.norms)
    band(axes[0], np.linspace(0, 1, len(norms)), norms, BETWEEN, "|g|")
    axes[0].set(xlabel=TIME, ylabel="norm of the adjoint |g|")
    steps = np.arange(len(adjoints.targets)) / len(adjoints.targets)
    parts = (
        (adjoints.targets, BASE, "what is regressed onto, |sigma g|"),
        (adjoints.residuals, ACTING, "what is left of it"),
    )
    for squares, colour, label in parts:
        band(axes[1], steps, np.sqrt(np.asarray(squares)), colour, label)
    axes[1].set(xlabel=TIME, ylabel="norm", xlim=(-0.02, 1.0))
    for panel in axes:
        widen(panel, np.mean(norms, axis=(1, 2)))
        panel.legend(loc="best")


def draw_calibration(figure: "Figure", report: Report) -> None:
    """The critic against returns, and where its values lie."""
    axes = figure.subplots(1, 2)
    windows, found = report.windows, report.measures.found
    assert windows is not None
    values = report.measures.lower(np.asarray(found.window_values))
    known = np.isfinite(windows.returns)
    axes[0].plot(windows.returns[known], values[known], ".", color=DATA, ms=5, alpha=0.7)
    if known.any():
        ends = windows.returns[known].min(), windows.returns[known].max()
        axes[0].plot(ends, ends, color="black", lw=1, label="value = return")
        axes[0].legend(loc="best")
    axes[0].set(xlabel="return in the data", ylabel="pessimistic critic there")
    axes[0].set_title(f"{np.mean(known):.0%} of {len(known)} windows: the others' end too early")
    _draw_values(axes[1], report, values)


def _draw_values(axes: "Axes", report: Report, of_data: np.ndarray) -> None:
    stages = report.measures.found.stages
    groups = [(of_data, "data", DATA)] + [
        (report.measures.lower(stage.values).ravel(), name, colour)
        for stage, name, colour in zip(
            stages, report.measures.names, colours(len(stages)), strict=True
        )
    ]
    everything = np.concatenate([values for values, *_ in groups])
    edges = np.linspace(everything.min(), everything.max() + 1e-6, 32)
    for values, name, colour in groups:
        weights = np.full(len(values), 1 / len(values))
        axes.hist(values, edges, weights=weights, histtype="step", color=colour, lw=1.6, label=name)
    if report.attainable is not None:
        for index, edge in enumerate(report.attainable):
            label = None if index else "ends of what is attainable"
            axes.axvline(edge, color=GREEN, ls=":", lw=1.4, label=label)
    axes.set(xlabel="pessimistic critic", ylabel="share of the samples")
    axes.legend(loc="best")
