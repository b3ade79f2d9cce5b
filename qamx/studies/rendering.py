"""Tables as text: for a terminal, Markdown, LaTeX, and the numbers behind them as CSV."""

import csv
import io
from collections.abc import Iterator, Sequence

from qamx._utils.terminal import print_table
from qamx.studies.summary import Summary
from qamx.studies.tables import Cell, Table

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
        yield [summary.moment.name, group, label, str(mean.runs), *rates, *quartile]
