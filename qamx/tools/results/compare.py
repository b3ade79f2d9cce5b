"""`qamx compare`: runs against other runs, or against published figures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qamx._utils.html import BLUE, GREY
from qamx._utils.terminal import print_table
from qamx.errors import ExitCode, UserError
from qamx.tools.results import report, significance, statistics
from qamx.tools.results.figures import Curve, Style, curve, draw_curve, finish, panels, save
from qamx.tools.results.published_results import SEEDS, SOURCE, published, steps
from qamx.tools.results.report import Cell, Table, percent
from qamx.tools.results.runs import (
    ALL,
    Run,
    Scores,
    TaskGroup,
    pair_runs,
    read_runs,
    scores_at,
    shared_steps,
    task_groups,
)
from qamx.tools.results.statistics import Estimate, points, resample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


LEVEL = 0.05
"""The probability of a false difference in a comparison, for any number of rows."""


@dataclass(frozen=True)
class ComparisonRow:
    """One comparison: a method on a group of tasks at a step.

    `adjusted` is the p-value corrected for the number of rows; `better` is the probability that
    one of our runs beats one of theirs, None against published figures.
    """

    label: str
    group: str
    step: int
    ours: Estimate
    theirs: Estimate
    gap: Estimate
    p: float
    better: Estimate | None = None
    adjusted: float = 1.0

    @property
    def inside(self) -> bool:
        """True if our mean lies in their interval."""
        return self.theirs.low <= self.ours.value <= self.theirs.high

    @property
    def differs(self) -> bool:
        """True if the difference is significant."""
        return self.adjusted < LEVEL


@dataclass(frozen=True)
class Comparison:
    """Rows, and a line for each comparison that could not be made."""

    rows: tuple[ComparisonRow, ...]
    notes: tuple[str, ...]


def against_published(runs: Sequence[Run], step: int | None) -> Comparison:
    """Compares runs with the published figures at the same step.

    Rows are tasks, domains with all of their tasks, and all domains, each at the last published
    step that all of a method's runs on the group have reached, or at `step`.
    """
    rows: list[ComparisonRow] = []
    missing: dict[tuple[str, str], list[str]] = {}
    for group in task_groups(runs):
        known, shared = steps(group.label, group.name), shared_steps(group.runs)
        common = [at for at in known if at in shared and step in (None, at)]
        if common:
            rows.append(_published_row(group, common[-1]))
        else:
            reason = (group.label, _why_not(known, shared, step))
            missing.setdefault(reason, []).append(group.name)
    return Comparison(_adjusted(rows), (*_diverged(runs), *_joined(missing)))


def against_runs(
    pairs: Sequence[tuple[str, Sequence[Run], Sequence[Run]]], step: int | None
) -> Comparison:
    """Compares runs with others on their common tasks, at the last common step.

    **Arguments:** `pairs` are a name, one side's runs, and the other's.

    **Raises:** `UserError` if neither side of a pair has two seeds on a task.
    """
    rows, notes = [], []
    for name, ours, others in pairs:
        notes += _diverged((*ours, *others))
        for mine, theirs in _shared_groups(ours, others):
            shared = sorted(shared_steps([*mine.runs, *theirs.runs]))
            common = [at for at in shared if step in (None, at)]
            if common:
                rows.append(_row(name, mine, theirs, common[-1]))
            else:
                reached = (
                    f"both sides at {_abbreviated(shared)}" if shared else "no step on both sides"
                )
                notes.append(f"{name} on {mine.name}: {reached}")
    return Comparison(_adjusted(rows), tuple(notes))


def _joined(missing: Mapping[tuple[str, str], Sequence[str]]) -> Iterator[str]:
    """A line for each reason, with its groups."""
    for (label, reason), (first, *others) in missing.items():
        more = f" and {len(others)} more" if others else ""
        yield f"{label} on {first}{more}: {reason}"


def _diverged(runs: Sequence[Run]) -> list[str]:
    return [f"{run.folder}: {run.problem}" for run in runs if run.diverged is not None]


def _shared_groups(ours: Sequence[Run], others: Sequence[Run]) -> list[tuple[TaskGroup, TaskGroup]]:
    """The groups of the common tasks."""
    both = {run.task for run in ours if run.diverged is None}
    both &= {run.task for run in others if run.diverged is None}
    sides = ([run for run in runs if run.task in both] for runs in (ours, others))
    mine, theirs = (task_groups(runs, whole=False) for runs in sides)
    return list(zip(mine, theirs, strict=True))


def _published_row(group: TaskGroup, step: int) -> ComparisonRow:
    label, name, tasks, runs = group
    figures = published()
    figure, scores = figures[label, name, step], scores_at(runs, step)
    single = {
        task: figures[label, str(task), step]
        for task in tasks
        if (label, str(task), step) in figures
    }
    ours = significance.sample_of_runs(scores, tasks, _episodes(runs))
    test = significance.difference(ours, significance.sample_of_published(figure, single), tasks)
    theirs = Estimate(figure.mean, figure.low, figure.high, SEEDS)
    return ComparisonRow(label, name, step, _mean(label, scores), theirs, _gap(test), float(test.p))


def _row(name: str, mine: TaskGroup, theirs: TaskGroup, step: int) -> ComparisonRow:
    scores = [scores_at(group.runs, step) for group in (mine, theirs)]
    first, second = (
        significance.sample_of_runs(rates, mine.tasks, _episodes(group.runs))
        for rates, group in zip(scores, (mine, theirs), strict=True)
    )
    test = significance.difference(first, second, mine.tasks)
    # Two sides of one method must not share their resamples, which the name seeds.
    ours, others = (_mean(side, rates) for side, rates in zip(SIDES, scores, strict=True))
    better = _better(scores)
    return ComparisonRow(name, mine.name, step, ours, others, _gap(test), float(test.p), better)


SIDES = ("one", "other")


def _better(scores: Sequence[Scores]) -> Estimate:
    draws = [resample(side, rates) for side, rates in zip(SIDES, scores, strict=True)]
    value = statistics.improvement(*(list(rates.values()) for rates in scores))
    count = sum(len(part) for rates in scores for part in rates.values())
    return Estimate.of(float(value), statistics.improvement(*draws), count)


def _mean(name: str, scores: Scores) -> Estimate:
    rates = list(scores.values())
    seeds = min(len(part) for part in rates)
    return Estimate.of(
        float(statistics.mean(rates)), statistics.mean(resample(name, scores)), seeds
    )


def _gap(test: significance.Difference) -> Estimate:
    gap, half = float(test.gap), float(test.half)
    return Estimate(gap, gap - half, gap + half, 0)


def _episodes(runs: Sequence[Run]) -> int:
    """Episodes of an evaluation, the fewest of all runs."""
    return min(run.episodes for run in runs)


def _adjusted(rows: Sequence[ComparisonRow]) -> tuple[ComparisonRow, ...]:
    values = significance.holm([row.p for row in rows])
    return tuple(replace(row, adjusted=p) for row, p in zip(rows, values, strict=True))


def _why_not(known: Sequence[int], shared: set[int], step: int | None) -> str:
    if not known:
        return "no published figure"
    if step is not None and step in shared:
        return f"no published figure at step {step:,}, but at {_abbreviated(known)}"
    reached = (
        f"all runs were evaluated at {_abbreviated(sorted(shared))}" if shared else "no shared step"
    )
    return f"published at {_abbreviated(known)}; {reached}"


def _abbreviated(numbers: Sequence[int]) -> str:
    """Up to three numbers in full, more by their range."""
    if len(numbers) > 3:
        return f"{len(numbers)} steps from {numbers[0]:,} to {numbers[-1]:,}"
    return " and ".join(f"{number:,}" for number in numbers)


PUBLISHED = "published"
"""The value of `--against` for the published figures."""


def compare(
    folders: Sequence[Path], against: str | None, step: int | None, out: Path | None
) -> int:
    """Prints how runs compare; with `out`, writes tables and the curves of both sides there.

    **Arguments:** `against` is `published` or a folder of runs; without it two folders are
    compared with each other, and any other number with the published figures.

    **Returns:** 0 if no row differs, 1 if one does.

    **Raises:** `UserError` if nothing can be compared.
    """
    if against is None and len(folders) == 2:
        folders, against = folders[:1], str(folders[1])
    runs = read_runs(folders)
    reference = None if against in (None, PUBLISHED) else read_runs([Path(str(against))])
    if reference is None:
        comparison, theirs = against_published(runs, step), f"published, {SOURCE}"
    else:
        comparison, theirs = against_runs(pair_runs(runs, reference), step), str(against)
    if not comparison.rows:
        raise UserError("nothing to compare:\n" + "\n".join(comparison.notes))
    rows = table(comparison, f"{', '.join(map(str, folders))} against {theirs}")
    if out is not None:
        _write(out, comparison, rows, runs, reference)
    report.show(rows)
    if comparison.notes:
        print_table("not compared", ("",), [(note,) for note in comparison.notes])
    print(_verdict(comparison.rows))
    if out is not None:
        print(f"written to {out}")
    return ExitCode.FAILED if any(row.differs for row in comparison.rows) else ExitCode.DONE


def table(comparison: Comparison, title: str) -> Table:
    """The rows of a comparison; a star or bold marks those that differ."""
    with_runs = comparison.rows[0].better is not None
    header = ("method", "tasks", "step", "ours", "seeds", "theirs", "seeds")
    header += (
        "difference",
        "P(ours is better)" if with_runs else "inside",
        "p (corrected)",
        "verdict",
    )
    return Table(title, header, tuple(_cells(row) for row in comparison.rows))


def _cells(row: ComparisonRow) -> tuple[Cell, ...]:
    last = ("yes" if row.inside else "no") if row.better is None else percent(row.better)
    texts = (
        row.label,
        row.group,
        f"{row.step:,}",
        percent(row.ours),
        str(row.ours.runs),
        percent(row.theirs),
        str(row.theirs.runs),
        _with_interval(row.gap),
        last,
        f"{row.adjusted:.3f}",
    )
    return (*map(Cell, texts), Cell("differs" if row.differs else "compatible", row.differs))


def _with_interval(gap: Estimate) -> str:
    value, low, high = (points(end, "+.0f") for end in (gap.value, gap.low, gap.high))
    return f"{value} [{low}, {high}]"


def _verdict(rows: Sequence[ComparisonRow]) -> str:
    different = sum(row.differs for row in rows)
    count = f"{different} of {len(rows)} differ" if different else f"none of {len(rows)} differs"
    return (
        f"{count} (p below {LEVEL}, corrected for the number of rows; the test counts the seeds of "
        "both sides)"
    )


def _write(
    out: Path,
    comparison: Comparison,
    found: Table,
    runs: Sequence[Run],
    reference: Sequence[Run] | None,
) -> None:
    figure = overlay(comparison.rows, runs, reference)
    out.mkdir(parents=True, exist_ok=True)
    (out / "comparison.md").write_text(report.markdown(found, level=1), encoding="utf-8")
    (out / "comparison.csv").write_text(_comma_separated(comparison.rows), encoding="utf-8")
    save(figure, out, "curves")


def _comma_separated(rows: Sequence[ComparisonRow]) -> str:
    header = "method,group,step,seeds,mean,ci95_low,ci95_high,other_seeds,other_mean,"
    lines = [header + "other_ci95_low,other_ci95_high,difference,p,p_corrected,inside,differs"]
    for row in rows:
        numbers = [
            f"{side.runs},{side.value:.4f},{side.low:.4f},{side.high:.4f}"
            for side in (row.ours, row.theirs)
        ]
        tests = f"{row.gap.value:.4f},{row.p:.4g},{row.adjusted:.4g},{row.inside},{row.differs}"
        lines.append(",".join((row.label, row.group, str(row.step), *numbers, tests)))
    return "\n".join(lines) + "\n"


OURS, THEIRS = BLUE, GREY


def overlay(
    rows: Sequence[ComparisonRow], runs: Sequence[Run], reference: Sequence[Run] | None
) -> "Figure":
    """A panel for each row, without the tasks of a domain that has a panel.

    **Arguments:** `reference` are the second side's runs, None for the published figures.
    """
    whole = {(row.label, row.group) for row in rows}
    shown = [row for row in rows if (row.label, row.group.rpartition(" task ")[0]) not in whole]
    columns = min(len(shown), 3)
    theirs = "published" if reference is None else "theirs"
    style: Style = {"ours": (OURS, "-"), theirs: (THEIRS, "--")}
    figure, axes = panels(-(-len(shown) // columns), columns, (3.6, 2.6), legend=2)
    for axis, row in zip(axes, shown, strict=False):
        _draw(axis, row, reference)
        for label in row.label.split(" - ")[:1]:
            draw_curve(axis, curve(label, _of(row, label, runs)), OURS, "-")
        axis.axvline(row.step / 1e6, color="#999999", lw=0.8, ls=(0, (2, 2)))
        mark = " (differs)" if row.differs else ""
        group = "all tasks" if row.group == ALL else row.group
        axis.set_title(f"{row.label}{mark}\n{group}", fontsize=9)
    finish(figure, axes, len(shown), columns, style)
    return figure


def _draw(axis: "Axes", row: ComparisonRow, reference: Sequence[Run] | None) -> None:
    if reference is not None:
        label = row.label.split(" - ")[-1]
        draw_curve(axis, curve(label, _of(row, label, reference)), THEIRS, "--")
        return
    published_curve = _published_curve(row.label, row.group)
    if " task " in row.group:
        errors = 100 * np.stack(
            [
                published_curve.mean - published_curve.low,
                published_curve.high - published_curve.mean,
            ]
        )
        axis.errorbar(
            published_curve.steps / 1e6,
            100 * published_curve.mean,
            yerr=errors,
            fmt="o",
            color=THEIRS,
            ms=4,
            capsize=3,
        )
    else:
        draw_curve(axis, published_curve, THEIRS, "--")


def _published_curve(label: str, group: str) -> Curve:
    """The published figures of a group: a domain's curve, or a task's ends of both phases."""
    at = steps(label, group)
    rows = [published()[label, group, step] for step in at]
    mean, low, high = np.array([(row.mean, row.low, row.high) for row in rows]).T
    return Curve(np.array(at), mean, low, high)


def _of(row: ComparisonRow, label: str, runs: Sequence[Run]) -> list[Run]:
    """A row's runs that did not diverge."""
    return [
        run
        for run in runs
        if run.label == label
        and run.diverged is None
        and row.group in (str(run.task), run.task.domain, ALL)
    ]
