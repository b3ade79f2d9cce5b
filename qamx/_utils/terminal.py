"""Terminal output: tables, findings and the progress of a run."""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from textwrap import indent
from typing import TYPE_CHECKING, Any

from qamx._utils.finding import LEVEL_WORDS, Finding

if TYPE_CHECKING:
    from rich.table import Table

_LOG = logging.getLogger("qamx")

STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}
"""Colours of verdicts."""

LEVEL_STYLES = {"refuse": "bold red", "warn": "bold yellow", "note": "bold blue"}


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a titled table; a header of empty names is left out."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        table = _rich_table(title, header, show_header=any(header))
        for row in rows:
            table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in row))
        Console().print(table)
        return
    lines = [tuple(header), *map(tuple, rows)] if any(header) else [*map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    sys.stdout.write(f"{title}\n")
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(f"  {'  '.join(cells)}".rstrip() + "\n")


def print_findings(findings: Sequence[Finding], header: str) -> None:
    """Prints findings; `header` is the title of a terminal's column."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        table = _rich_table("findings", ("level", header), show_lines=True)
        for finding in findings:
            text = Text().append(finding.id, "bold")
            for label, words in finding.paragraphs():
                text.append("\n").append(f"{label}: " if label else "", "dim").append(words)
            table.add_row(Text(LEVEL_WORDS[finding.level], LEVEL_STYLES[finding.level]), text)
        Console().print(table)
        return
    lines = ["findings"]
    for finding in findings:
        lines.append(f"  {LEVEL_WORDS[finding.level]}: {finding.id}")
        for label, words in finding.paragraphs():
            lines.append(indent(f"{label}: {words}" if label else words, "    "))
    sys.stdout.write("\n".join(lines) + "\n")


def _rich_table(title: str, header: Sequence[str], **options: Any) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", **options)
    for name in header:
        table.add_column(name, overflow="fold", no_wrap=name == "level")
    return table


LINE = "{label}: {done} of {total}, {rate}, {left:.0f} min left"


class Progress:
    """The progress of a long task: a bar where output is a terminal, else a line every 30 s.

    A context manager; lines go to the log, in order with other messages.

    **Arguments:** `total` counts what there is to do, None if that is not known, `first` what was
    done before; `show` writes a number of it, and `unit` is the plural of what is counted, empty
    where `show` writes it too; `line` is the template of a line.
    """

    SECONDS = 30.0
    """Time between two lines, and the window of the rate."""

    def __init__(
        self,
        total: float | None,
        first: float = 0,
        *,
        unit: str,
        line: str = LINE,
        show: Callable[[float], str] = "{:,.0f}".format,
    ):
        self._total, self._unit, self._line, self._show = total, unit, line, show
        self._reached = deque([(time.monotonic(), first)])
        self._shown = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        from rich.console import Console

        if (console := Console(soft_wrap=True)).is_terminal:  # whole log lines above the bar
            self._bar = _bar(console)
            fields = {"amounts": "", "rate": "", "note": ""}
            first = self._reached[0][1]
            self._task = self._bar.add_task("start", total=self._total, completed=first, **fields)
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, done: float, label: str = "") -> None:
        """Shows that `done` of the total are done."""
        now, rate = time.monotonic(), self._rate(done)
        shown, total = f"{self._show(rate)} {self._unit}".rstrip() + "/s", self._total
        amounts = {"done": self._show(done), "total": "?" if total is None else self._show(total)}
        if self._bar is not None:
            fields = {"amounts": "{done}/{total}".format(**amounts), "rate": shown}
            self._bar.update(self._task, completed=done, description=label, **fields)
        elif now - self._shown >= self.SECONDS:
            self._shown = now
            left = (total - done) / rate / 60 if rate and total is not None else float("inf")
            _LOG.info(self._line.format(label=label, rate=shown, left=left, **amounts))

    def note(self, text: str) -> None:
        """Shows a short text behind the bar."""
        if self._bar is not None:
            self._bar.update(self._task, note=text)

    def _rate(self, done: float) -> float:
        """The number a second over the last half minute."""
        now = time.monotonic()
        self._reached.append((now, done))
        while len(self._reached) > 2 and now - self._reached[0][0] > self.SECONDS:
            self._reached.popleft()
        then, before = self._reached[0]
        return (done - before) / (now - then) if now > then else 0.0


def _bar(console: Any) -> Any:
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amounts]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class PlainHandler(logging.Handler):
    """Prints log messages as plain lines: warnings to stderr, others to stdout."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        stream.write(f"{self.format(record)}\n")
        stream.flush()


def print_log() -> None:
    """Prints the library's log messages from INFO on."""
    _LOG.setLevel(logging.INFO)
    if not any(isinstance(handler, PlainHandler) for handler in _LOG.handlers):
        _LOG.addHandler(PlainHandler())


def print_log_alone() -> None:
    """Prints the log messages in a process that is the command's: no other handler repeats them."""
    print_log()
    _LOG.propagate = False
