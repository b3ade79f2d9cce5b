"""`qamx report`: tables of runs as text, Markdown, LaTeX, CSV and HTML."""

import base64
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from qamx._utils.terminal import print_table
from qamx.errors import UserError
from qamx.tools.results.figures import curves
from qamx.tools.results.runs import ALL, Run, phase_ends, read_runs
from qamx.tools.results.statistics import Estimate, Summary, summarise

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
    """All tables at the end of a phase: aggregates, domains, and the tasks of each domain."""
    phase_end = summary.phase_end
    found = [_aggregates(summary)]
    if len(phase_end.domains) > 1:
        found.append(_means(summary, "Domains", (*phase_end.domains, ALL)))
    for domain, tasks in phase_end.domains.items():
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
        [_prob_better(summary, label) for label in labels],
        [Cell(ABSENT if mean is None else str(mean.runs)) for mean in means],
    ]
    names = ("mean", "interquartile mean", f"P({labels[0]} is better)", "runs")
    count = len(summary.phase_end.tasks)
    title = f"All tasks ({count})" if count > 1 else str(summary.phase_end.tasks[0])
    return _table(title, labels, names, columns)


def _prob_better(summary: Summary, label: str) -> Cell:
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


_LATEX = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#"})

COLUMNS = (
    *("moment", "group", "method", "runs"),
    *("mean", "ci95_low", "ci95_high", "iqm", "iqm_ci95_low", "iqm_ci95_high"),
)
"""The header of the CSV; the last three are empty for single tasks."""


def show(table: Table) -> None:
    """Prints a table; a star marks what is bold elsewhere."""
    rows = [[f"{cell.text} *" if cell.best else cell.text for cell in row] for row in table.rows]
    print_table(table.title, table.header, rows)


def markdown(table: Table, level: int = 3) -> str:
    """A table under a heading."""
    head = f"| {' | '.join(table.header)} |\n|{'---|' * len(table.header)}\n"
    rows = (f"| {' | '.join(_strong(cell) for cell in row)} |\n" for row in table.rows)
    return f"{'#' * level} {table.title}\n\n{head}{''.join(rows)}"


def latex(table: Table) -> str:
    """A `table` with booktabs' rules, `\\usepackage{booktabs}`."""
    head = " & ".join(name.translate(_LATEX) for name in table.header)
    rows = "".join(f"    {' & '.join(_bold(cell) for cell in row)} \\\\\n" for row in table.rows)
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
        writer.writerows(_records(summary))
    return text.getvalue()


def _strong(cell: Cell) -> str:
    return f"**{cell.text}**" if cell.best else cell.text


def _bold(cell: Cell) -> str:
    text = cell.text.translate(_LATEX)
    return f"\\textbf{{{text}}}" if cell.best else text


def _records(summary: Summary) -> Iterator[list[str]]:
    for (label, group), mean in summary.means.items():
        found = (mean, summary.interquartile.get((label, group)))
        numbers = (
            ("", "", "")
            if estimate is None
            else tuple(f"{x:.4f}" for x in (estimate.value, estimate.low, estimate.high))
            for estimate in found
        )
        rates, quartile = numbers
        yield [summary.phase_end.name, group, label, str(mean.runs), *rates, *quartile]


STYLE = """
:root { --ink: #1c2330; --soft: #5b6575; --line: #dde2ea; --best: #e8f1fb; --page: #f5f7fa }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif }
main { max-width: 1320px; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.7rem; margin: .2rem 0 } h2 { font-size: 1.3rem; margin: 2.5rem 0 .6rem }
h3 { font-size: 1rem; margin: 1.4rem 0 .5rem } p { max-width: 75ch; margin: .5rem 0 }
.soft { color: var(--soft) } nav a { margin-right: 1.2rem } a { color: #0a5aa8 }
.card h3 { margin-top: 0 }
.card { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: .9rem;
  margin: .9rem 0 }
.wide { overflow-x: auto } img { display: block; max-width: 100%; height: auto; margin: 0 auto }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .9rem; align-items: start }
.pair .card { margin: 0 }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums }
th, td { padding: .28rem .65rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line) }
thead th { vertical-align: bottom; white-space: normal; font-weight: 600; color: var(--soft) }
th:first-child { text-align: left; position: sticky; left: 0; background: #fff; font-weight: 600 }
td.best { background: var(--best); font-weight: 700 }
summary { cursor: pointer; font-weight: 600 } details.card[open] summary { margin-bottom: .6rem }
li { margin: .2rem 0; overflow-wrap: anywhere }
@media (max-width: 760px) { .pair { grid-template-columns: 1fr } h1 { font-size: 1.35rem }
  .wide .figure { min-width: 620px } th, td { padding: .25rem .45rem } }
"""

_OPEN = 2
"""Tables that are shown at once; those of single domains are folded away."""


def page(
    headline: str,
    summaries: Sequence[Summary],
    figures: Mapping[str, str],
    notes: Sequence[str],
) -> str:
    """The page.

    **Arguments:** `headline` says what was read, `figures` are SVG texts by name (`curves`, and
    `aggregates-0` and so on for each phase), `notes` the runs that are left out and why.
    """
    links = "".join(
        f'<a href="#phase-{i}">{escape(one.phase_end.title)}</a>' for i, one in enumerate(summaries)
    )
    body = [
        "<h1>Report</h1>",
        f'<p class="soft">{escape(headline)}</p>',
        f'<nav>{links}<a href="#curves">learning curves</a></nav>',
        f'<p class="soft">{escape(RULE.format("Bold"))}</p>',
        _notes(notes),
        *(_phase_end(i, summary, figures) for i, summary in enumerate(summaries)),
    ]
    if "curves" in figures:
        body.append('<h2 id="curves">Learning curves</h2>')
        body.append(_figure(figures["curves"], "Success over steps for each domain"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>qamx report</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body><main>\n{chr(10).join(body)}\n</main></body>\n</html>\n"
    )


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return '<p class="soft">Every run is complete.</p>'
    lines = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f'<details class="card"><summary>{len(notes)} runs are not complete</summary>'
        f"<ul>{lines}</ul></details>"
    )


def _phase_end(index: int, summary: Summary, figures: Mapping[str, str]) -> str:
    parts = [f'<h2 id="phase-{index}">{escape(summary.phase_end.title)}</h2>']
    found = tables(summary)
    parts += [f'<div class="card">{_html_table(table)}</div>' for table in found[:_OPEN]]
    titles = {"aggregates": "Mean and interquartile mean", "profiles": "Performance profiles"}
    pair = [
        _figure(figures[f"{name}-{index}"], title)
        for name, title in titles.items()
        if f"{name}-{index}" in figures
    ]
    parts.append(f'<div class="pair">{"".join(pair)}</div>' if pair else "")
    if f"improvements-{index}" in figures:
        parts.append(
            _figure(figures[f"improvements-{index}"], "Probability that a row beats a column")
        )
    for table in found[_OPEN:]:
        title = f"<summary>{escape(table.title)}</summary>"
        parts.append(f'<details class="card">{title}{_grid(table)}</details>')
    return "\n".join(parts)


def _figure(svg: str, title: str) -> str:
    data = base64.b64encode(svg.encode()).decode()
    return (
        f'<div class="card wide"><img class="figure" alt="{escape(title)}" '
        f'src="data:image/svg+xml;base64,{data}"></div>'
    )


def _html_table(table: Table) -> str:
    return f"<h3>{escape(table.title)}</h3>{_grid(table)}"


def _grid(table: Table) -> str:
    head = "".join(f"<th>{_breakable(name)}</th>" for name in table.header)
    rows = "".join(f"<tr>{_row(row)}</tr>" for row in table.rows)
    body = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="wide"><table>{body}</table></div>'


def _row(row: Sequence[Cell]) -> str:
    first, *others = row
    return f"<th>{escape(first.text)}</th>" + "".join(map(_cell, others))


def _cell(cell: Cell) -> str:
    if cell.text == ABSENT:
        return '<td class="soft">&ndash;</td>'
    return f'<td class="best">{cell.text}</td>' if cell.best else f"<td>{cell.text}</td>"


def _breakable(name: str) -> str:
    """A long name may break after its hyphens and underscores."""
    return escape(name).replace("-", "-<wbr>").replace("_", "_<wbr>")


def report(
    folders: Sequence[Path], out: Path | None, step: int | None, *, figures: bool = True
) -> int:
    """Prints the tables of all runs under some folders and, with `out`, writes the report there.

    **Arguments:** `step` takes the place of the end of each phase; `figures` draws them too.

    **Raises:** `UserError` if there are no runs, or none has an evaluation to report.
    """
    runs = read_runs(folders)
    found = phase_ends(runs, step)
    if not found:
        raise UserError(_nothing(runs, step))
    summaries = [summarise(phase_end) for phase_end in found]
    notes = left_out(runs, summaries, step)
    if out is not None:
        _write(out, runs, summaries, notes, figures)
    print(f"{headline(runs)}\n{RULE.format('Starred')}")
    for note in notes:
        print(f"not complete: {note}")
    for summary in summaries:
        print(f"\n{summary.phase_end.title}")
        for table in tables(summary):
            show(table)
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
        for run in summary.phase_end.missing:
            missing[run.folder].append(summary.phase_end.name)
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
    parts = [f"# Report\n\n{headline(runs)}.\n\n{RULE.format('Bold')}\n"]
    if notes:
        parts.append("Not complete:\n\n" + "".join(f"- {note}\n" for note in notes))
    for summary in summaries:
        parts.append(f"## {summary.phase_end.title}\n")
        parts += [markdown(table) for table in tables(summary)]
    return "\n".join(parts)


def _figures(folder: Path, runs: Sequence[Run], summaries: Sequence[Summary]) -> dict[str, str]:
    from qamx.tools.results import figures

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
