"""Terminal output: tables, findings and the progress of a run."""

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from textwrap import indent
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from qamx._utils.finding import LEVEL_WORDS, Finding

STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}
"""Colours of verdicts."""

LEVEL_STYLES = {"refuse": "bold red", "warn": "bold yellow", "note": "bold blue"}


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a titled table; a header of empty names is left out."""
    if sys.stdout.isatty():
        table = _rich_table(title, header, show_header=any(header))
        for row in rows:
            table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in row))
        Console().print(table)
        return
    lines = [tuple(header), *map(tuple, rows)] if any(header) else [*map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    _write(title)
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        _write(f"  {'  '.join(cells)}".rstrip())


def print_findings(findings: Sequence[Finding], header: str) -> None:
    """Prints findings; `header` is the title of a terminal's column."""
    if sys.stdout.isatty():
        table = _rich_table("findings", ("level", header), show_lines=True)
        for finding in findings:
            text = Text().append(finding.id, "bold")
            for label, words in finding.paragraphs():
                text.append("\n").append(f"{label}: " if label else "", "dim").append(words)
            table.add_row(Text(LEVEL_WORDS[finding.level], LEVEL_STYLES[finding.level]), text)
        Console().print(table)
        return
    _write("findings")
    for finding in findings:
        _write(f"  {LEVEL_WORDS[finding.level]}: {finding.id}")
        for label, words in finding.paragraphs():
            _write(indent(f"{label}: {words}" if label else words, "    "))


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _rich_table(
    title: str, header: Sequence[str], show_header: bool = True, show_lines: bool = False
) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        show_header=show_header,
        show_lines=show_lines,
    )
    for name in header:
        table.add_column(name, overflow="fold", no_wrap=name == "level")
    return table


class Display(Protocol):
    """Shows how far a run is."""

    def say(self, message: str, success: float) -> None:
        """A line that stays, and the success rate that it reports."""
        ...

    def advance(self, phase: str, step: int) -> None:
        """The run has reached `step`."""
        ...

    def close(self) -> None:
        """Ends the display."""
        ...


def make_display(total: int, first: int) -> Display:
    """A bar where output is a terminal, plain lines otherwise."""
    console = Console()
    return Bar(console, total, first) if console.is_terminal else Lines(total, first)


class Bar:
    """A bar with phase, steps, rate, time, and the latest success rate."""

    def __init__(self, console: Console, total: int, first: int):
        self._progress = Progress(
            TextColumn("[bold]{task.fields[phase]}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[success]}"),
            console=console,
        )
        self._task = self._progress.add_task(
            "run", total=total, completed=first, phase="start", rate="", success=""
        )
        self._rate = Rate(first)
        self._progress.start()

    def say(self, message: str, success: float) -> None:
        self._progress.console.print(message, highlight=False)
        self._progress.update(self._task, success=f"success {success:.2f}")

    def advance(self, phase: str, step: int) -> None:
        rate = f"{self._rate.update(step):,.0f} steps/s"
        self._progress.update(self._task, completed=step, phase=phase, rate=rate)

    def close(self) -> None:
        self._progress.stop()


class Lines:
    """A line every half minute."""

    SECONDS = 30.0

    def __init__(self, total: int, first: int):
        self._total, self._rate = total, Rate(first)
        self._shown = time.monotonic()

    def say(self, message: str, success: float) -> None:
        print(message, flush=True)

    def advance(self, phase: str, step: int) -> None:
        rate = self._rate.update(step)
        now = time.monotonic()
        if now - self._shown < self.SECONDS:
            return
        self._shown = now
        left = (self._total - step) / rate / 60 if rate else float("inf")
        print(
            f"{phase}: step {step:,} of {self._total:,}, {rate:,.0f} steps/s, {left:.0f} min left",
            flush=True,
        )

    def close(self) -> None:
        pass


class Rate:
    """Steps a second over the last half minute."""

    WINDOW = 30.0

    def __init__(self, first: int):
        self._marks = deque([(time.monotonic(), first)])

    def update(self, step: int) -> float:
        """The rate after reaching `step`."""
        now = time.monotonic()
        self._marks.append((now, step))
        while len(self._marks) > 2 and now - self._marks[0][0] > self.WINDOW:
            self._marks.popleft()
        then, before = self._marks[0]
        return (step - before) / (now - then) if now > then else 0.0


def open_console(enabled: bool) -> tuple[Console | None, Callable[[str], None]]:
    """A console and a function that prints a line on it; nothing is printed if not `enabled`."""
    if not enabled:
        return None, lambda text: None
    console = Console()
    return console, lambda text: console.print(text, soft_wrap=True, highlight=False, markup=False)
