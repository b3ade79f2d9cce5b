"""`qamx data inspect`: terminal, HTML page and figures."""

import itertools
import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qamx._utils.finding import LEVELS, counted
from qamx._utils.html import (
    BLUE,
    GREY,
    ORANGE,
    PALETTE,
    document,
    findings_table,
    legend_above,
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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TASK_HEADER = ("task", "rewards (rows)", "rows solved", "episodes solved")

MOST_HISTOGRAMS = 24  # dimensions of the action with one; more would be too small to read
FEW_DIMENSIONS = 7  # observations with histograms; with more, a bar for each dimension
NARROW, ACROSS = 4, 6  # histograms in a row, at least and at most
MOST_REWARDS = 8  # rewards of a task that are listed; more are a histogram


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


def _rewards(task: RewardSummary, most: int = MOST_REWARDS) -> str:
    if not task.counts:
        return f"{task.low:.4g} to {task.high:.4g}, {np.mean(task.rewards):.4g} on average"
    texts = [f"{value:g}: {count:,}" for value, count in task.counts.items()]
    if len(texts) > most:
        left = len(texts) - most
        texts = [*texts[: most // 2], f"({left} more)", *texts[-most // 2 :]]
    return ", ".join(texts)


# --- figures ---


def figures(report: DataReport, summary: DatasetSummary) -> Iterator[str]:
    """The figures of the page, without those that would show a single number."""
    if len(set(summary.lengths.tolist())) > 1:
        yield svg_figure(
            "Episode lengths",
            f"A chunk has {report.horizon} steps (orange line).",
            2.2,
            lambda figure: _draw_lengths(figure, summary, report.horizon),
        )
    dimensions = summary.observations.shape[1]
    if dimensions <= FEW_DIMENSIONS:
        yield svg_figure(
            "Observations by dimension",
            "Share of the rows by value.",
            _height(dimensions),
            lambda figure: _draw_observations(figure, summary.observations),
        )
    else:
        yield svg_figure(
            "Observations by dimension",
            "Blue bars hold the middle 99% of the values, dots are medians, thin lines reach "
            "from the smallest value to the largest.",
            2.8,
            lambda figure: _draw_ranges(figure, summary),
        )
    shown = min(len(summary.saturation), MOST_HISTOGRAMS)
    yield svg_figure(
        "Actions by dimension",
        "Share of the rows by value; orange: at ±1, where actions are cut off.",
        _height(shown),
        lambda figure: _draw_actions(figure, summary, shown),
    )
    few = {
        name: task for name, task in report.rewards.items() if 0 < len(task.counts) <= MOST_REWARDS
    }
    listed = {name: task for name, task in few.items() if len(task.counts) > 1}
    if listed:
        yield svg_figure(
            "Rewards",
            "Share of the rows with each reward but the task's most frequent one.",
            0.9 + 0.22 * len(listed),
            lambda figure: _draw_shares(figure, listed),
        )
    varied = {name: task for name, task in report.rewards.items() if name not in few}
    if varied:
        yield svg_figure(
            "Rewards",
            "Share of the rows by reward.",
            _height(len(varied)),
            lambda figure: _draw_rewards(figure, varied),
        )


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


def _across(count: int) -> int:
    """Histograms in a row; fewer have the size of as many."""
    return max(NARROW, min(count, ACROSS))


def _height(count: int) -> float:
    return 1.6 * -(-count // _across(count)) + 0.1


def _histograms(figure: "Figure", count: int, sharex: bool = False) -> "list[Axes]":
    """Panels for histograms of shares of the rows."""
    from matplotlib.ticker import PercentFormatter

    across = _across(count)
    panels = figure.subplots(-(-count // across), across, sharex=sharex, squeeze=False).ravel()
    for panel in panels:
        panel.tick_params(labelsize=7)
        panel.yaxis.set_major_formatter(PercentFormatter(1))
    for panel in panels[count:]:
        panel.set_visible(False)
    return list(panels[:count])


def _draw_observations(figure: "Figure", observations: np.ndarray) -> None:
    weights = np.full(len(observations), 1 / len(observations))
    for entry, panel in enumerate(_histograms(figure, observations.shape[1])):
        panel.hist(observations[:, entry], 40, weights=weights, color=BLUE)
        panel.set_title(str(entry))


def _draw_actions(figure: "Figure", summary: DatasetSummary, shown: int) -> None:
    reach = max(1.0, float(np.abs(summary.action_range).max()))
    edges = np.linspace(-reach, reach, 42).tolist()
    for entry, panel in enumerate(_histograms(figure, shown, sharex=True)):
        values, share = summary.actions[:, entry], summary.saturation[entry]
        weights, clipped = np.full(len(values), 1 / len(values)), at_bound(values)
        panel.hist(values[~clipped], edges, weights=weights[~clipped], color=BLUE)
        panel.hist(values[clipped], edges, weights=weights[clipped], color=ORANGE)
        panel.set_xlim(-1.04 * reach, 1.04 * reach)
        panel.set_title(f"{entry}: {share:.0%} at ±1", color=ORANGE if share > 0.5 else "black")


def _draw_shares(figure: "Figure", rewards: Mapping[str, RewardSummary]) -> None:
    """A bar for each task, in parts for its rewards."""
    axes = figure.add_subplot()
    values = sorted({value for task in rewards.values() for value in task.counts})
    colours = dict(zip(values, itertools.cycle(PALETTE), strict=False))
    for height, task in enumerate(rewards.values()):
        most, left = max(task.counts, key=lambda value: task.counts[value]), 0.0
        for value, count in task.counts.items():
            if value != most:
                part = 100 * count / task.rows
                colour, label = colours[value], f"reward {value:g}"
                axes.barh(height, part, 0.7, left, color=colour, label=label)
                left += part
    axes.set_yticks(range(len(rewards)), list(rewards))
    axes.invert_yaxis()
    axes.set_xlabel("rows (%)")
    axes.grid(visible=False, axis="y")
    legend_above(axes, columns=len(values))


def _draw_rewards(figure: "Figure", rewards: Mapping[str, RewardSummary]) -> None:
    panels = _histograms(figure, len(rewards))
    for panel, (name, task) in zip(panels, rewards.items(), strict=True):
        panel.hist(
            task.rewards, 40, weights=np.full(len(task.rewards), 1 / len(task.rewards)), color=BLUE
        )
        panel.set(title=f"{name}: {task.solved_rows / task.rows:.1%} solved", xlabel="reward")
