"""What the user sees of a download."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from qamx.data.download.probe import Need, readable

_SECONDS_BETWEEN_LINES = 30.0


class Watcher(Protocol):
    """Told how far each file is."""

    def reached(self, file: str, size: int, total: int | None) -> None:
        """So many bytes of a file are there."""
        ...

    def ended(self, file: str) -> None:
        """A file is complete."""
        ...


class Silent:
    """Shows nothing."""

    def reached(self, file: str, size: int, total: int | None) -> None:
        pass

    def ended(self, file: str) -> None:
        pass


@contextmanager
def watching(console: Any, needs: dict[str, Need], say: Callable[[str], None]) -> Iterator[Watcher]:
    """Bars on a terminal, a line now and then elsewhere, nothing without a console."""
    if console is None:
        yield Silent()
    elif console.is_terminal:
        with _display(console) as display:
            yield _Bars(display, needs)
    else:
        yield _Lines(say, needs)


def open_console(enabled: bool) -> tuple[Any, Callable[[str], None]]:
    """A `rich` console and what shows a line on it; `None` and nothing where it isn't wanted."""
    if not enabled:
        return None, lambda text: None
    from rich.console import Console

    console = Console()
    return console, lambda text: console.print(text, soft_wrap=True, highlight=False, markup=False)


class _Bars:
    """A bar for each file on its way, and one for all of them."""

    def __init__(self, display: Any, needs: dict[str, Need]):
        self._display = display
        self._lock = threading.Lock()
        self._sizes = {file: need.arrived for file, need in needs.items()}
        self._bars: dict[str, Any] = {}
        total = _sum_of_totals(list(needs.values()))
        self._all = display.add_task(
            count(len(needs)), total=total, completed=sum(self._sizes.values())
        )

    def reached(self, file: str, size: int, total: int | None) -> None:
        with self._lock:
            if file not in self._bars:
                name = file.rpartition("/")[2]
                self._bars[file] = self._display.add_task(name, total=total, completed=size)
            self._sizes[file] = size
            self._display.update(self._bars[file], completed=size)
            self._display.update(self._all, completed=sum(self._sizes.values()))

    def ended(self, file: str) -> None:
        with self._lock:
            if file in self._bars:
                self._display.remove_task(self._bars.pop(file))


class _Lines:
    """A line now and then: for logs, and anything else that isn't a terminal."""

    def __init__(self, say: Callable[[str], None], needs: dict[str, Need]):
        self._say = say
        self._lock = threading.Lock()
        self._sizes = {file: need.arrived for file, need in needs.items()}
        self._total = _sum_of_totals(list(needs.values()))
        self._at_first = sum(self._sizes.values())
        self._started = self._last_line = time.monotonic()

    def reached(self, file: str, size: int, total: int | None) -> None:
        with self._lock:
            self._sizes[file] = size
            now = time.monotonic()
            if now - self._last_line >= _SECONDS_BETWEEN_LINES:
                self._last_line = now
                self._say(self._line(now - self._started))

    def _line(self, seconds: float) -> str:
        arrived = sum(self._sizes.values())
        rate = max(arrived - self._at_first, 1) / seconds
        said = f"{readable(arrived)}{f' of {readable(self._total)}' if self._total else ''}"
        left = f", {(self._total - arrived) / rate / 60:.1f} min left" if self._total else ""
        return f"{said}, {readable(int(rate))}/s{left}"

    def ended(self, file: str) -> None:
        pass


def count(files: int) -> str:
    """A number of files, in words."""
    return f"{files:,} file{'' if files == 1 else 's'}"


def _sum_of_totals(needs: Sequence[Need]) -> int | None:
    totals = [need.total for need in needs if need.total is not None]
    return sum(totals) if len(totals) == len(needs) else None


def _display(console: Any) -> Any:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)
