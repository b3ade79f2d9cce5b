"""`qamx compare`: runs against other runs, or against published figures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qamx._utils.html import BLUE, GREY, figure_style, require_matplotlib
from qamx._utils.terminal import print_table, print_text
from qamx.errors import ExitCode, UserError
from qamx.tools.results import report, significance
from qamx.tools.results.figures import (
    Curve,
    Style,
    curve,
    draw_curve,
    finish,
    legend,
    panels,
    save,
)
from qamx.tools.results.published_results import published, steps, without_interval
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
from qamx.tools.results.statistics import Estimate, improvement_estimate, mean, resample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
        """True if the difference is significant, at the level of the test for all rows together."""
        return self.adjusted < significance.LEVEL


Rows = Sequence[ComparisonRow]

Comparison = tuple[list[ComparisonRow], list[str]]
"""Rows, and a line for each comparison that could not be made."""


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
            why = without_interval(group.label, group.name) or _why_not(known, shared, step)
            reason = (group.label, why)
            missing.setdefault(reason, []).append(group.name)
    notes = _diverged(runs)
    for (label, reason), (first, *others) in missing.items():
        more = f" and {len(others)} more" if others else ""
        notes.append(f"{label} on {first}{more}: {reason}")
    return rows, notes


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
            shared = shared_steps([*mine.runs, *theirs.runs])
            common = [at for at in shared if step in (None, at)]
            reached = f"both sides at {_abbreviated(shared)}" if shared else "no step on both sides"
            if common:
                rows.append(_row(name, mine, theirs, common[-1]))
            else:
                notes.append(f"{name} on {mine.name}: {reached}")
    return rows, notes


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
    figures, scores = published(), scores_at(runs, step)
    figure, keys = figures[label, name, step], {task: (label, str(task), step) for task in tasks}
    single = {task: figures[key] for task, key in keys.items() if key in figures}
    test = significance.difference(
        _sample(group, scores), significance.sample_of_published(figure, single), tasks
    )
    theirs = Estimate(figure.mean, figure.low, figure.high, figure.seeds)
    return ComparisonRow(label, name, step, _mean(label, scores), theirs, _gap(test), float(test.p))


def _row(name: str, mine: TaskGroup, theirs: TaskGroup, step: int) -> ComparisonRow:
    scores = [scores_at(group.runs, step) for group in (mine, theirs)]
    first, second = map(_sample, (mine, theirs), scores)
    test = significance.difference(first, second, mine.tasks)
    # Two sides of one method must not share their resamples, which the name seeds.
    sides = "one", "other"
    ours, others = map(_mean, sides, scores)
    better = improvement_estimate(sides, scores)
    return ComparisonRow(name, mine.name, step, ours, others, _gap(test), float(test.p), better)


def _sample(group: TaskGroup, scores: Scores) -> significance.SampleSummary:
    episodes = min(run.episodes for run in group.runs)
    return significance.sample_of_runs(scores, group.tasks, episodes)


def _mean(name: str, scores: Scores) -> Estimate:
    rates = list(scores.values())
    found = Estimate.of(mean(rates), mean(resample(name, scores)), rates)
    return replace(found, runs=min(map(len, rates)))


def _gap(test: significance.Difference) -> Estimate:
    gap, half = float(test.gap), float(test.half)
    return Estimate(gap, gap - half, gap + half, 0)


def _sources(rows: Rows) -> list[str]:
    """The papers of the published figures."""
    return sorted({published()[row.label, row.group, row.step].source for row in rows})


def _why_not(known: Sequence[int], shared: Sequence[int], step: int | None) -> str:
    if not known:
        return "no published figure"
    if step is not None and step in shared:
        return f"no published figure at step {step:,}, but at {_abbreviated(known)}"
    reached = f"all runs were evaluated at {_abbreviated(shared)}" if shared else "no shared step"
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

    **Raises:** `UserError` if nothing can be compared, the folder cannot be written, or matplotlib
    is missing for it.
    """
    if out is not None:
        require_matplotlib("--out")
    if against is None and len(folders) == 2:
        folders, against = folders[:1], str(folders[1])
    runs = read_runs(folders)
    reference = None if against in (None, PUBLISHED) else read_runs([Path(str(against))])
    if reference is None:
        rows, notes = against_published(runs, step)
        theirs = f"published, {'; '.join(_sources(rows))}"
    else:
        (rows, notes), theirs = against_runs(pair_runs(runs, reference), step), str(against)
    if not rows:
        raise UserError("nothing to compare:\n" + "\n".join(notes))
    adjusted = significance.holm([row.p for row in rows])
    rows = [replace(row, adjusted=p) for row, p in zip(rows, adjusted, strict=True)]
    table = _table(rows, f"{', '.join(map(str, folders))} against {theirs}")
    if out is not None:
        with report.output_folder(out), figure_style():
            (out / "comparison.md").write_text(report.markdown(table, level=1), encoding="utf-8")
            (out / "comparison.csv").write_text(_comma_separated(rows), encoding="utf-8")
            save(overlay(rows, runs, reference), out, "curves")
    report.show(table)
    if notes:
        print_table("not compared", ("",), [(note,) for note in notes])
    print_text(_verdict(rows))
    if out is not None:
        print(f"written to {out}")
    return ExitCode.FAILED if any(row.differs for row in rows) else ExitCode.DONE


def _table(rows: Rows, title: str) -> Table:
    """The rows of a comparison; a star or bold marks those that differ."""
    last = "inside" if rows[0].better is None else "P(ours is better)"
    header = ("method", "tasks", "step", "ours", "seeds", "theirs", "seeds", "difference", last)
    return Table(title, (*header, "p (corrected)", "verdict"), tuple(map(_cells, rows)))


def _cells(row: ComparisonRow) -> tuple[Cell, ...]:
    last = ("yes" if row.inside else "no") if row.better is None else percent(row.better)
    sides = [(percent(side), str(side.runs)) for side in (row.ours, row.theirs)]
    gap = percent(row.gap, "+.0f")
    texts = (row.label, row.group, f"{row.step:,}", *sides[0], *sides[1], gap, last)
    verdict = Cell("differs" if row.differs else "compatible", row.differs)
    return (*map(Cell, texts), Cell(f"{row.adjusted:.3f}"), verdict)


def _verdict(rows: Rows) -> str:
    different = sum(row.differs for row in rows)
    count = f"{different} of {len(rows)} differ" if different else f"none of {len(rows)} differs"
    level = f"p below {significance.LEVEL}, corrected for the number of rows"
    return f"{count} ({level}; the test counts the seeds of both sides)"


def _comma_separated(rows: Rows) -> str:
    header = "method,group,step,seeds,mean,ci95_low,ci95_high,other_seeds,other_mean,"
    lines = [header + "other_ci95_low,other_ci95_high,difference,p,p_corrected,inside,differs"]
    for row in rows:
        sides = (row.ours, row.theirs)
        numbers = [f"{s.runs},{s.value:.4f},{s.low:.4f},{s.high:.4f}" for s in sides]
        tests = f"{row.gap.value:.4f},{row.p:.4g},{row.adjusted:.4g},{row.inside},{row.differs}"
        lines.append(",".join((row.label, row.group, str(row.step), *numbers, tests)))
    return "\n".join(lines) + "\n"


OURS, THEIRS = BLUE, GREY


def overlay(rows: Rows, runs: Sequence[Run], reference: Sequence[Run] | None) -> "Figure":
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
        labels = row.label.split(" - ")
        if reference is None:
            _draw_published(axis, row)
        else:
            draw_curve(axis, _curve(row, labels[-1], reference), THEIRS, "--")
        draw_curve(axis, _curve(row, labels[0], runs), OURS, "-")
        axis.axvline(row.step, color="#999999", lw=0.8, ls=(0, (2, 2)))
        mark = " (differs)" if row.differs else ""
        group = "all tasks" if row.group == ALL else row.group
        axis.set_title(f"{row.label}{mark}\n{group}")
    finish(axes, len(shown), columns)
    legend(figure, style, 2)
    return figure


def _draw_published(axis: "Axes", row: ComparisonRow) -> None:
    """The published figures of a row: a domain's curve, or a task's ends of both phases."""
    at = steps(row.label, row.group)
    figures = [published()[row.label, row.group, step] for step in at]
    mean, low, high = np.array([(figure.mean, figure.low, figure.high) for figure in figures]).T
    if " task " not in row.group:
        draw_curve(axis, Curve(np.array(at), mean, low, high), THEIRS, "--")
        return
    errors = 100 * np.stack([mean - low, high - mean])
    axis.errorbar(at, 100 * mean, yerr=errors, fmt="o", color=THEIRS, ms=4, capsize=3)


def _curve(row: ComparisonRow, label: str, runs: Sequence[Run]) -> Curve:
    """The curve of a row's runs that did not diverge."""
    valid = [run for run in runs if run.label == label and run.diverged is None]
    shown = [run for run in valid if row.group in (str(run.task), run.task.domain, ALL)]
    return curve(label, shown)
