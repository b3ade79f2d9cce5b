"""Printing what was found: tables on a terminal, plain columns elsewhere."""

import sys
from collections.abc import Sequence

STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}
"""Words of a verdict that a terminal shows in colour."""


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A titled table; a header of empty names is left out."""
    if sys.stdout.isatty():
        _print_rich(title, header, rows)
    else:
        _print_plain(title, header, rows)


def _print_plain(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = [tuple(header), *map(tuple, rows)] if any(header) else [*map(tuple, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    print(title)
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"  {'  '.join(cells)}".rstrip())


def _print_rich(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", show_header=any(header))
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in row))
    Console().print(table)
