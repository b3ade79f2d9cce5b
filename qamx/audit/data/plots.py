"""The figures of a report, as SVG that a page holds in itself."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from qamx.audit.data.inspector import Report
from qamx.data.inspection.report import Portrait, Rewarding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Two of Okabe and Ito's colours, apart for colour-blind readers, and a grey.
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"
MOST_ENTRIES = 24
"""Histograms of so many entries of the action; more could not be read."""

_STYLE: dict[Any, Any] = {  # keys are of a type that matplotlib's stubs alone have
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
}


def figures(report: Report) -> list[tuple[str, str, str]]:
    """Title, caption and SVG of each figure; matplotlib must be installed."""
    portrait = report.portrait
    if portrait is None:
        return []
    shown = min(len(portrait.saturation), MOST_ENTRIES)
    return [
        (
            "Episode lengths",
            f"A chunk has {report.horizon} steps (orange line).",
            _drawn(lambda figure: _lengths(figure, portrait, report.horizon), 2.6),
        ),
        (
            "Observations, entry by entry",
            "Blue bars hold the middle 99% of the values, dots are medians, thin lines reach "
            "from the smallest value to the largest.",
            _drawn(lambda figure: _ranges(figure, portrait), 3.2),
        ),
        (
            "Actions, entry by entry",
            "Share of the rows by value; orange: at ±1, where actions are cut off.",
            _drawn(lambda figure: _actions(figure, portrait, shown), 1.7 * _lines(shown) + 0.3),
        ),
        (
            "Rewards",
            "Rows by reward, on a logarithmic axis.",
            _drawn(lambda figure: _rewards(figure, report.rewards), 2.5),
        ),
    ]


def _drawn(draw: "Callable[[Figure], None]", height: float) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.5, height), layout="constrained")
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    text = file.getvalue()
    return text[text.index("<svg") :]


def _lengths(figure: "Figure", portrait: Portrait, horizon: int) -> None:
    axes = figure.add_subplot()
    top = int(portrait.lengths.max())
    axes.hist(portrait.lengths, bins=_edges(top), color=BLUE, edgecolor="white", linewidth=0.4)
    axes.axvline(horizon, color=ORANGE, linewidth=1.5)
    axes.set(xlabel="steps", ylabel="episodes", xlim=(0, top * 1.05))


def _edges(top: int) -> list[float]:
    """At most 50 bins of whole steps, the longest episode inside the last."""
    step = max(1, -(-top // 50))
    return [edge - 0.5 for edge in range(0, top + 2 * step, step)]


def _ranges(figure: "Figure", portrait: Portrait) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    low, high = portrait.observation_range
    least, middle, most = np.quantile(portrait.observations, (0.005, 0.5, 0.995), axis=0)
    entry = np.arange(len(low))
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.set_ylabel("value")
    axes.vlines(entry, low, high, color=GREY, linewidth=1)
    axes.bar(entry, most - least, 0.6, least, color=BLUE, alpha=0.55)
    axes.plot(entry, middle, ".", color="black", markersize=4)
    reach = np.maximum(np.abs(low), np.abs(high))
    if reach.max() > 50 * max(np.median(reach), 1e-9):
        axes.set_yscale("symlog", linthresh=max(float(np.median(reach)), 1e-6))
        axes.set_ylabel("value, logarithmic")
    axes.set(xlabel="entry", xlim=(-0.7, len(low) - 0.3))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _lines(panels: int, across: int = 6) -> int:
    return -(-panels // across)


def _actions(figure: "Figure", portrait: Portrait, shown: int) -> None:
    across = min(shown, 6)
    axes = figure.subplots(_lines(shown), across, sharex=True, squeeze=False).ravel()
    reach = max(1.0, float(np.abs(portrait.action_range).max()))
    for entry, panel in enumerate(axes[:shown]):
        _histogram(panel, portrait.actions[:, entry], reach)
        share = portrait.saturation[entry]
        panel.set_title(f"{entry}: {share:.0%} at ±1", color=ORANGE if share > 0.5 else "black")
    for panel in axes[shown:]:
        panel.set_visible(False)


def _histogram(panel: "Axes", values: np.ndarray, reach: float) -> None:
    edges = np.linspace(-reach, reach, 42).tolist()
    inside = np.abs(values) < 0.999
    weights = np.full(len(values), 1 / len(values))
    panel.hist(values[inside], edges, weights=weights[inside], color=BLUE)
    panel.hist(values[~inside], edges, weights=weights[~inside], color=ORANGE)
    panel.set_xlim(-1.04 * reach, 1.04 * reach)
    panel.tick_params(labelsize=7)


def _rewards(figure: "Figure", rewards: dict[str, Rewarding]) -> None:
    axes = figure.subplots(1, len(rewards), sharey=True, squeeze=False).ravel()
    for panel, (name, one) in zip(axes, rewards.items(), strict=True):
        if one.counts:
            values = list(one.counts)
            panel.bar(values, list(one.counts.values()), _width(values), color=BLUE)
            if len(values) <= 6:
                panel.set_xticks(values)
            panel.set_xlim(values[0] - _width(values), values[-1] + _width(values))
        else:
            scale = np.full(len(one.rewards), one.rows / len(one.rewards))
            panel.hist(one.rewards, 40, weights=scale, color=BLUE)
        panel.set_yscale("log")
        panel.set_ylim(bottom=0.5)
        panel.set(title=f"{name}: {one.solved_rows / one.rows:.1%} solved", xlabel="reward")
    axes[0].set_ylabel("rows")


def _width(values: list[float]) -> float:
    """Of bars that do not touch."""
    return 0.8 * min(np.diff(values), default=1.0)
