"""The report as one page that opens without a network: style and figures are inside."""

from html import escape
from pathlib import Path

from qamx._utils.html import document, findings_table, require_matplotlib, table, write_text
from qamx.audit.data.inspector import Report
from qamx.audit.data.words import TASK_HEADER, size_rows, task_rows, verdict


def write_page(report: Report, file: Path) -> None:
    """Writes the page.

    **Raises:** `UserError` without matplotlib, or if the file cannot be written.
    """
    require_matplotlib("--html")
    write_text("--html", file, page(report))


def page(report: Report) -> str:
    """The page as HTML."""
    from qamx.audit.data.plots import figures

    figure_parts = [
        f"<h2>{escape(title)}</h2><figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"
        for title, caption, svg in figures(report)
    ]
    return document(
        report.name,
        [
            f'<p class="verdict">{escape(verdict(report))}</p>',
            findings_table(report.findings),
            "<h2>What there is</h2>",
            table((), size_rows(report)),
            "<h2>What the tasks reward</h2>" if report.rewards else "",
            table(TASK_HEADER, task_rows(report)) if report.rewards else "",
            *figure_parts,
        ],
    )
