"""The report as one page that opens without a network: style and figures are inside."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path

from qamx.audit.data.inspector import Report
from qamx.audit.data.terminal import parts
from qamx.audit.data.words import LEVEL_WORDS, TASK_HEADER, size_rows, task_rows, verdict
from qamx.errors import UserError

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto;
  max-width: 62rem; padding: 1.5rem 1.5rem 4rem; }
h1 { font-size: 1.45rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.verdict { margin: .3rem 0 0; font-size: 1.05rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0;
  border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }
th { font-weight: 600; white-space: nowrap; }
.findings td:first-child { white-space: nowrap; width: 6rem; }
.level { display: inline-block; padding: .05rem .55rem; border-radius: .8rem; font-size: .85rem;
  font-weight: 600; color: #fff; }
.refuse { background: #a03c00; } .warn { background: #f0c000; color: #222; }
.note { background: #0072b2; }
.findings p { margin: 0; } .findings code { font-weight: 600; }
.heading { color: #666; }
figure { margin: 0; } figure svg { width: 100%; height: auto; }
figcaption { color: #555; font-size: .9rem; }
"""


def write_page(report: Report, file: Path) -> None:
    """Writes the page.

    **Raises:** `UserError` without matplotlib, or if the file cannot be written.
    """
    require_matplotlib()
    try:
        file.write_text(page(report), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--html: {file}: cannot be written ({error.strerror})") from error


def require_matplotlib() -> None:
    """**Raises:** `UserError` if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise UserError('--html: the page\'s figures take matplotlib: pip install "qamx[plot]"')


def page(report: Report) -> str:
    """The page as HTML."""
    from qamx.audit.data.plots import figures

    name = escape(report.name)
    figure_parts = [
        f"<h2>{escape(title)}</h2><figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"
        for title, caption, svg in figures(report)
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{name}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{name}</h1>",
            f'<p class="verdict">{escape(verdict(report))}</p>',
            _findings(report),
            "<h2>What there is</h2>",
            _table((), size_rows(report)),
            "<h2>What the tasks reward</h2>" if report.rewards else "",
            _table(TASK_HEADER, task_rows(report)) if report.rewards else "",
            *figure_parts,
            "</body></html>\n",
        ]
    )


def _findings(report: Report) -> str:
    if not report.findings:
        return ""
    rows = []
    for finding in report.findings:
        lines = [f"<p><code>{escape(finding.id)}</code></p>"]
        for heading, text in parts(finding):
            mark = f'<span class="heading">{heading}:</span> ' if heading else ""
            lines.append(f"<p>{mark}{escape(text)}</p>")
        level = f'<span class="level {finding.level}">{LEVEL_WORDS[finding.level]}</span>'
        rows.append(f"<tr><td>{level}</td><td>{''.join(lines)}</td></tr>")
    return f'<h2>Findings</h2><table class="findings">{"".join(rows)}</table>'


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Sequence[str], mark: str) -> str:
        return f"<tr>{''.join(f'<{mark}>{escape(cell)}</{mark}>' for cell in cells)}</tr>"

    head = line(header, "th") if header else ""
    return f"<table>{head}{''.join(line(row, 'td') for row in rows)}</table>"
