"""What the user sees while data are generated."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qamx.data.generate.plan import Portion

_SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class Report:
    """Told of every episode and every file.

    **Arguments:**

    - `say`: shows a line of text.
    - `drew`: is told that an episode of so many steps is there.
    """

    say: Callable[[str], None]
    drew: Callable[[int], None]

    def kept(self, files: int) -> None:
        """Some files were there already."""
        self.say(f"{files} files are there already.")

    def wrote(self, portion: Portion, path: Path) -> None:
        """A file is there."""
        # The last row of an episode has no successor.
        transitions = portion.episodes * (portion.steps - 1)
        self.say(f"{path}: {transitions:,} transitions, {path.stat().st_size / 1e6:,.1f} MB")


@contextmanager
def reporting(name: str, episodes: int, *, enabled: bool) -> Iterator[Report]:
    """A bar on a terminal, lines elsewhere, nothing where it isn't wanted.

    **Arguments:**

    - `name`: the data set's.
    - `episodes`: how many there will be.
    - `enabled`: whether to show anything.
    """
    if not enabled:
        yield Report(say=lambda text: None, drew=lambda steps: None)
        return
    from rich.console import Console

    console = Console()

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    # A bar for no episodes at all would stand still at zero.
    if console.is_terminal and episodes:
        with _display(console) as progress:
            yield Report(say, _Bar(progress, name, episodes))
    else:
        yield Report(say, _Lines(say, name, episodes))


class _Lines:
    """A line now and then: for logs, and anything else that isn't a terminal."""

    def __init__(self, say: Callable[[str], None], name: str, episodes: int):
        self._say = say
        self._name = name
        self._episodes = episodes
        self._drawn = 0
        self._steps = 0
        self._started = self._last_line = time.monotonic()

    def __call__(self, steps: int) -> None:
        self._drawn += 1
        self._steps += steps
        now = time.monotonic()
        if now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._say(self._line(now - self._started))

    def _line(self, seconds: float) -> str:
        minutes_left = seconds / self._drawn * (self._episodes - self._drawn) / 60.0
        return (
            f"{self._name}: {self._drawn:,} of {self._episodes:,} episodes, "
            f"{self._steps / seconds:,.0f} steps/s, {minutes_left:.1f} min left"
        )


class _Bar:
    """A task of a `rich` progress display with a column for the field `rate`."""

    def __init__(self, progress: Any, name: str, episodes: int):
        self._progress = progress
        self._task = progress.add_task(name, total=episodes, rate="")
        self._steps = 0
        self._started = time.monotonic()

    def __call__(self, steps: int) -> None:
        self._steps += steps
        rate = self._steps / (time.monotonic() - self._started)
        self._progress.update(self._task, advance=1, rate=f"{rate:,.0f} steps/s")


def _display(console: Any) -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("episodes  {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)
