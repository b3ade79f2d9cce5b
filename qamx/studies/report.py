"""`qamx report`: what runs reached, as tables, figures and one page."""

from collections.abc import Sequence
from pathlib import Path

from qamx.errors import UserError
from qamx.studies import rendering
from qamx.studies.curves import curves
from qamx.studies.moments import moments
from qamx.studies.page import page
from qamx.studies.runs import Run, read_runs
from qamx.studies.summary import Summary, summarise
from qamx.studies.tables import RULE, tables


def report(
    folders: Sequence[Path], out: Path | None, step: int | None, *, figures: bool = True
) -> int:
    """Prints the tables of all runs under some folders and, with `out`, writes the report there.

    **Arguments:** `step` takes the place of the end of each phase; `figures` draws them too.

    **Raises:** `UserError` if there are no runs, or none has an evaluation to report.
    """
    runs = read_runs(folders)
    found = moments(runs, step)
    if not found:
        raise UserError(_nothing(runs, step))
    summaries = [summarise(moment) for moment in found]
    notes = left_out(runs, summaries, step)
    if out is not None:
        _write(out, runs, summaries, notes, figures)
    print(f"{headline(runs)}\n{RULE.format('Starred')}")
    for note in notes:
        print(f"not complete: {note}")
    for summary in summaries:
        print(f"\n{summary.moment.title}")
        for table in tables(summary):
            rendering.show(table)
    if out is not None:
        print(f"\nwritten to {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    return 0


def headline(runs: Sequence[Run]) -> str:
    """How many runs there are, of what."""
    labels, tasks = {run.label for run in runs}, {run.task for run in runs}
    return f"{len(runs):,} runs of {len(labels)} methods on {len(tasks)} tasks"


def left_out(runs: Sequence[Run], summaries: Sequence[Summary], step: int | None) -> list[str]:
    """A line for each run that is not complete, or that a table must do without, and why."""
    missing = {run.folder: [] for run in runs}
    for summary in summaries:
        for run in summary.moment.missing:
            missing[run.folder].append(summary.moment.name)
    lines = []
    for run in runs:
        absent = missing[run.folder]
        problem = run.problem if step is None or absent or run.diverged else None
        if problem or absent:
            tail = f"; not in the tables for {' and '.join(absent)}" if absent else ""
            lines.append(f"{run.folder}: {problem or 'no evaluation there'}{tail}")
    return lines


def _nothing(runs: Sequence[Run], step: int | None) -> str:
    steps = sorted({row.step for run in runs for row in run.evaluations})
    if not steps:
        return f"none of the {len(runs)} runs has been evaluated yet"
    if step is None:
        return (
            f"none of the {len(runs)} runs has ended a phase; name a step that they have reached "
            f"with --step, up to {steps[-1]:,}"
        )
    nearest = min(steps, key=lambda other: abs(other - step))
    return f"--step: found {step:,}, at which no run was evaluated; the nearest is {nearest:,}"


def _write(
    out: Path, runs: Sequence[Run], summaries: Sequence[Summary], notes: Sequence[str], draw: bool
) -> None:
    drawn = _figures(out / "figures", runs, summaries) if draw else {}
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        "tables.md": _markdown(runs, summaries, notes),
        "tables.tex": "\n".join(
            f"% {summary.moment.title}\n{rendering.latex(table)}"
            for summary in summaries
            for table in tables(summary)
        ),
        "estimates.csv": rendering.comma_separated(summaries),
        "report.html": page(headline(runs), summaries, drawn, notes),
    }
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")


def _markdown(runs: Sequence[Run], summaries: Sequence[Summary], notes: Sequence[str]) -> str:
    parts = [f"# Report\n\n{headline(runs)}.\n\n{RULE.format('Bold')}\n"]
    if notes:
        parts.append("Not complete:\n\n" + "".join(f"- {note}\n" for note in notes))
    for summary in summaries:
        parts.append(f"## {summary.moment.title}\n")
        parts += [rendering.markdown(table) for table in tables(summary)]
    return "\n".join(parts)


def _figures(folder: Path, runs: Sequence[Run], summaries: Sequence[Summary]) -> dict[str, str]:
    from qamx.studies import figures

    style = figures.styles(sorted({run.label for run in runs}))
    ends = {tuple(sorted(run.ends.values())[:-1]) for run in runs if len(run.ends) > 1}
    borders = ends.pop() if len(ends) == 1 else ()  # runs with several plans have no one border
    drawn = {"curves": figures.learning_curves(curves(runs), style, borders)}
    for index, summary in enumerate(summaries):
        if summary.complete:
            drawn[f"aggregates-{index}"] = figures.aggregates(summary)
            drawn[f"profiles-{index}"] = figures.profiles(summary, style)
        if len(summary.complete) > 1:
            drawn[f"improvements-{index}"] = figures.improvements(summary)
    return {name: figures.save(figure, folder, name) for name, figure in drawn.items()}
