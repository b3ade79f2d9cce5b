"""Figures of `qamx report`: curves, intervals, profiles."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from qamx.errors import UserError
from qamx.tools.results import statistics
from qamx.tools.results.runs import ALL, Run, Task
from qamx.tools.results.statistics import THRESHOLDS, Estimate, Summary, interval, resample

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

    A curve is of the runs that are complete or, where a label has none on a task, of all that
    have not diverged. It has the steps at which all of these were evaluated, so that no step is a
    mean over fewer runs than another.
    """
    domains = sorted({run.task.domain for run in runs})
    groups = {domain: [run for run in runs if run.task.domain == domain] for domain in domains}
    if len(domains) > 1:
        groups[ALL] = list(runs)
    return {name: _of_group(group) for name, group in groups.items()}


def _of_group(runs: Sequence[Run]) -> dict[str, Curve]:
    tasks = {run.task for run in runs}
    found: dict[str, Curve] = {}
    for label in dict.fromkeys(run.label for run in runs):
        own = [run for run in runs if run.label == label and run.diverged is None]
        whole = [run for run in own if run.problem is None]
        shown = next((some for some in (whole, own) if {run.task for run in some} == tasks), None)
        if shown is not None:
            found[label] = curve(label, shown)
    return found


def curve(label: str, runs: Sequence[Run]) -> Curve:
    """The curve of one label's runs."""
    rates = [{row.step: row.success for row in run.evaluations} for run in runs]
    steps = sorted(set.intersection(*(set(one) for one in rates)))
    stacked: dict[Task, Float[np.ndarray, "runs steps"]] = {}
    for task in sorted({run.task for run in runs}):
        own = [one for one, run in zip(rates, runs, strict=True) if run.task == task]
        stacked[task] = np.array([[one[step] for step in steps] for one in own])
    mean = np.mean([table.mean(axis=0) for table in stacked.values()], axis=0)
    low, high = _band(label, stacked, len(steps))
    return Curve(np.array(steps, int), mean, low, high)


def _band(
    label: str, stacked: Mapping[Task, Float[np.ndarray, "runs steps"]], count: int
) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """The interval at each step by itself, from the same resamples as the tables'."""
    ends = [
        interval(statistics.mean(resample(label, {k: table[:, i] for k, table in stacked.items()})))
        for i in range(count)
    ]
    low, high = np.array(ends, float).reshape(count, 2).T
    return low, high


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D31")
"""Okabe and Ito's palette, which colour-blind readers can tell apart; its yellow is too pale for
lines, and a brown takes its place."""

Dashes: TypeAlias = Literal["-", "--", ":"]

DASHES: tuple[Dashes, ...] = ("-", "--", ":")
"""What tells methods apart once the colours are used up."""

Style = Mapping[str, tuple[str, Dashes]]
"""The colour and the dashes of each label."""


def styles(labels: Sequence[str]) -> Style:
    """A colour and dashes for each label, the same in all figures of a report."""
    return {
        label: (COLOURS[i % len(COLOURS)], DASHES[(i // len(COLOURS)) % len(DASHES)])
        for i, label in enumerate(labels)
    }


def learning_curves(
    curves: Mapping[str, Mapping[str, Curve]], style: Style, borders: Sequence[int]
) -> "Figure":
    """Success over steps: a panel for each group, a line with its band for each method.

    **Arguments:** `borders` are the steps at which one phase gives way to the next.
    """
    count = len(curves)
    columns = 4 if count > 6 else 2 if count == 4 else min(count, 3)
    rows = -(-count // columns)
    figure, axes = panels(rows, columns, (3.1, 2.5), legend=len(style))
    for axis, (name, group) in zip(axes, curves.items(), strict=False):
        for label, curve in group.items():
            draw_curve(axis, curve, *style[label])
        for border in borders:
            axis.axvline(border / 1e6, color="#888888", lw=0.8, ls=(0, (2, 2)))
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
    for axis, title, estimates in zip(
        axes, ("mean", "interquartile mean"), (summary.means, summary.interquartile), strict=True
    ):
        for height, label in enumerate(labels):
            _draw_interval(axis, height, estimates[label, ALL])
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


def _draw_interval(axis: "Axes", height: int, estimate: Estimate) -> None:
    low, high = 100 * estimate.low, 100 * estimate.high
    axis.barh(height, high - low, left=low, height=0.55, color=COLOURS[0], alpha=0.35)
    axis.plot([100 * estimate.value] * 2, [height - 0.28, height + 0.28], color="black", lw=1.6)


def profiles(summary: Summary, style: Style) -> "Figure":
    """The share of runs above each success rate, with pointwise bands."""
    figure, axes = panels(1, 1, (6.5, 3.6), legend=len(style))
    for label, profile in summary.profiles.items():
        colour, dashes = style[label]
        axes[0].plot(100 * THRESHOLDS, profile.values, color=colour, linestyle=dashes)
        axes[0].fill_between(
            100 * THRESHOLDS, profile.low, profile.high, color=colour, alpha=0.12, lw=0
        )
    axes[0].set(xlabel="success rate τ (%)", ylabel="share of runs above τ", ylim=(0, 1))
    axes[0].set_title(summary.phase_end.title, fontsize=10)
    _legend(figure, {label: style[label] for label in summary.profiles}, 4)
    return figure


def improvements(summary: Summary) -> "Figure":
    """The probability that the method of a row beats the method of a column."""
    labels = summary.complete
    size = 2.2 + 0.42 * len(labels)
    figure, axes = _plain(1, 1, (size + 0.6, size))
    table = np.array([[summary.wins[one, two] for two in labels] for one in labels])
    axes[0].imshow(100 * table, cmap="PuOr", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(100 * table):
        if row != column:
            colour = "white" if abs(value - 50) > 33 else "black"
            axes[0].text(
                column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8
            )
    axes[0].set_xticks(range(len(labels)), labels, rotation=60, ha="right", rotation_mode="anchor")
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].set_title(f"P(row beats column), %\n{summary.phase_end.title}", fontsize=10)
    return figure


def save(figure: "Figure", folder: Path, name: str) -> str:
    """Writes PNG and PDF; returns the figure as SVG, for a page."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("png", "pdf"):
        figure.savefig(folder / f"{name}.{suffix}", dpi=150)
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()


def _plain(rows: int, columns: int, size: tuple[float, float]) -> "tuple[Figure, list[Axes]]":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            'figures need matplotlib: pip install "qamx[plot]", or ask for --no-figures'
        ) from error
    figure = Figure(figsize=size, layout="constrained")
    return figure, list(np.ravel(figure.subplots(rows, columns, squeeze=False)))


def panels(
    rows: int, columns: int, panel: tuple[float, float], legend: int
) -> "tuple[Figure, list[Axes]]":
    """A grid with room for a legend of so many entries under it."""
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
    _legend(figure, style, min(6, max(2, columns + 2)))


def _legend(figure: "Figure", style: Style, columns: int) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=c, linestyle=d, label=label) for label, (c, d) in style.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=columns, fontsize=8)
