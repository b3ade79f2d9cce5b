"""`qamx report`: tables of runs as text, Markdown, LaTeX, CSV and HTML."""

import contextlib
import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from qamx._utils import html
from qamx._utils.finding import counted
from qamx._utils.html import Markup
from qamx._utils.terminal import print_table, print_text, working
from qamx.errors import UserError
from qamx.evaluation.intervals import success_interval
from qamx.tools.results.figures import Style, curves, styles
from qamx.tools.results.runs import ALL, Run, phase_ends, read_runs
from qamx.tools.results.statistics import Estimate, Summary, points, summarise

ABSENT = "-"
"""The entry of a method without runs."""

RULE = (
    "Success in %, mean [95% stratified bootstrap interval over runs]. {}: best, or overlapping "
    "with the best."
)
"""The caption of the tables, a format of the word for the marking."""

FEW_RUNS, FEW_FOR_FIGURES = 5, 3
"""Runs a task below which intervals get a warning, and aggregate figures are left out."""


@dataclass(frozen=True)
class Cell:
    """An entry; the best of a column are bold."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A titled table; the first column names the rows."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def report(
    folders: Sequence[Path],
    out: Path | None,
    step: int | None,
    *,
    figures: bool = True,
    csv_file: Path | None = None,
    highlight: Sequence[str] = (),
) -> None:
    """Prints the tables of all runs under some folders and, with `out`, writes the report there.

    **Arguments:** `step` replaces the ends of the phases; `figures` draws the figures; `csv_file`
    gets every evaluation, also of runs that have not ended a phase; `highlight` are the methods
    in colour, the others grey, or empty for all.

    **Raises:** `UserError` if there are no runs, or none has an evaluation to report; if the
    folder cannot be written, or matplotlib is missing; if no run is of a method to highlight.
    """
    if highlight and (out is None or not figures):
        raise UserError(
            "--highlight: there are no figures without --out FOLDER, or with --no-figures"
        )
    if out is not None and figures:
        html.require_matplotlib("--out without --no-figures")
    runs = read_runs(folders)
    known = sorted({run.label for run in runs})
    if unknown := sorted(set(highlight) - set(known)):
        raise UserError(
            f"--highlight: no run of {', '.join(unknown)}; there are {', '.join(known)}"
        )
    if csv_file is not None:
        html.write_text("--csv", csv_file, evaluations_csv(runs))
        count = sum(len(run.evaluations) for run in runs)
        print(f"{counted(count, 'evaluation')} of {counted(len(runs), 'run')} in {csv_file}")
    with working(f"computing intervals of {counted(len(runs), 'run')}"):
        summaries = [summarise(phase_end) for phase_end in phase_ends(runs, step)]
    if not summaries and csv_file is not None and step is None:
        return
    if not summaries:
        raise UserError(_nothing(runs, step))
    notes = left_out(runs, summaries, step)
    if out is not None:
        with output_folder(out), working("drawing the figures"):
            style = styles(known, highlight) if figures else None
            _write(out, runs, summaries, notes, style)
    print(headline(runs))
    print_text(caption("*", summaries))
    for note in notes:
        print_text(f"not complete: {note}")
    for summary in summaries:
        print(f"\n{summary.phase_end.title}")
        for table in tables(summary):
            show(table)
    if out is not None:
        print(f"\nwritten to {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


def tables(summary: Summary) -> list[Table]:
    """The tables of a phase: aggregates, domains, and the tasks of each domain; one of one task."""
    phase_end = summary.phase_end
    found = [_aggregates(summary)]
    if len(phase_end.tasks) == 1:
        return found
    if len(phase_end.domains) > 1:
        found.append(_means(summary, "Domains", {name: name for name in (*phase_end.domains, ALL)}))
    for domain, tasks in phase_end.domains.items():
        columns = {str(task): f"task {task.number}" for task in tasks}
        if len(tasks) > 1:
            columns[domain] = "all tasks"
        found.append(_means(summary, domain, columns))
    return found


def percent(estimate: Estimate, form: str = ".0f") -> str:
    """A rate in per cent, with its interval, or with that of its episodes for a single run."""
    ends = estimate.value, estimate.low, estimate.high
    if not math.isnan(estimate.low):
        value, low, high = (points(end, form) for end in ends)
        return f"{value} [{low}, {high}]"
    alone = "1 run" if estimate.runs == 1 else "1 run a task"
    if estimate.runs == 1 and (count := estimate.episodes):
        low, high = map(points, success_interval(round(estimate.value * count), count))
        alone += f"; episodes alone: {low}-{high}"
    return f"{points(estimate.value, form)} ({alone})"


def caption(mark: str, summaries: Sequence[Summary]) -> str:
    """The caption of the tables, with a warning of few runs."""
    few = min(map(_fewest_runs, summaries)) < FEW_RUNS
    advice = f" Fewer than {FEW_RUNS} runs a task: intervals are too narrow to rely on."
    return RULE.format(mark) + (advice if few else "")


def _fewest_runs(summary: Summary) -> int:
    return min(len(rates) for of in summary.phase_end.scores.values() for rates in of.values())


def bold(estimates: Sequence[Estimate | None]) -> list[bool]:
    """Marks the largest, and those with an interval that overlaps the largest's, as both are shown:
    in whole per cent."""
    known = [estimate for estimate in estimates if estimate is not None]
    best = max(known, key=lambda estimate: estimate.value, default=None)
    return [
        best is not None and e is not None and float(points(e.high)) >= float(points(best.low))
        for e in estimates
    ]


def _means(summary: Summary, title: str, names: Mapping[str, str]) -> Table:
    """The means of groups, under their names."""
    columns = [_column([summary.means.get((k, g)) for k in summary.labels]) for g in names]
    return _table(title, summary.labels, tuple(names.values()), columns)


def _aggregates(summary: Summary) -> Table:
    """The aggregates of methods; columns that one run, or one method, cannot have are left out."""
    labels = summary.complete or summary.labels
    means = [summary.means.get((label, ALL)) for label in labels]
    quartiles = [summary.interquartile.get((label, ALL)) for label in labels]
    columns = {"mean": _column(means)}
    if any(estimate and not math.isnan(estimate.low) for estimate in quartiles):
        columns["interquartile mean"] = _column(quartiles)
    if len(labels) > 1:
        better = [summary.improvement.get(label) for label in labels]
        columns[f"P({labels[0]} is better)"] = [
            Cell(percent(estimate) if estimate else ABSENT) for estimate in better
        ]
    columns["runs"] = [Cell(ABSENT if mean is None else str(mean.runs)) for mean in means]
    count = len(summary.phase_end.tasks)
    title = f"All tasks ({count})" if count > 1 else str(summary.phase_end.tasks[0])
    return _table(title, labels, tuple(columns), list(columns.values()))


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


_LATEX = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#"})

COLUMNS = (
    *("moment", "group", "method", "runs"),
    *("mean", "ci95_low", "ci95_high", "iqm", "iqm_ci95_low", "iqm_ci95_high"),
)
"""The header of `estimates.csv`; the last three are empty for single tasks."""


def show(table: Table) -> None:
    """Prints a table; a star stands for bold."""
    print_table(table.title, table.header, [_marked(row, "{} *") for row in table.rows])


def markdown(table: Table, level: int = 3) -> str:
    """A table under a heading."""
    head = f"| {' | '.join(table.header)} |\n|{'---|' * len(table.header)}\n"
    rows = (f"| {' | '.join(_marked(row, '**{}**'))} |\n" for row in table.rows)
    return f"{'#' * level} {table.title}\n\n{head}{''.join(rows)}"


def latex(table: Table) -> str:
    """A `table` with booktabs' rules, `\\usepackage{booktabs}`."""
    head = " & ".join(name.translate(_LATEX) for name in table.header)
    escaped = [[Cell(c.text.translate(_LATEX), c.best) for c in row] for row in table.rows]
    marked = (" & ".join(_marked(row, r"\textbf{{{}}}")) for row in escaped)
    rows = "".join(f"    {row} \\\\\n" for row in marked)
    return (
        "\\begin{table}\n  \\centering\n"
        f"  \\caption{{{table.title.translate(_LATEX)}}}\n"
        f"  \\begin{{tabular}}{{l{'c' * (len(table.header) - 1)}}}\n    \\toprule\n"
        f"    {head} \\\\\n    \\midrule\n{rows}"
        "    \\bottomrule\n  \\end{tabular}\n\\end{table}\n"
    )


def comma_separated(summaries: Sequence[Summary]) -> str:
    """Every estimate, as fractions with four decimals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for summary in summaries:
        for (label, group), mean in summary.means.items():
            quartile = summary.interquartile.get((label, group))
            names = (summary.phase_end.name, group, label, mean.runs)
            writer.writerow((*names, *_fractions(mean), *_fractions(quartile)))
    return text.getvalue()


def evaluations_csv(runs: Sequence[Run]) -> str:
    """A row for each evaluation of each run: the run, then what its `evaluations.jsonl` has.

    Columns that only some runs have are empty for the others.
    """
    rows = [
        {
            **{"method": run.label, "environment": run.task.domain, "task": run.task.number},
            **{"seed": run.seed, "folder": run.folder},
            **row.columns,
        }
        for run in runs
        for row in run.evaluations
    ]
    text = io.StringIO()
    first = ("method", "environment", "task", "seed", "folder", "step")
    names: dict[str, None] = dict.fromkeys(first)
    names.update((name, None) for row in rows for name in row)
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _fractions(estimate: Estimate | None) -> list[str]:
    if estimate is None:
        return ["", "", ""]
    return [f"{end:.4f}" for end in (estimate.value, estimate.low, estimate.high)]


def _marked(row: Sequence[Cell], mark: str) -> list[str]:
    """The texts of cells, the best in a format."""
    return [mark.format(cell.text) if cell.best else cell.text for cell in row]


_OPEN = 2
"""Tables that are shown at once; those of single domains are folded away."""


def page(
    headline: str, summaries: Sequence[Summary], figures: Mapping[str, bytes], notes: Sequence[str]
) -> str:
    """The report as HTML.

    **Arguments:** `headline` counts the runs, `figures` are SVG files by name (`curves`, and
    `aggregates-0` and so on for each phase), `notes` the incomplete runs with reasons.
    """
    titles = [escape(summary.phase_end.title) for summary in summaries]
    links = [f'<a href="#phase-{i}">{title}</a>' for i, title in enumerate(titles)]
    first = []
    if "curves" in figures:
        links.insert(0, '<a href="#curves">learning curves</a>')
        image = _image(figures["curves"], "Success over steps for each domain")
        first = ['<h2 id="curves">Learning curves</h2>', image]
    parts = [
        f'<p class="soft">{escape(headline)}</p>',
        f"<nav>{''.join(links)}</nav>",
        f'<p class="soft">{escape(caption("Bold", summaries))}</p>',
        _notes(notes),
        *first,
        *(_section(i, summary, figures) for i, summary in enumerate(summaries)),
    ]
    return html.document("Report", parts)


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return '<p class="soft">Every run is complete.</p>'
    lines = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return _folded(f"{counted(len(notes), 'run')} not complete", f"<ul>{lines}</ul>")


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>{content}</details>"


FIGURES = {
    "aggregates": "Mean and interquartile mean",
    "profiles": "Performance profiles",
    "improvements": "Probability that a row beats a column",
}


def _section(index: int, summary: Summary, figures: Mapping[str, bytes]) -> str:
    titled = [(escape(table.title), _grid(table)) for table in tables(summary)]
    titles = {f"{name}-{index}": title for name, title in FIGURES.items()}
    images = (_image(figures[name], title) for name, title in titles.items() if name in figures)
    parts = (
        f'<h2 id="phase-{index}">{escape(summary.phase_end.title)}</h2>',
        *(f"<h3>{title}</h3>{grid}" for title, grid in titled[:_OPEN]),
        f'<div class="pair">{"".join(images)}</div>',
        *(_folded(title, grid) for title, grid in titled[_OPEN:]),
    )
    return "\n".join(parts)


def _image(svg: bytes, title: str) -> str:
    return f'<div class="wide">{html.image(svg, "svg+xml", title)}</div>'


def _grid(table: Table) -> str:
    # A long name may break after its hyphens and underscores.
    header = [Markup(re.sub("([-_])", r"\1<wbr>", escape(name))) for name in table.header]
    rows = [
        [Markup(f"<b>{escape(cell.text)}</b>") if cell.best else cell.text for cell in row]
        for row in table.rows
    ]
    return f'<div class="wide">{html.table(header, rows)}</div>'


def headline(runs: Sequence[Run]) -> str:
    """The numbers of runs, methods and tasks."""
    labels, tasks = {run.label for run in runs}, {run.task for run in runs}
    sizes = (len(runs), "run"), (len(labels), "method"), (len(tasks), "task")
    return "{} of {} on {}".format(*(counted(*size) for size in sizes))


def left_out(runs: Sequence[Run], summaries: Sequence[Summary], step: int | None) -> list[str]:
    """A line with the reason for each incomplete run, and each that a table lacks."""
    ends = [summary.phase_end for summary in summaries]
    missing = [(end.name, {run.folder for run in end.missing}) for end in ends]
    lines = []
    for run in runs:
        phases = [name for name, folders in missing if run.folder in folders]
        problem = run.problem if step is None or phases or run.diverged else None
        if problem or phases:
            tail = f"; not in the tables for {' and '.join(phases)}" if phases else ""
            lines.append(f"{run.folder}: {problem or 'no evaluation there'}{tail}")
    return lines


def _nothing(runs: Sequence[Run], step: int | None) -> str:
    steps = sorted({row.step for run in runs for row in run.evaluations})
    if not steps:
        return f"{counted(len(runs), 'run')}, none evaluated yet"
    if step is None:
        found = f"{counted(len(runs), 'run')}, none at the end of a phase"
        return f"{found}; name a step that they have reached with --step, up to {steps[-1]:,}"
    nearest = min(steps, key=lambda known: abs(known - step))
    return f"--step: found {step:,}, at which no run was evaluated; the nearest is {nearest:,}"


@contextlib.contextmanager
def output_folder(out: Path) -> Iterator[None]:
    """Makes the folder of `--out`, which is written in the block.

    **Raises:** `UserError` if it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"--out: {out}: cannot be written ({error.strerror})") from error


def _write(
    out: Path,
    runs: Sequence[Run],
    summaries: Sequence[Summary],
    notes: Sequence[str],
    style: Style | None,
) -> None:
    drawn = _figures(out / "figures", runs, summaries, style) if style else {}
    texts = {
        "tables.md": _markdown(runs, summaries, notes),
        "tables.tex": "\n".join(
            f"% {summary.phase_end.title}\n{latex(table)}"
            for summary in summaries
            for table in tables(summary)
        ),
        "estimates.csv": comma_separated(summaries),
        "report.html": page(headline(runs), summaries, drawn, notes),
    }
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")


def _markdown(runs: Sequence[Run], summaries: Sequence[Summary], notes: Sequence[str]) -> str:
    parts = [f"# Report\n\n{headline(runs)}.\n\n{caption('Bold', summaries)}\n"]
    if notes:
        parts.append("Not complete:\n\n" + "".join(f"- {note}\n" for note in notes))
    for summary in summaries:
        parts.append(f"## {summary.phase_end.title}\n")
        parts += [markdown(table) for table in tables(summary)]
    return "\n".join(parts)


def _figures(
    folder: Path, runs: Sequence[Run], summaries: Sequence[Summary], style: Style
) -> dict[str, bytes]:
    from qamx.tools.results import figures

    ends = {tuple(sorted(run.ends.values())[:-1]) for run in runs if len(run.ends) > 1}
    borders = ends.pop() if len(ends) == 1 else ()  # no border for runs with several schedules
    with html.figure_style():
        drawn = {"curves": figures.learning_curves(curves(runs), style, borders)}
        for index, summary in enumerate(summaries):
            if summary.complete and _fewest_runs(summary) >= FEW_FOR_FIGURES:
                drawn[f"aggregates-{index}"] = figures.aggregates(summary, style)
                drawn[f"profiles-{index}"] = figures.profiles(summary, style)
            if len(summary.complete) > 1:
                drawn[f"improvements-{index}"] = figures.improvements(summary)
        return {name: figures.save(figure, folder, name) for name, figure in drawn.items()}
