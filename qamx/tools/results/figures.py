"""Figures of `qamx report`: curves, intervals, profiles."""

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from qamx._utils.html import PALE, PALETTE
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


def styles(labels: Sequence[str], highlight: Collection[str] = ()) -> Style:
    """A colour and dashes for each label, the same in all figures of a report.

    **Arguments:** `highlight` are the labels with a colour, drawn over the others, which are grey;
    all have one if it is empty.
    """
    chosen = [label for label in labels if label in highlight] or labels
    grey: Style = {label: (PALE, "-") for label in labels if label not in chosen}
    coloured: Style = {
        label: (PALETTE[i % len(PALETTE)], DASHES[(i // len(PALETTE)) % len(DASHES)])
        for i, label in enumerate(chosen)
    }
    return {**grey, **coloured}


NAMES, APART = 17, 6
"""Names beside a panel of the usual height, and the per cent of success from one to the next."""


def learning_curves(
    curves: Mapping[str, Mapping[str, Curve]], style: Style, boundaries: Sequence[int]
) -> "Figure":
    """Success over steps: a panel for each group, a named line with its band for each method.

    **Arguments:** `boundaries` are the last steps of all phases but the last.
    """
    count = len(curves)
    columns = 4 if count > 6 else 2 if count == 4 else min(count, 3)
    figure, axes = panels(-(-count // columns), columns, (3.6, 2.5 * max(1, len(style) / NAMES)))
    for axis, (name, group) in zip(axes, curves.items(), strict=False):
        drawn = [label for label in style if label in group and len(group[label].steps)]
        for label in drawn:
            draw_curve(axis, group[label], *style[label])
        for boundary in boundaries:
            axis.axvline(boundary, color="#888888", lw=0.8, ls=(0, (2, 2)))
        axis.set_title("all tasks" if name == ALL else name)
        ends = {label: (group[label].steps[-1], 100 * group[label].mean[-1]) for label in drawn}
        _name_ends(axis, ends, style)
    finish(axes, count, columns)
    return figure


def draw_curve(axis: "Axes", curve: Curve, colour: str, dashes: Dashes) -> None:
    """One method's line with its band; points where there are few."""
    marker = "o" if len(curve.steps) < 10 else ""
    line = {"color": colour, "linestyle": dashes, "lw": 1.4, "marker": marker, "ms": 3}
    axis.plot(curve.steps, 100 * curve.mean, clip_on=False, **line)
    axis.fill_between(
        curve.steps, 100 * curve.low, 100 * curve.high, color=colour, alpha=0.15, lw=0
    )


def _name_ends(axis: "Axes", ends: Mapping[str, tuple[int, float]], style: Style) -> None:
    """Names beside a panel, as near to the ends of their lines as they have room."""
    labels = sorted(ends, key=lambda label: ends[label][1])
    heights = apart([ends[label][1] for label in labels])
    for label, height in zip(labels, heights, strict=True):
        colour, dashes = style[label]
        leader = {"arrowstyle": "-", "color": colour, "linestyle": dashes, "lw": 0.6}
        axis.annotate(
            label,
            ends[label],
            (1.06, height),
            textcoords=axis.get_yaxis_transform(),
            va="center",
            fontsize=7.5,
            color="#777777" if colour == PALE else colour,
            annotation_clip=False,
            arrowprops=leader | {"relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 2},
        )


def apart(heights: Sequence[float]) -> Float[np.ndarray, " n"]:
    """The nearest heights, by least squares, that are `APART` or evenly spread over the axis.

    **Arguments:** `heights` rise, in per cent.
    """
    from scipy.optimize import isotonic_regression

    gap = min(APART, 100 / max(1, len(heights) - 1))
    steps = gap * np.arange(len(heights))
    room = max(0.0, 100 - gap * (len(heights) - 1))
    return np.clip(isotonic_regression(np.array(heights, float) - steps).x, 0, room) + steps


def aggregates(summary: Summary, style: Style) -> "Figure":
    """The mean and the interquartile mean of each method over all tasks, with intervals."""
    labels = summary.complete[::-1]
    figure, axes = _plain(1, 2, (7.5, 1.2 + 0.26 * len(labels)))
    columns = {"mean": summary.means, "interquartile mean": summary.interquartile}
    for axis, (title, estimates) in zip(axes, columns.items(), strict=True):
        for height, label in enumerate(labels):
            estimate = estimates[label, ALL]
            value, low, high = 100 * estimate.value, 100 * estimate.low, 100 * estimate.high
            axis.barh(height, high - low, left=low, height=0.55, color=style[label][0], alpha=0.45)
            ends = height - 0.28, height + 0.28
            axis.plot([value] * 2, ends, color="black", lw=1.6, clip_on=False)
        axis.set_title(title)
        axis.use_sticky_edges = False
        axis.set_xmargin(0.05)
        axis.set_xlim(max(0, axis.get_xlim()[0]), min(100, axis.get_xlim()[1]))
        axis.set_xlabel("success (%)")
        axis.set_yticks(range(len(labels)), labels)
        axis.set_ylim(-0.6, len(labels) - 0.4)
        axis.grid(visible=False, axis="y")
    axes[1].tick_params(labelleft=False)
    figure.suptitle(summary.phase_end.title, fontsize=10)
    return figure


def profiles(summary: Summary, style: Style) -> "Figure":
    """The share of runs above each success rate, with pointwise bands."""
    figure, axes = panels(1, 1, (6.5, 3.6), legend=len(style))
    x = 100 * THRESHOLDS
    shown: Style = {label: style[label] for label in style if label in summary.profiles}
    for label, (colour, dashes) in shown.items():
        profile = summary.profiles[label]
        axes[0].plot(x, profile.values, color=colour, linestyle=dashes)
        axes[0].fill_between(x, profile.low, profile.high, color=colour, alpha=0.12, lw=0)
    axes[0].set(xlabel="success rate τ (%)", ylabel="share of runs above τ", ylim=(0, 1))
    axes[0].set_title(summary.phase_end.title)
    legend(figure, shown, 4)
    return figure


def improvements(summary: Summary) -> "Figure":
    """The probability that the method of a row beats the method of a column."""
    labels = summary.complete
    size = 2.2 + 0.42 * len(labels)
    figure, axes = _plain(1, 1, (size + 0.6, size))
    table = 100 * np.array([[summary.wins[row, column] for column in labels] for row in labels])
    axes[0].imshow(table, cmap="PuOr", vmin=0, vmax=100)
    axes[0].grid(visible=False)
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
    rows: int, columns: int, panel: tuple[float, float], legend: int = 0
) -> "tuple[Figure, list[Axes]]":
    """A grid of panels with room for a legend of `legend` entries below."""
    width = max(columns * panel[0], 5.0)
    return _plain(rows, columns, (width, rows * panel[1] + 0.5 + 0.2 * -(-legend // 5)))


def finish(axes: "Sequence[Axes]", count: int, columns: int) -> None:
    """Shared scales, and labels at the border."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    for index, axis in enumerate(axes):
        axis.set_ylim(0, 100)
        axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.set_visible(index < count)
        if index % columns == 0:
            axis.set_ylabel("success (%)")
        if index + columns >= count:
            axis.set_xlabel("steps")


def legend(figure: "Figure", style: Style, columns: int) -> None:
    """One legend below the panels."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=c, linestyle=d, label=label) for label, (c, d) in style.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=columns, fontsize=8)
