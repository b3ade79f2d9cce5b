"""Carrying out a plan."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from qamx._utils.machine import usable_cores
from qamx.data.generate.archive import read_stamp, write_archive
from qamx.data.generate.crew import crew
from qamx.data.generate.expert import Expert, find_expert, missing_expert
from qamx.data.generate.places import default_directory
from qamx.data.generate.plan import Plan, Portion
from qamx.data.generate.progress import Report, reporting
from qamx.data.generate.recipe import Episode
from qamx.errors import UserError


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
