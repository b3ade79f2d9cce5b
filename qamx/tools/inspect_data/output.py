"""`qamx data inspect`: terminal, HTML and figures."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from qamx.data.inspection.report import Portrait, Rewarding
from qamx.tools.inspect_data.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

import json
from html import escape
from pathlib import Path

from qamx._utils.finding import counted
from qamx._utils.html import document, findings_table, require_matplotlib, table, write_text
from qamx._utils.terminal import print_findings, print_table
from qamx.errors import ExitCode, UserError
from qamx.tools.inspect_data.report import Options, find_subject, inspect

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
            _drawn(lambda figure: _draw_lengths(figure, portrait, report.horizon), 2.6),
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
            _drawn(lambda figure: _draw_rewards(figure, report.rewards), 2.5),
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


def _draw_lengths(figure: "Figure", portrait: Portrait, horizon: int) -> None:
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


def _draw_rewards(figure: "Figure", rewards: dict[str, Rewarding]) -> None:
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


TASK_HEADER = ("task", "rewards (rows)", "rows solved", "episodes solved")


def verdict(report: Report) -> str:
    """One line: what a run would do."""
    numbers = [report.count(level) for level in ("refuse", "warn", "note")]
    if numbers[0]:
        word = "a run refuses these data"
    elif numbers[1]:
        word = "a run starts with warnings"
    else:
        word = "sound"
    return f"{word} (refused: {numbers[0]}, warnings: {numbers[1]}, notes: {numbers[2]})"


def size_rows(report: Report) -> list[tuple[str, str]]:
    """What there is: a name and a text each."""
    looked, of = report.shards
    rows = [("shards", f"{looked:,} of {of:,} looked at")] if of > 1 else []
    if report.portrait is not None:
        rows += _portrait_rows(report.portrait, report.horizon)
    if report.validation_rows is not None:
        rows.append(("validation", counted(report.validation_rows, "transition")))
    return rows


def _portrait_rows(portrait: Portrait, horizon: int) -> list[tuple[str, str]]:
    low, high = portrait.observation_range
    least, most = portrait.action_range
    return [
        ("transitions", f"{portrait.rows:,}"),
        ("episodes", f"{len(portrait.lengths):,} of {_lengths(portrait.lengths)}"),
        ("windows", f"of {horizon} steps: {_share(portrait.window_share)} lie inside an episode"),
        ("observations", f"{len(low)} entries, from {low.min():.4g} to {high.max():.4g}"),
        ("actions", f"{len(least)} entries, from {least.min():.4g} to {most.max():.4g}"),
        ("at ±1", ", ".join(f"{share:.0%}" for share in portrait.saturation) + " of the rows"),
    ]


def _lengths(lengths: np.ndarray) -> str:
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest == longest:
        return counted(longest, "step")
    return f"{shortest:,} to {longest:,} steps, half of them at most {np.median(lengths):,.0f}"


def _share(share: float) -> str:
    return f"{share:.1%}" if share < 1 else "all"


def task_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """What each task rewards."""
    return [
        (
            name,
            _rewards(one),
            f"{one.solved_rows:,} ({one.solved_rows / one.rows:.1%})",
            f"{one.solved_episodes:,} of {one.episodes:,}",
        )
        for name, one in report.rewards.items()
    ]


def _rewards(one: Rewarding, most: int = 8) -> str:
    if not one.counts:
        return f"{one.low:.4g} to {one.high:.4g}, {np.mean(one.rewards):.4g} on average"
    texts = [f"{value:g}: {count:,}" for value, count in one.counts.items()]
    if len(texts) > most:
        left = len(texts) - most
        texts = [*texts[: most // 2], f"({left} more)", *texts[-most // 2 :]]
    return ", ".join(texts)


def write_page(report: Report, file: Path) -> None:
    """Writes the page.

    **Raises:** `UserError` without matplotlib, or if the file cannot be written.
    """
    require_matplotlib("--html")
    write_text("--html", file, page(report))


def page(report: Report) -> str:
    """The page as HTML."""

    figure_parts = [
        f"<h2>{escape(title)}</h2><figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"
        for title, caption, svg in figures(report)
    ]
    return document(
        report.name,
        [
            f'<p class="verdict">{escape(verdict(report))}</p>',
            findings_table(report.findings),
            "<h2>What there is</h2>",
            table((), size_rows(report)),
            "<h2>What the tasks reward</h2>" if report.rewards else "",
            table(TASK_HEADER, task_rows(report)) if report.rewards else "",
            *figure_parts,
        ],
    )


def print_report(report: Report) -> None:
    """Prints what there is, what was found, and the verdict."""
    sizes = size_rows(report)
    if sizes:
        print_table(report.name, ("", ""), sizes)
    else:
        print(report.name)
    if report.rewards:
        print()
        print_table("rewards", TASK_HEADER, task_rows(report))
    if report.findings:
        print()
        print_findings(report.findings, "what it is, what it does to training, what to do")
    print()
    print(verdict(report))


def inspect_data(
    source: str,
    options: Options,
    *,
    shards: int | None = None,
    html: Path | None = None,
    file: Path | None = None,
    strict: bool = False,
) -> int:
    """Prints a report on a data source, and writes it as a page or as JSON.

    **Arguments:** `shards` is how many are looked at; `file` takes the JSON; with `strict`, a
    warning fails as well.

    **Returns:** 0 if a run would start with the data, else 1.

    **Raises:** `UserError` if the source cannot be opened.
    """
    _check(options, shards, html)
    report = inspect(find_subject(source, options), shards)
    print_report(report)
    if html is not None:
        write_page(report, html)
    if file is not None:
        write_text("--json", file, json.dumps(report.to_dict(), indent=2) + "\n")
    failed = report.count("refuse") or (strict and report.count("warn"))
    return ExitCode.FAILED if failed else ExitCode.DONE


def _check(options: Options, shards: int | None, html: Path | None) -> None:
    """Refuses what can be refused before the data is read."""
    for name, number in (("--shards", shards), ("--horizon", options.horizon)):
        if number is not None and number < 1:
            raise UserError(f"{name}: found {number}; write a positive integer")
    if html is not None:
        require_matplotlib("--html")
