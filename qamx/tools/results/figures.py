"""Figures of `qamx report`: curves, intervals, profiles."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from qamx._utils.html import BLUE, PALETTE
from qamx.tools.results import statistics
from qamx.tools.results.runs import ALL, Run, by_label, scores_at, shared_steps
from qamx.tools.results.statistics import THRESHOLDS, Summary, interval, resample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Curve:
    """The mean success rate of a method on a group of tasks at each step, and its interval."""

    steps: Int[np.ndarray, " steps"]
    mean: Float[np.ndarray, " steps"]
    low: Float[np.ndarray, " steps"]
    high: Float[np.ndarray, " steps"]


def curves(runs: Sequence[Run]) -> dict[str, dict[str, Curve]]:
    """The curves of each group (domains, and all tasks if there are several domains), by label.

    A curve is the mean of a label's complete runs, or, if these lack a task, of all that have not
    diverged, at the steps at which every one of them was evaluated.
    """
    domains = sorted({run.task.domain for run in runs})
    groups = {domain: [run for run in runs if run.task.domain == domain] for domain in domains}
    if len(domains) > 1:
        groups[ALL] = list(runs)
    return {name: _group_curves(group) for name, group in groups.items()}


def _group_curves(runs: Sequence[Run]) -> dict[str, Curve]:
    tasks = {run.task for run in runs}
    drawn: dict[str, Curve] = {}
    for label, every in by_label(runs).items():
        valid = [run for run in every if run.diverged is None]
        complete = [run for run in valid if run.problem is None]
        shown = complete if {run.task for run in complete} == tasks else valid
        if {run.task for run in shown} == tasks:
            drawn[label] = curve(label, shown)
    return drawn


def curve(label: str, runs: Sequence[Run]) -> Curve:
    """The curve of one label's runs, with pointwise intervals from the tables' resamples."""
    steps = shared_steps(runs)
    scores = [scores_at(runs, step) for step in steps]
    mean = [statistics.mean(list(rates.values())) for rates in scores]
    ends = [interval(statistics.mean(resample(label, rates))) for rates in scores]
    low, high = np.array(ends, float).reshape(-1, 2).T
    return Curve(np.array(steps, int), np.array(mean, float), low, high)


Dashes: TypeAlias = Literal["-", "--", ":"]

DASHES: tuple[Dashes, ...] = ("-", "--", ":")
"""Line styles of the first, second and third eight methods."""

Style = Mapping[str, tuple[str, Dashes]]
"""The colour and the dashes of each label."""


def styles(labels: Sequence[str]) -> Style:
    """A colour and dashes for each label, the same in all figures of a report."""
    return {
        label: (PALETTE[i % len(PALETTE)], DASHES[(i // len(PALETTE)) % len(DASHES)])
        for i, label in enumerate(labels)
    }


def learning_curves(
    curves: Mapping[str, Mapping[str, Curve]], style: Style, boundaries: Sequence[int]
) -> "Figure":
    """Success over steps: a panel for each group, a line with its band for each method.

    **Arguments:** `boundaries` are the last steps of all phases but the last.
    """
    count = len(curves)
    columns = 4 if count > 6 else 2 if count == 4 else min(count, 3)
    rows = -(-count // columns)
    figure, axes = panels(rows, columns, (3.1, 2.5), legend=len(style))
    for axis, (name, group) in zip(axes, curves.items(), strict=False):
        for label, curve in group.items():
            draw_curve(axis, curve, *style[label])
        for boundary in boundaries:
            axis.axvline(boundary / 1e6, color="#888888", lw=0.8, ls=(0, (2, 2)))
        axis.set_title("all tasks" if name == ALL else name, fontsize=9)
    finish(figure, axes, count, columns, style)
    return figure


def draw_curve(axis: "Axes", curve: Curve, colour: str, dashes: Dashes) -> None:
    """One method's line with its band."""
    steps = curve.steps / 1e6
    axis.plot(steps, 100 * curve.mean, color=colour, linestyle=dashes, lw=1.4)
    axis.fill_between(steps, 100 * curve.low, 100 * curve.high, color=colour, alpha=0.15, lw=0)


def aggregates(summary: Summary) -> "Figure":
    """The mean and the interquartile mean of each method over all tasks, with intervals."""
    labels = summary.complete[::-1]
    figure, axes = _plain(1, 2, (7.5, 1.2 + 0.26 * len(labels)))
    columns = {"mean": summary.means, "interquartile mean": summary.interquartile}
    for axis, (title, estimates) in zip(axes, columns.items(), strict=True):
        for height, label in enumerate(labels):
            estimate = estimates[label, ALL]
            value, low, high = 100 * estimate.value, 100 * estimate.low, 100 * estimate.high
            axis.barh(height, high - low, left=low, height=0.55, color=BLUE, alpha=0.35)
            axis.plot([value] * 2, [height - 0.28, height + 0.28], color="black", lw=1.6)
        axis.set_title(title, fontsize=10)
        axis.use_sticky_edges = False
        axis.set_xmargin(0.05)
        axis.set_xlabel("success (%)")
        axis.set_yticks(range(len(labels)), labels)
        axis.set_ylim(-0.6, len(labels) - 0.4)
        axis.grid(axis="x", color="#dddddd", lw=0.6)
    axes[1].tick_params(labelleft=False)
    figure.suptitle(summary.phase_end.title, fontsize=10)
    return figure


def profiles(summary: Summary, style: Style) -> "Figure":
    """The share of runs above each success rate, with pointwise bands."""
    figure, axes = panels(1, 1, (6.5, 3.6), legend=len(style))
    x = 100 * THRESHOLDS
    for label, profile in summary.profiles.items():
        colour, dashes = style[label]
        axes[0].plot(x, profile.values, color=colour, linestyle=dashes)
        axes[0].fill_between(x, profile.low, profile.high, color=colour, alpha=0.12, lw=0)
    axes[0].set(xlabel="success rate τ (%)", ylabel="share of runs above τ", ylim=(0, 1))
    axes[0].set_title(summary.phase_end.title, fontsize=10)
    legend(figure, {label: style[label] for label in summary.profiles}, 4)
    return figure


def improvements(summary: Summary) -> "Figure":
    """The probability that the method of a row beats the method of a column."""
    labels = summary.complete
    size = 2.2 + 0.42 * len(labels)
    figure, axes = _plain(1, 1, (size + 0.6, size))
    table = 100 * np.array([[summary.wins[row, column] for column in labels] for row in labels])
    axes[0].imshow(table, cmap="PuOr", vmin=0, vmax=100)
    centred = {"ha": "center", "va": "center", "fontsize": 8}
    for (row, column), value in np.ndenumerate(table):
        if row != column:
            colour = "white" if abs(value - 50) > 33 else "black"
            axes[0].text(column, row, f"{value:.0f}", color=colour, **centred)
    axes[0].set_xticks(range(len(labels)), labels, rotation=60, ha="right", rotation_mode="anchor")
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].set_title(f"P(row beats column), %\n{summary.phase_end.title}", fontsize=10)
    return figure


def save(figure: "Figure", folder: Path, name: str) -> bytes:
    """Writes PNG and PDF; returns the figure as SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("png", "pdf"):
        figure.savefig(folder / f"{name}.{suffix}", dpi=150)
    svg = io.BytesIO()
    figure.savefig(svg, format="svg")
    return svg.getvalue()


def _plain(rows: int, columns: int, size: tuple[float, float]) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, list(np.ravel(figure.subplots(rows, columns, squeeze=False)))


def panels(
    rows: int, columns: int, panel: tuple[float, float], legend: int
) -> "tuple[Figure, list[Axes]]":
    """A grid of panels with room for a legend of `legend` entries below."""
    width = max(columns * panel[0], 5.0)
    figure, axes = _plain(rows, columns, (width, rows * panel[1] + 0.5 + 0.2 * -(-legend // 5)))
    for axis in axes:
        axis.grid(color="#e5e5e5", lw=0.6)
        axis.tick_params(labelsize=8)
    return figure, axes


def finish(
    figure: "Figure", axes: "Sequence[Axes]", count: int, columns: int, style: Style
) -> None:
    """Shared scales, labels at the border, one legend."""
    from matplotlib.ticker import MaxNLocator

    for index, axis in enumerate(axes):
        axis.set_ylim(-2, 102)
        axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axis.set_visible(index < count)
        if index % columns == 0:
            axis.set_ylabel("success (%)", fontsize=9)
        if index + columns >= count:
            axis.set_xlabel("steps (millions)", fontsize=9)
    legend(figure, style, min(6, max(2, columns + 2)))


def legend(figure: "Figure", style: Style, columns: int) -> None:
    """One legend below the panels."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=c, linestyle=d, label=label) for label, (c, d) in style.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=columns, fontsize=8)
