"""The report in words: the rows of its tables, on a terminal as on a page."""

from collections.abc import Iterator

import numpy as np

from qamx._utils.finding import counted
from qamx.audit.flow.checks import findings, readings, share_at_bound
from qamx.audit.flow.report import Report
from qamx.audit.flow.subject import not_finite_at

READING_HEADER = ("", "found", "healthy", "")


def subject_rows(report: Report) -> list[tuple[str, str]]:
    """What was inspected."""
    subject = report.subject
    experiment = subject.experiment
    environment = f"{experiment.environment.id} {experiment.environment.label}".rstrip()
    rows = [
        ("method", f"{experiment.agent.method} on {environment}"),
        ("checkpoint", f"step {subject.step:,} ({subject.phase})"),
        ("evaluation", _evaluation(report)),
        ("looked at", _states(report)),
    ]
    if broken := not_finite_at(subject.directory):
        rows.append(("diverged", broken))
    return rows + [("absent", reason) for reason in absent(report)]


def _evaluation(report: Report) -> str:
    row = report.subject.evaluation
    if row is None:
        return "none yet"
    cloned = row.get("behaviour_success")
    beside = "" if cloned is None else f" (behaviour cloning {cloned:.0%})"
    return f"success {row['success']:.0%}{beside} at step {row['step']:,}"


def _states(report: Report) -> str:
    count = counted(len(report.states.names), "state")
    return f"{count}, {report.states.origin}; {report.samples} samples each, seed {report.seed}"


def absent(report: Report) -> Iterator[str]:
    """What this method, or this place, has not got, and why."""
    parts, name = report.anatomy, type(report.subject.agent.policy).__name__
    if parts.base is None:
        yield f"a base to compare with: {name} keeps no clone beside what it improves"
    if not any(stage.route for stage in parts.stages):
        yield f"the critic along a flow: {name} has no ordinary differential equation"
    if report.measures.found.paths is None:
        yield f"path KL and adjoints: {name} is not fine-tuned on the SDE of a base flow"
    elif report.measures.found.paths.adjoints is None:
        yield f"adjoints: {name} is trained by backpropagation through its SDE"
    if report.subject.data is None:
        yield "data actions and returns: the run's data files are not where it had them"


def stage_table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A column a stage, and one of the data."""
    stages, windows = report.measures.found.stages, report.windows
    header = ("", *report.measures.names, *(("data",) if windows is not None else ()))
    lower = report.measures.lower
    rows: dict[str, list[str]] = {
        "critic, pessimistic": [f"{np.mean(lower(one.values)):.4g}" for one in stages],
        "deviation of the critics": [f"{np.mean(np.std(one.values, 0)):.3g}" for one in stages],
        "entries at the bounds": [f"{share_at_bound(one.actions):.0%}" for one in stages],
        "deviation of the samples": [f"{np.mean(np.std(one.actions, 1)):.3g}" for one in stages],
    }
    values = report.measures.found.window_values
    if windows is not None and values is not None:
        of_data = (
            f"{np.mean(lower(values)):.4g}",
            f"{np.mean(np.std(values, axis=0)):.3g}",
            f"{share_at_bound(windows.actions):.0%}",
            "",
        )
        for cells, cell in zip(rows.values(), of_data, strict=True):
            cells.append(cell)
    return header, [(name, *cells) for name, cells in rows.items()]


def reading_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """What was found, and what is healthy."""
    return [
        (one.name, one.found, one.healthy, "ok" if one.finding is None else "warning")
        for one in readings(report)
    ]


def verdict(report: Report) -> str:
    """One line at the end."""
    count = len(findings(report))
    first = "; what comes first is the likeliest cause of the others" if count > 1 else ""
    return counted(count, "warning") + first if count else "nothing unusual"
