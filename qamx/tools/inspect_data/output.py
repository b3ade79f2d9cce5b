"""`qamx data inspect`: terminal, HTML page and figures."""

import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qamx._utils.finding import LEVELS, counted
from qamx._utils.html import (
    BLUE,
    GREY,
    ORANGE,
    document,
    findings_table,
    require_matplotlib,
    svg_figure,
    table,
    write_text,
)
from qamx._utils.terminal import print_findings, print_table
from qamx.data.inspection.summary import DatasetSummary, RewardSummary
from qamx.data.inspection.value_checks import at_bound
from qamx.errors import ExitCode, UserError
from qamx.tools.inspect_data.inspection import DataReport, find_target, inspect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASK_HEADER = ("task", "rewards (rows)", "rows solved", "episodes solved")

MOST_HISTOGRAMS = 24  # entries of the action with one; more would be too small to read
ACROSS = 6  # histograms in a row


def inspect_data(
    source: str,
    *,
    environment: str | None,
    task: int | None,
    horizon: int | None,
    shards: int | None,
    directory: Path | None,
    html: Path | None,
    file: Path | None,
    strict: bool,
) -> int:
    """Prints a report on a data source, and writes it as a page or as JSON.

    **Arguments:** as on the command line; what is None is the source's own; `file` takes the JSON;
    with `strict`, a warning fails as well.

    **Returns:** 0 if a run would start with the data, else 1.

    **Raises:** `UserError` if the source cannot be opened.
    """
    for name, number in (("--shards", shards), ("--horizon", horizon)):
        if number is not None and number < 1:
            raise UserError(f"{name}: found {number}; write a positive integer")
    if html is not None:
        require_matplotlib("--html")
    report = inspect(find_target(source, environment, task, horizon, directory), shards)
    print_report(report)
    if html is not None:
        write_text("--html", html, page(report))
    if file is not None:
        write_text("--json", file, json.dumps(report.to_dict(), indent=2) + "\n")
    failed = report.count("refuse") or (strict and report.count("warn"))
    return ExitCode.FAILED if failed else ExitCode.DONE


def print_report(report: DataReport) -> None:
    """Prints sizes, rewards, findings and the verdict."""
    if sizes := size_rows(report):
        print_table(report.name, ("", ""), sizes)
    else:
        print(report.name)
    if report.rewards:
        print()
        print_table("rewards", TASK_HEADER, task_rows(report))
    if report.findings:
        print()
        print_findings(report.findings)
    print()
    print(verdict(report))


def page(report: DataReport) -> str:
    """The report as HTML, with figures; matplotlib must be installed."""
    return document(
        report.name,
        [
            f'<p class="verdict">{escape(verdict(report))}</p>',
            findings_table(report.findings),
            "<h2>Data</h2>",
            table((), size_rows(report)),
            "<h2>Rewards</h2>" if report.rewards else "",
            table(TASK_HEADER, task_rows(report)) if report.rewards else "",
            *(figures(report, report.summary) if report.summary else ()),
        ],
    )


# --- texts ---


def verdict(report: DataReport) -> str:
    """The effect on a run, in one line."""
    refused, warnings, notes = map(report.count, LEVELS)
    effect = "usable, with warnings" if warnings else "OK, no problems"
    if refused:
        effect = "a run refuses this data"
    return f"{effect} (refused: {refused}, warnings: {warnings}, notes: {notes})"


def size_rows(report: DataReport) -> list[tuple[str, str]]:
    """Sizes and ranges: a name and a text each."""
    inspected, total = report.shards
    rows = [("shards", f"{inspected:,} of {total:,} inspected")] if total > 1 else []
    if (summary := report.summary) is not None:
        (low, high), (least, most) = summary.observation_range, summary.action_range
        share = f"{summary.window_share:.1%}" if summary.window_share < 1 else "all"
        shortest, longest = int(summary.lengths.min()), int(summary.lengths.max())
        lengths = counted(longest, "step")
        if shortest < longest:
            median = np.median(summary.lengths)
            lengths = f"{shortest:,} to {longest:,} steps, half of them at most {median:,.0f}"
        bound = ", ".join(f"{share:.0%}" for share in summary.saturation)
        rows += [
            ("transitions", f"{summary.rows:,}"),
            ("episodes", f"{len(summary.lengths):,} of {lengths}"),
            ("windows", f"of {report.horizon} steps: {share} lie inside an episode"),
            ("observations", f"{len(low)} dimensions, from {low.min():.4g} to {high.max():.4g}"),
            ("actions", _actions(report, least, most)),
            ("at ±1", f"{bound} of the rows"),
        ]
    if report.validation_rows is not None:
        rows.append(("validation", counted(report.validation_rows, "transition")))
    return rows


def _actions(report: DataReport, least: np.ndarray, most: np.ndarray) -> str:
    text = f"{len(least)} dimensions, from {least.min():.4g} to {most.max():.4g}"
    return f"{text}; {report.units}" if report.units else text


def task_rows(report: DataReport) -> list[tuple[str, str, str, str]]:
    """Rewards and successes of each task."""
    return [
        (
            name,
            _rewards(task),
            f"{task.solved_rows:,} ({task.solved_rows / task.rows:.1%})",
            f"{task.solved_episodes:,} of {task.episodes:,}",
        )
        for name, task in report.rewards.items()
    ]


def _rewards(task: RewardSummary, most: int = 8) -> str:
    if not task.counts:
        return f"{task.low:.4g} to {task.high:.4g}, {np.mean(task.rewards):.4g} on average"
    texts = [f"{value:g}: {count:,}" for value, count in task.counts.items()]
    if len(texts) > most:
        left = len(texts) - most
        texts = [*texts[: most // 2], f"({left} more)", *texts[-most // 2 :]]
    return ", ".join(texts)


# --- figures ---


def figures(report: DataReport, summary: DatasetSummary) -> list[str]:
    """The figures of the page."""
    lines = -(-min(len(summary.saturation), MOST_HISTOGRAMS) // ACROSS)
    return [
        svg_figure(
            "Episode lengths",
            f"A chunk has {report.horizon} steps (orange line).",
            2.6,
            lambda figure: _draw_lengths(figure, summary, report.horizon),
        ),
        svg_figure(
            "Observations by dimension",
            "Blue bars hold the middle 99% of the values, dots are medians, thin lines reach "
            "from the smallest value to the largest.",
            3.2,
            lambda figure: _draw_ranges(figure, summary),
        ),
        svg_figure(
            "Actions by dimension",
            "Share of the rows by value; orange: at ±1, where actions are cut off.",
            1.7 * lines + 0.3,
            lambda figure: _draw_actions(figure, summary, lines),
        ),
        svg_figure(
            "Rewards",
            "Rows by reward, on a logarithmic axis.",
            2.5,
            lambda figure: _draw_rewards(figure, report.rewards),
        ),
    ]


def _draw_lengths(figure: "Figure", summary: DatasetSummary, horizon: int) -> None:
    axes = figure.add_subplot()
    top = int(summary.lengths.max())
    step = max(1, -(-top // 50))  # at most 50 bins of whole steps, the longest inside the last
    edges = [edge - 0.5 for edge in range(0, top + 2 * step, step)]
    axes.hist(summary.lengths, bins=edges, color=BLUE, edgecolor="white", linewidth=0.4)
    axes.axvline(horizon, color=ORANGE, linewidth=1.5)
    axes.set(xlabel="steps", ylabel="episodes", xlim=(0, top * 1.05))


def _draw_ranges(figure: "Figure", summary: DatasetSummary) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    low, high = summary.observation_range
    least, middle, most = np.quantile(summary.observations, (0.005, 0.5, 0.995), axis=0)
    entry = np.arange(len(low))
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.set_ylabel("value")
    axes.vlines(entry, low, high, color=GREY, linewidth=1)
    axes.bar(entry, most - least, 0.6, least, color=BLUE, alpha=0.55)
    axes.plot(entry, middle, ".", color="black", markersize=4)
    reach = np.maximum(np.abs(low), np.abs(high))
    typical = float(np.median(reach))
    if reach.max() > 50 * max(typical, 1e-9):
        axes.set_yscale("symlog", linthresh=max(typical, 1e-6))
        axes.set_ylabel("value, logarithmic")
    axes.set(xlabel="dimension", xlim=(-0.7, len(low) - 0.3))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_actions(figure: "Figure", summary: DatasetSummary, lines: int) -> None:
    shown = min(len(summary.saturation), MOST_HISTOGRAMS)
    panels = figure.subplots(lines, min(shown, ACROSS), sharex=True, squeeze=False).ravel()
    reach = max(1.0, float(np.abs(summary.action_range).max()))
    edges = np.linspace(-reach, reach, 42).tolist()
    for entry, panel in enumerate(panels[:shown]):
        values, share = summary.actions[:, entry], summary.saturation[entry]
        weights, clipped = np.full(len(values), 1 / len(values)), at_bound(values)
        panel.hist(values[~clipped], edges, weights=weights[~clipped], color=BLUE)
        panel.hist(values[clipped], edges, weights=weights[clipped], color=ORANGE)
        panel.set_xlim(-1.04 * reach, 1.04 * reach)
        panel.tick_params(labelsize=7)
        panel.set_title(f"{entry}: {share:.0%} at ±1", color=ORANGE if share > 0.5 else "black")
    for panel in panels[shown:]:
        panel.set_visible(False)


def _draw_rewards(figure: "Figure", rewards: dict[str, RewardSummary]) -> None:
    panels = figure.subplots(1, len(rewards), sharey=True, squeeze=False).ravel()
    for panel, (name, task) in zip(panels, rewards.items(), strict=True):
        if task.counts:
            values = list(task.counts)
            width = 0.8 * min(np.diff(values), default=1.0)  # bars do not touch
            panel.bar(values, list(task.counts.values()), width, color=BLUE)
            if len(values) <= 6:
                panel.set_xticks(values)
            panel.set_xlim(values[0] - width, values[-1] + width)
        else:
            scale = np.full(len(task.rewards), task.rows / len(task.rewards))
            panel.hist(task.rewards, 40, weights=scale, color=BLUE)
        panel.set_yscale("log")
        panel.set_ylim(bottom=0.5)
        panel.set(title=f"{name}: {task.solved_rows / task.rows:.1%} solved", xlabel="reward")
    panels[0].set_ylabel("rows")
