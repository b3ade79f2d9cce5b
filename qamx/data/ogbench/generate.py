"""`qamx data generate`: workers, files, progress."""

import contextlib
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from qamx._utils.machine import usable_cores
from qamx.data.ogbench.catalogue import Dataset, default_directory
from qamx.data.ogbench.expert import Expert, find_expert, missing_expert
from qamx.data.ogbench.rollout import (
    Episode,
    Plan,
    Portion,
    Recipe,
    draw_episode,
    read_stamp,
    write_archive,
)
from qamx.errors import UserError

Draw = Callable[[Portion], Iterator[tuple[int, Episode]]]
"""Gives a file's episodes with their indices, in the order in which they get ready."""


def build_recipe(dataset: Dataset, expert: Expert | None = None) -> Recipe:
    """The recipe of a data set, its environment built (seconds for the robot arm).

    **Arguments:** `expert` moves the walker of a data set that has one.
    """
    # The simulators take seconds to import, and listing the names needs none of them.
    from qamx.data.ogbench.manipulation import manipulation_recipe
    from qamx.data.ogbench.maze import maze_recipe

    with warnings.catch_warnings():
        # A missing display and the precision of bounds matter to no episode, yet every worker
        # would say so.
        warnings.simplefilter("ignore")
        if "maze" in dataset.environment:
            return maze_recipe(dataset, expert)
        return manipulation_recipe(dataset)


@contextmanager
def crew(dataset: Dataset, expert: Expert | None, workers: int) -> Iterator[Draw]:
    """Workers for one data set; a single worker is this process itself.

    Several are spawned processes, each with an environment of its own, so a script that asks for
    them needs the guard `if __name__ == "__main__":`. `expert` moves the walker of a data set that
    has one.

    **Raises:** `UserError` where a worker process dies.
    """
    if workers == 1:
        recipe = build_recipe(dataset, expert)
        yield lambda portion: (
            (index, draw_episode(recipe, portion, index)) for index in range(portion.episodes)
        )
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (dataset, expert))
    try:
        yield lambda portion: _as_completed(pool, portion, waiting=2 * workers)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died: use fewer workers if memory ran out, and guard the script "
            'that starts them with `if __name__ == "__main__":`.'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _as_completed(
    pool: ProcessPoolExecutor, portion: Portion, waiting: int
) -> Iterator[tuple[int, Episode]]:
    # Few are submitted at a time: finished episodes must not pile up beside the file's own table.
    indices = iter(range(portion.episodes))
    pending: dict[Future[Episode], int] = {}
    while True:
        for index in islice(indices, waiting - len(pending)):
            pending[pool.submit(_draw_in_worker, portion, index)] = index
        if not pending:
            return
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            yield pending.pop(future), future.result()


_worker_recipe: list[Recipe] = []


def _start_worker(dataset: Dataset, expert: Expert | None) -> None:
    # Ctrl-C goes to every process of the terminal; only the first one is to act on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker_recipe.append(build_recipe(dataset, expert))


def _draw_in_worker(portion: Portion, index: int) -> Episode:
    return draw_episode(_worker_recipe[0], portion, index)


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


def generate(
    name: str,
    *,
    episodes: int | None = None,
    shards: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    directory: Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Generates an OGBench data set with OGBench's scripted behaviours, and its experts' walk.

    The files have the names, arrays and dtypes of OGBench's own, so that
    `ogbench.make_env_and_datasets` and `ogbench.utils.load_dataset` read them: `<name>-v0.npz` with
    `<name>-v0-val.npz`, or, with `shards`, `<name>-100m-v0/<name>-v0-000.npz` and so on, each with
    its own `-val`. The same arguments give the same bytes, whatever the number of workers. Files
    that are there already and were made from the same arguments are left as they are, so an
    interrupted generation goes on where it stopped.

    **Arguments:**

    - `name`: one of `dataset_names()`, with or without `-v0`.
    - `episodes`: training episodes (in each shard, if sharded); by default OGBench's number, or
        1,000 in a shard. The validation file gets a tenth more, at least one.
    - `shards`: how many shards; by default one plain file.
    - `seed`: a non-negative integer.
    - `workers`: processes; by default one for every processor. With one, all happens in the calling
        process; with more, a script needs the guard `if __name__ == "__main__":`.
    - `directory`: by default `$QAMX_DATA`, else `~/.ogbench/data`.
    - `overwrite`: whether to make all files anew.
    - `progress`: whether to show what is going on.

    **Returns:** the files, training before validation, shard by shard.

    An ant or a humanoid is moved by the expert in the directory's `experts/`, or else in that of
    the default directory; `qamx data expert` trains it, and its SHA-256 is in the files' stamps.

    **Raises:** `UserError` for an unknown name, a number out of range, an expert that is missing, a
    directory that can't be written, or a file of other content where one is to be written.

    Source: OGBench (Park et al., 2025), section on data collection, and its generation scripts.
    """
    plan = Plan.of(name, episodes=episodes, shards=shards, seed=seed)
    workers = usable_cores() if workers is None else workers
    if workers < 1:
        raise UserError(f"workers must be at least 1, got {workers}.")
    return carry_out(
        plan,
        default_directory() if directory is None else directory.expanduser(),
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )


def carry_out(
    plan: Plan, directory: Path, *, workers: int, overwrite: bool, progress: bool
) -> list[Path]:
    """Makes the files of a plan that aren't there yet; `generate` says the rest."""
    walker = plan.dataset.walker
    expert = None if walker is None else find_expert(walker, directory)
    if expert is not None:
        plan = replace(plan, expert=expert.sha256)
    missing = [p for p in plan.portions if overwrite or not _is_there(p, directory)]
    if missing and walker is not None and expert is None:
        raise missing_expert(walker, plan.dataset.name, directory)
    _prepare_folders(directory, missing)
    with _turn(directory, plan.dataset.name) if missing else contextlib.nullcontext():
        # Another process may have made them meanwhile: several runs start on one missing set.
        missing = [p for p in missing if overwrite or not _is_there(p, directory)]
        kept = len(plan.portions) - len(missing)
        episodes = sum(portion.episodes for portion in missing)
        with reporting(plan.dataset.name, episodes, enabled=progress) as report:
            if kept:
                report.kept(kept)
            if missing:
                _make(missing, directory, expert, min(workers, episodes), report)
    return [directory / portion.path for portion in plan.portions]


@contextlib.contextmanager
def _turn(directory: Path, name: str) -> Iterator[None]:
    """Waits until no other process makes the data set here."""
    with filelock.FileLock(directory / f".{name}.lock"):
        yield


def _make(
    portions: list[Portion], directory: Path, expert: Expert | None, workers: int, report: Report
) -> None:
    with crew(portions[0].dataset, expert, workers) as draw:
        for portion in portions:
            path = directory / portion.path
            write_archive(path, _table(portion, draw(portion), report), portion.stamp)
            report.wrote(portion, path)


def _table(
    portion: Portion, drawn: Iterable[tuple[int, Episode]], report: Report
) -> dict[str, np.ndarray]:
    """All rows of a file, its episodes in the order of their indices."""
    table: dict[str, np.ndarray] = {}
    for index, episode in drawn:
        rows = slice(index * portion.steps, (index + 1) * portion.steps)
        for column, values in episode.items():
            if column not in table:
                shape = (portion.episodes * portion.steps, *values.shape[1:])
                table[column] = np.empty(shape, values.dtype)
            table[column][rows] = values
        report.drew(portion.steps)
    return table


def _is_there(portion: Portion, directory: Path) -> bool:
    path = directory / portion.path
    if not path.exists():
        return False
    stamp = read_stamp(path)
    # Where the expert isn't at hand, a file from the same arguments is good enough.
    if _without_expert(stamp, portion) == portion.stamp:
        return True
    origin = "wasn't generated here" if stamp is None else f"was generated from {_listed(stamp)}"
    raise UserError(
        f"{path} {origin}, not from {_listed(portion.stamp)}: "
        "choose another directory, or ask to overwrite it."
    )


def _without_expert(stamp: dict[str, str | int] | None, portion: Portion) -> Any:
    if stamp is None or portion.expert is not None:
        return stamp
    return {key: value for key, value in stamp.items() if key != "expert"}


def _listed(stamp: dict[str, str | int]) -> str:
    return ", ".join(f"{key} {value}" for key, value in stamp.items() if key != "name")


def _prepare_folders(directory: Path, portions: list[Portion]) -> None:
    for folder in {(directory / portion.path).parent for portion in portions}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"can't make the folder {folder}: {error.strerror}.") from error
        if not os.access(folder, os.W_OK):
            raise UserError(f"can't write into {folder}.")
