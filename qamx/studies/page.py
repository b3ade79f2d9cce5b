"""A report as one HTML page that needs nothing besides itself."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from qamx.studies.summary import Summary
from qamx.studies.tables import ABSENT, RULE, Cell, Table, tables

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
    `aggregates-0` and so on for each moment), `notes` the runs that are left out and why.
    """
    links = "".join(
        f'<a href="#moment-{i}">{escape(one.moment.title)}</a>' for i, one in enumerate(summaries)
    )
    body = [
        "<h1>Report</h1>",
        f'<p class="soft">{escape(headline)}</p>',
        f'<nav>{links}<a href="#curves">learning curves</a></nav>',
        f'<p class="soft">{escape(RULE.format("Bold"))}</p>',
        _notes(notes),
        *(_moment(i, summary, figures) for i, summary in enumerate(summaries)),
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


def _moment(index: int, summary: Summary, figures: Mapping[str, str]) -> str:
    parts = [f'<h2 id="moment-{index}">{escape(summary.moment.title)}</h2>']
    found = tables(summary)
    parts += [f'<div class="card">{_table(table)}</div>' for table in found[:_OPEN]]
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


def _table(table: Table) -> str:
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
