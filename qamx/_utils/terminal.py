"""Terminal output: tables, findings and the progress of a run."""

import contextlib
import importlib
import logging
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import PurePath
from string import ascii_uppercase
from textwrap import TextWrapper
from typing import TYPE_CHECKING, Any

from qamx._utils.finding import LEVEL_WORDS, Finding

if TYPE_CHECKING:
    from rich.console import Console

_LOG = logging.getLogger("qamx")

STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}
"""Colours of verdicts."""

LEVEL_STYLES = {"refuse": "bold red", "warn": "bold yellow", "note": "bold blue"}


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a titled table; a header of empty names is left out, as are columns without texts.

    A terminal gets the same columns as a pipe, with colours; where they do not fit, texts are
    wrapped between words, and rows that do not fit even so are printed column by column.
    """
    console = _terminal()
    columns = [column for column in zip(header, *rows, strict=True) if any(column[1:]) or not rows]
    header, *rows = zip(*columns, strict=True)
    widths = [max(map(len, column)) for column in columns]
    if console is not None and sum(widths) + 2 * len(widths) > console.width:
        least = [max(len(word) for text in column for word in _wrap(text, 1)) for column in columns]
        if sum(least) + 2 * len(least) > console.width:
            return print_records(title, header, rows)
        widths = _shrunk(widths, least, console.width - 2 * len(widths))
    _paragraph(console, title, "bold")
    for line in (header, *rows) if any(header) else rows:
        wrapped = [_wrap(cell, width) for cell, width in zip(line, widths, strict=True)]
        for cells in zip_longest(*wrapped, fillvalue=""):
            texts = zip(line, cells, widths, strict=True)
            _write(console, [(f"  {c.ljust(w)}", STYLES.get(whole, "")) for whole, c, w in texts])


def print_text(text: str) -> None:
    """Prints a text; a terminal gets it in lines that break between words."""
    _paragraph(_terminal(), text)


def print_records(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table with each entry on lines of its own, after the name of its column."""
    console, width = _terminal(), max(map(len, header))
    _paragraph(console, title, "bold")
    for row in rows:
        for name, text in zip(header, row, strict=True):
            words = f"{name.ljust(width)}  {text}"
            _paragraph(console, words, STYLES.get(text, ""), indent="  ")


def _shrunk(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths of columns that fit: the widest are narrowed, none below its longest word."""
    widths = list(widths)
    while sum(widths) > room:
        widest = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))
        widths[widest] -= 1
    return widths


def print_findings(findings: Sequence[Finding]) -> None:
    """Prints findings, each with its effect and remedy."""
    console = _terminal()
    _write(console, (("findings", "bold"),))
    for finding in findings:
        level = f"  {LEVEL_WORDS[finding.level]}: "
        _write(console, ((level, LEVEL_STYLES[finding.level]), (finding.id, "bold")))
        for label, words in finding.paragraphs():
            text = f"{label}: {words}" if label else words
            _paragraph(console, text, indent="    ")


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Short names of folders: their last part, or a letter where these are long or not unique."""
    names = list(dict.fromkeys(names))
    short = [PurePath(name).name or name for name in names]
    if len(set(short)) == len(short) and max(map(len, short)) <= LONGEST_NAME:
        return dict(zip(names, short, strict=True))
    return letters(names)


def letters(names: Sequence[str]) -> dict[str, str]:
    """Letters for folders, explained in a legend, which is printed."""
    short = dict(zip(names, ascii_uppercase, strict=False))
    short |= {name: str(number) for number, name in enumerate(names, 1) if name not in short}
    for name, letter in short.items():
        _write(_terminal(), ((f"{letter}: {name}", ""),))
    return short


LONGEST_NAME = 28
"""The length of a run's name in a table of 80 columns."""


def _terminal() -> "Console | None":
    """The console of the standard output, or None if it is no terminal."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False)


def _wrap(text: str, width: int) -> list[str]:
    """The lines of a text, broken between words and not inside an interval."""
    text = re.sub(r"\[[^]]*\]", lambda found: found[0].replace(" ", "\xa0"), text)
    wrapper = TextWrapper(max(width, 1), break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in wrapper.wrap(text)] or [""]


def _paragraph(console: "Console | None", text: str, style: str = "", indent: str = "") -> None:
    """Writes a text, on as many lines as a terminal needs for it."""
    for line in [text] if console is None else _wrap(text, console.width - len(indent)):
        _write(console, ((indent + line, style),))


def _write(console: "Console | None", parts: Iterable[tuple[str, str]]) -> None:
    """Writes a line, as texts with styles."""
    if console is None:
        sys.stdout.write("".join(text for text, _ in parts).rstrip() + "\n")
        return
    from rich.text import Text

    line = Text.assemble(*parts)
    line.rstrip()
    console.print(line)


LINE = "{label}: {done} of {total}, {rate}, {left} left"


BAR_WIDTH = 58
"""Characters of a bar with its numbers and times, without its label."""


class Progress:
    """The progress of a long task: a bar in a terminal, else a line every 30 s.

    A context manager; lines go to the log, in order with other messages. A notebook gets one line,
    which changes every second.

    **Arguments:** `total` counts what there is to do, None if that is not known, `first` what was
    done before; `show` writes a number of it, and `unit` is the plural of what is counted, empty
    where `show` writes it too; `line` is the template of a line, `label` the bar's at first.
    """

    rate: float
    """The number a second, over the last half minute."""

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
        label: str = "start",
    ):
        self._total, self._unit, self._line, self._show = total, unit, line, show
        self._label = label
        self._reached = deque([(time.monotonic(), first)])
        self._shown = time.monotonic()
        self.rate = 0.0
        self._bar: Any = None
        self._task: Any = None
        self._cell: Any = None
        self._pause = self.SECONDS

    def __enter__(self) -> "Progress":
        from rich.console import Console

        console = Console(soft_wrap=True)  # whole log lines above the bar
        if console.is_jupyter:
            display = importlib.import_module("IPython.display").display
            self._cell = display({"text/plain": self._label}, raw=True, display_id=True)
            self._pause = 1.0
        elif console.is_terminal:
            self._bar = _bar(console)
            fields = {"amounts": "", "rate": "", "note": ""}
            first = self._reached[0][1]
            self._task = self._bar.add_task(
                self._label, total=self._total, completed=first, **fields
            )
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, done: float, label: str = "") -> None:
        """Shows that `done` of the total are done."""
        now, rate = time.monotonic(), self._rate(done)
        self.rate = rate
        shown, total = f"{self._show(rate)} {self._unit}".rstrip() + "/s", self._total
        amounts = {"done": self._show(done), "total": "?" if total is None else self._show(total)}
        if self._bar is not None:
            fields = {"amounts": "{done}/{total}".format(**amounts), "rate": shown}
            self._bar.update(self._task, completed=done, description=label, **fields)
        elif now - self._shown >= self._pause or (self._cell is not None and done == total):
            self._shown = now
            left = duration((total - done) / rate) if rate and total is not None else "?"
            self._say(self._line.format(label=label, rate=shown, left=left, **amounts))

    def announce(self, text: str) -> None:
        """Shows what is done before the first step, as the bar's label or as a line."""
        if self._bar is not None:
            self._bar.update(self._task, description=text)
        else:
            self._say(text)

    def note(self, text: str) -> None:
        """Shows a short text behind the bar."""
        if self._bar is not None:
            self._bar.update(self._task, note=text)
        elif self._cell is not None:
            self._say(text)

    def _say(self, text: str) -> None:
        """Writes a line to the log, or in place of the notebook's last."""
        if self._cell is not None:
            self._cell.update({"text/plain": text}, raw=True)
        else:
            _LOG.info(text)

    def _rate(self, done: float) -> float:
        """The number a second over the last half minute."""
        now = time.monotonic()
        self._reached.append((now, done))
        while len(self._reached) > 2 and now - self._reached[0][0] > self.SECONDS:
            self._reached.popleft()
        then, before = self._reached[0]
        return (done - before) / (now - then) if now > then else 0.0


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Shows the elapsed time of a task of unknown length in a terminal."""
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with RichProgress(*columns, console=console, transient=True) as shown:
        shown.add_task(text, total=None)
        yield


def duration(seconds: float) -> str:
    """A time in minutes, or hours and minutes."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "under 1 min"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def _bar(console: Any) -> Any:
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column

    label = Column(no_wrap=True, max_width=max(16, console.width - BAR_WIDTH))
    return RichProgress(
        TextColumn("[bold]{task.description}", table_column=label),
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


def print_log_interactively() -> None:
    """Prints the log messages in a terminal or a notebook, unless a logger takes them already."""
    from rich.console import Console

    console = Console()
    if (console.is_terminal or console.is_jupyter) and not _LOG.isEnabledFor(logging.INFO):
        print_log_alone()


def print_log_alone() -> None:
    """Prints the log messages in a process that is the command's: no other handler repeats them."""
    print_log()
    _LOG.propagate = False
