"""The tables of a report: methods against domains, tasks and aggregates."""

from collections.abc import Sequence
from dataclasses import dataclass

from qamx.studies.moments import ALL
from qamx.studies.summary import Estimate, Summary

ABSENT = "-"
"""What stands where a method has no runs."""

RULE = (
    "Success in per cent, mean [95% stratified bootstrap interval over runs]. {}: the largest "
    "of a column, and all whose interval overlaps its interval."
)
"""What a reader of the tables must know, with the word for how they are marked."""


@dataclass(frozen=True)
class Cell:
    """An entry; `best` marks those that the rule makes bold."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns (the first that of the rows' names), and rows."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def tables(summary: Summary) -> list[Table]:
    """All tables of a moment: aggregates, domains, and the tasks of each domain."""
    moment = summary.moment
    found = [_aggregates(summary)]
    if len(moment.domains) > 1:
        found.append(_means(summary, "Domains", (*moment.domains, ALL)))
    for domain, tasks in moment.domains.items():
        columns = {str(task): f"task {task.number}" for task in tasks}
        if len(tasks) > 1:
            columns[domain] = "all tasks"
        found.append(_means(summary, domain, tuple(columns), tuple(columns.values())))
    return found


def percent(estimate: Estimate) -> str:
    """A success rate in per cent, with its interval."""
    return f"{_hundred(estimate.value)} [{_hundred(estimate.low)}, {_hundred(estimate.high)}]"


def bold(estimates: Sequence[Estimate | None]) -> list[bool]:
    """Which are the largest, or have intervals that overlap the interval of the largest."""
    found = [estimate for estimate in estimates if estimate is not None]
    if not found:
        return [False] * len(estimates)
    best = max(found, key=lambda estimate: estimate.value)
    return [estimate is not None and estimate.high >= best.low for estimate in estimates]


def _hundred(rate: float) -> str:
    return f"{100 * rate:.0f}"


def _means(
    summary: Summary, title: str, groups: Sequence[str], names: Sequence[str] | None = None
) -> Table:
    columns = [_column([summary.means.get((k, g)) for k in summary.labels]) for g in groups]
    return _table(title, summary.labels, (names or groups), columns)


def _aggregates(summary: Summary) -> Table:
    labels = summary.complete or summary.labels
    means = [summary.means.get((label, ALL)) for label in labels]
    columns = [
        _column(means),
        _column([summary.interquartile.get((label, ALL)) for label in labels]),
        [_beaten(summary, label) for label in labels],
        [Cell(ABSENT if mean is None else str(mean.runs)) for mean in means],
    ]
    names = ("mean", "interquartile mean", f"P({labels[0]} is better)", "runs")
    count = len(summary.moment.tasks)
    title = f"All tasks ({count})" if count > 1 else str(summary.moment.tasks[0])
    return _table(title, labels, names, columns)


def _beaten(summary: Summary, label: str) -> Cell:
    estimate = summary.improvement.get(label)
    return Cell(ABSENT if estimate is None else percent(estimate))


def _column(estimates: Sequence[Estimate | None]) -> list[Cell]:
    return [
        Cell(ABSENT) if estimate is None else Cell(percent(estimate), best)
        for estimate, best in zip(estimates, bold(estimates), strict=True)
    ]


def _table(
    title: str, labels: Sequence[str], names: Sequence[str], columns: Sequence[Sequence[Cell]]
) -> Table:
    rows = zip([Cell(label) for label in labels], *columns, strict=True)
    return Table(title, ("method", *names), tuple(rows))
