"""`qamx data generate`: worker pool, progress, files."""

import contextlib
import itertools
import logging
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import filelock
import numpy as np

from qamx._utils.files import make_folder
from qamx._utils.machine import usable_cores
from qamx._utils.terminal import Progress
from qamx.data.ogbench.catalogue import Dataset, default_directory
from qamx.data.ogbench.expert import Expert, expert_path, find_expert, training_command
from qamx.data.ogbench.rollout import (
    Episode,
    Plan,
    ScriptedBehaviour,
    ShardSpec,
    describe_stamp,
    draw_episode,
    read_stamp,
    write_archive,
)
from qamx.errors import UserError

DrawEpisodes = Callable[[ShardSpec], Iterator[Episode]]
"""Yields a file's episodes in the order of their indices."""

_LOG = logging.getLogger("qamx")


def build_behaviour(dataset: Dataset, expert: Expert | None = None) -> ScriptedBehaviour:
    """The behaviour of a data set in its environment (seconds for the robot arm).

    **Arguments:** `expert` moves an ant or a humanoid.
    """
    # The simulators take seconds to import, and listing the names needs none of them.
    from qamx.data.ogbench.manipulation import manipulation_behaviour
    from qamx.data.ogbench.maze import maze_behaviour
    from qamx.envs.ogbench import silence_gl_warnings

    silence_gl_warnings()
    if "maze" in dataset.environment:
        return maze_behaviour(dataset, expert)
    return manipulation_behaviour(dataset)


@contextlib.contextmanager
def worker_pool(dataset: Dataset, expert: Expert | None, workers: int) -> Iterator[DrawEpisodes]:
    """Workers for one data set: spawned processes, or this process if `workers` is 1.

    A script that asks for several needs the guard `if __name__ == "__main__":`.

    **Raises:** `UserError` if a worker process dies.
    """
    if workers == 1:
        behaviour = build_behaviour(dataset, expert)
        yield lambda file: (draw_episode(behaviour, file, i) for i in range(file.episodes))
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (dataset, expert))
    try:
        yield lambda file: pool.map(_draw_in_worker, itertools.repeat(file), range(file.episodes))
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died: use fewer workers if memory ran out, and guard the script "
            'that starts them with `if __name__ == "__main__":`.'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker_behaviour: list[ScriptedBehaviour] = []


def _start_worker(dataset: Dataset, expert: Expert | None) -> None:
    # Ctrl-C goes to every process of the terminal; only the first one is to act on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker_behaviour.append(build_behaviour(dataset, expert))


def _draw_in_worker(file: ShardSpec, index: int) -> Episode:
    return draw_episode(_worker_behaviour[0], file, index)


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
    """Generates an OGBench data set with OGBench's scripted behaviours.

    The files have the names, arrays and dtypes of OGBench's own, so that
    `ogbench.make_env_and_datasets` and `ogbench.utils.load_dataset` read them: `<name>-v0.npz` with
    `<name>-v0-val.npz`, or, with `shards`, `<name>-100m-v0/<name>-v0-000.npz` and so on, each with
    its `-val`. The same arguments give the same bytes, whatever the number of workers. Existing
    files of the same arguments are kept, so that an interrupted generation resumes.

    **Arguments:**

    - `name`: one of `dataset_names()`, with or without `-v0`.
    - `episodes`: training episodes (in each shard, if sharded); by default OGBench's number, or
        1,000 in a shard. The validation file gets a tenth more, at least one.
    - `shards`: the number of shards; by default one plain file.
    - `seed`: a non-negative integer.
    - `workers`: processes; by default one for every processor. With one, all happens in the calling
        process; with more, a script needs the guard `if __name__ == "__main__":`.
    - `directory`: by default `$QAMX_DATA`, else `~/.ogbench/data`.
    - `overwrite`: make all files again.
    - `progress`: show a bar, and log each file at level INFO.

    **Returns:** the files, training before validation, shard by shard.

    An ant or a humanoid is moved by the expert in the directory's `experts/`, or else in that of
    the default directory; `qamx data expert` trains it, and its SHA-256 is in the files' stamps.

    **Raises:** `UserError` for an unknown name, a number out of range, an expert that is missing, a
    directory that can't be written, or an existing file of other content.

    Source: OGBench (Park et al., 2025), section on data collection, and its generation scripts.
    """
    plan = Plan.of(name, episodes=episodes, shards=shards, seed=seed)
    workers = usable_cores() if workers is None else workers
    if workers < 1:
        raise UserError(f"workers must be at least 1, got {workers}.")
    directory = default_directory() if directory is None else directory.expanduser()
    return execute(plan, directory, workers=workers, overwrite=overwrite, progress=progress)


def execute(
    plan: Plan, directory: Path, *, workers: int, overwrite: bool, progress: bool
) -> list[Path]:
    """Makes the missing files of a plan, as `generate` does."""
    walker, name = plan.dataset.walker, plan.dataset.name
    expert = None if walker is None else find_expert(walker, directory)
    if expert is not None:
        plan = replace(plan, expert=expert.sha256)
    missing = [file for file in plan.files if overwrite or not _exists(file, directory)]
    if missing and walker is not None and expert is None:
        raise UserError(
            f"{expert_path(walker, directory)}: missing, and {name} needs the {walker}'s "
            "locomotion policy; train it here, once for all its mazes:\n"
            f"  {training_command(walker, directory)}"
        )
    for folder in {(directory / file.path).parent for file in missing}:
        make_folder(folder)
    # Several runs may start on one missing set: one process makes it.
    lock = filelock.FileLock(directory / f".{name}.lock")
    with lock if missing else contextlib.nullcontext():
        missing = [file for file in missing if overwrite or not _exists(file, directory)]
        kept = len(plan.files) - len(missing)
        if kept and progress:
            _LOG.info(f"{kept} files are there already.")
        if missing:
            _make(missing, directory, expert, workers, progress)
    return [directory / file.path for file in plan.files]


def _make(
    files: list[ShardSpec], directory: Path, expert: Expert | None, workers: int, progress: bool
) -> None:
    plan, episodes = files[0].plan, sum(file.episodes for file in files)
    bar = Progress(episodes * plan.steps, unit="steps") if progress else None
    done = itertools.count(plan.steps, plan.steps)
    with (
        worker_pool(plan.dataset, expert, min(workers, episodes)) as draw,
        bar or contextlib.nullcontext(),
    ):
        for file in files:
            path, arrays = directory / file.path, {}
            for index, episode in enumerate(draw(file)):
                _insert(arrays, file, index, episode)
                if bar is not None:
                    bar.advance(next(done), f"generating {plan.dataset.name}")
            write_archive(path, arrays, file.stamp)
            if bar is not None:
                # The last row of an episode has no successor.
                transitions = file.episodes * (plan.steps - 1)
                megabytes = path.stat().st_size / 1e6
                _LOG.info(f"{path}: {transitions:,} transitions, {megabytes:,.1f} MB")


def _insert(arrays: dict[str, np.ndarray], file: ShardSpec, index: int, episode: Episode) -> None:
    """Inserts the episode of an index into a file's arrays."""
    steps = file.plan.steps
    for name, values in episode.items():
        if name not in arrays:
            shape = (file.episodes * steps, *values.shape[1:])
            arrays[name] = np.empty(shape, values.dtype)
        arrays[name][index * steps : (index + 1) * steps] = values


def _exists(file: ShardSpec, directory: Path) -> bool:
    """True if the file was made from the same arguments.

    **Raises:** `UserError` if it is another file.
    """
    path = directory / file.path
    if not path.exists():
        return False
    stamp = read_stamp(path) or {}
    expected = file.stamp
    if stamp and file.plan.expert is None and "expert" in stamp:
        # Without the expert at hand, a file of the same arguments is good enough.
        expected |= {"expert": stamp["expert"]}
    if stamp == expected:
        return True
    apart = {key for key in stamp | expected if stamp.get(key) != expected.get(key)}
    found, wanted = (
        describe_stamp({key: value for key, value in one.items() if key in apart})
        for one in (stamp, expected)
    )
    origin = f"was generated from {found}" if stamp else "wasn't generated here"
    raise UserError(
        f"{path} {origin}, not from {wanted}: choose another directory, or replace it: "
        f"qamx data generate {file.plan.dataset.name} --directory {directory} --overwrite, "
        "with the episodes and seed that you want"
    )
