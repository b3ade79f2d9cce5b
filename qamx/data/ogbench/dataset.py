"""OGBench's data sets, rewarded for one task."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Num

from qamx.data.ogbench.catalogue import default_directory
from qamx.data.ogbench.download import StagingDir, check_recorded, download
from qamx.data.ogbench.generate import generate
from qamx.data.ogbench.rollout import is_generated
from qamx.data.shards import TransitionCache
from qamx.data.transitions import Transitions
from qamx.data.validation import (
    BROKEN,
    check_headers,
    check_values,
    find_bad_ends,
    read_headers,
    refuse,
    refuse_dangling,
    require_equal_lengths,
)
from qamx.envs.base import GlobalRandomness
from qamx.envs.ogbench import Reward, make, sparse
from qamx.errors import UserError

TASKS = (1, 2, 3, 4, 5)

STATES = ("qpos", "button_states")
"""The arrays that rewards are computed from."""

Rewards: TypeAlias = Float[np.ndarray, " size"]


class OGBenchData:
    """The transitions of an OGBench data set with the rewards and masks of one task.

    **Arguments:**

    - `environment`, `task`, `reward`: the task that rewards are computed for, as in
      `qamx.envs.OGBenchEnvironment`.
    - `files`: the shards, in the order in which they are used.
    - `updates_per_shard`: given for more than one file.
    - `cached`: whether files are kept as memory-mapped arrays beside them once they are read.

    **Raises:** `UserError` if shards differ in length.
    """

    def __init__(
        self,
        environment: str,
        task: int,
        reward: Reward,
        files: list[Path],
        updates_per_shard: int | None = None,
        cached: bool = False,
    ):
        self._environment, self._task, self._reward = environment, task, reward
        self._cached = cached
        self.files = files
        self.updates_per_shard = updates_per_shard
        if len(files) > 1:
            require_equal_lengths([str(path) for path in files], [*map(self._length, files)])

    @property
    def shards(self) -> int:
        return len(self.files)

    @property
    def has_teleports(self) -> bool:
        """True for mazes with portals."""
        return "teleport" in self._environment

    @functools.cached_property
    def _goal(self) -> Any:
        """An environment of the task, which knows what is rewarded."""
        with GlobalRandomness(0):
            return make(self._environment, self._task)

    def _length(self, path: Path) -> int:
        return int(np.sum(self._terminals(path) == 0))

    def _terminals(self, path: Path) -> Num[np.ndarray, " rows"]:
        with _reading(path, self._environment), np.load(path, allow_pickle=False) as file:
            return file["terminals"]

    def _check(self, path: Path) -> Num[np.ndarray, " rows"]:
        """What can be said of a file before it is read whole; returns the ends of its episodes."""
        spaces = self._goal.observation_space, self._goal.action_space
        with _reading(path, self._environment):
            headers = read_headers(path)
        check_headers(path, headers, (spaces[0].shape[0], spaces[1].shape[0]))
        terminals = self._terminals(path)
        refuse(path, find_bad_ends("terminals", terminals))
        return terminals

    def load_validation(self) -> Transitions | None:
        """The validation data beside the first file, if they are there and hold a step."""
        path = self.files[0].with_name(f"{self.files[0].stem}-val.npz")
        refuse_dangling(path)
        if not path.exists() or self._length(path) == 0:
            return None
        return self._read(path)

    def tasks(self, shard: int) -> Iterator[tuple[int, Rewards, Rewards]]:
        """Each of the five tasks with the rewards and masks that it gives a shard's rows.

        **Raises:** as `load`.
        """
        path = self.files[shard]
        inner = self._terminals(path) == 0
        with _reading(path, self._environment), np.load(path, allow_pickle=False) as file:
            states = {name: file[name][inner] for name in STATES if name in file}
        for task in TASKS:
            with _reading(path, self._environment), GlobalRandomness(0):
                rewards, masks = self._relabelled(self._goals[task], states)
            yield task, rewards, masks

    @functools.cached_property
    def _goals(self) -> dict[int, Any]:
        """An environment of each task."""
        with GlobalRandomness(0):
            others = {task: make(self._environment, task) for task in TASKS if task != self._task}
        return others | {self._task: self._goal}

    def _relabelled(self, goal: Any, states: dict[str, np.ndarray]) -> tuple[Rewards, Rewards]:
        """The rewards and masks of a task."""
        from ogbench.relabel_utils import relabel_dataset

        relabel_dataset(self._environment, goal, states)
        rewards = sparse(states["rewards"]) if self._reward == "sparse" else states["rewards"]
        return rewards, states["masks"]

    def load(self, shard: int) -> Transitions:
        """Reads a shard through OGBench and relabels it.

        **Raises:** `UserError` naming the file, and the array and row at fault: it cannot be read,
        lacks an array, is of another environment, marks no ends of episodes, or holds Python
        objects, values that are not finite or actions outside [-1, 1].
        """
        if not self._cached:
            return self._read(self.files[shard])
        cache, label = TransitionCache(self.files[shard]), f"{self._task}-{self._reward}"
        kept = cache.read(label)
        if kept is None:
            kept = self._read(self.files[shard])
            cache.write(label, kept)
        return kept

    def _read(self, path: Path) -> Transitions:
        from ogbench.utils import load_dataset

        terminals = self._check(path)
        with _reading(path, self._environment):
            arrays = load_dataset(str(path), add_info=True)
        check_values(path, arrays, terminals)
        with _reading(path, self._environment), GlobalRandomness(0):
            rewards, masks = self._relabelled(self._goal, arrays)
        return Transitions(
            observations=arrays["observations"],
            actions=arrays["actions"],
            rewards=rewards,
            masks=masks,
            ends=arrays["terminals"],
            next_observations=arrays["next_observations"],
        )


def find_files(
    name: str,
    directory: Path | None = None,
    *,
    shards: int | None = None,
    generate_episodes: int | None = None,
    generate_seed: int = 0,
) -> list[Path]:
    """The files of a data set: one, or the shards of a folder; made or downloaded if missing.

    **Arguments:**

    - `name`: OGBench's, such as `cube-double-play-v0`, or a folder of shards, such as
      `cube-quadruple-play-100m-v0`.
    - `shards`: take the first so many of a folder; all of them where it is not given.
    - `generate_episodes`: generate a missing set here with this many training episodes;
      without it a missing set is downloaded.

    **Raises:** `UserError` with what to do, if the set can't be had or a folder holds fewer
    shards.
    """
    directory = default_directory() if directory is None else directory.expanduser()
    if "-100m-" in name:
        return _shards(name, directory, shards)
    path = directory / f"{name}.npz"
    refuse_dangling(path)
    if generate_episodes is not None and (not path.exists() or is_generated(path)):
        # A file that was generated before is compared with what is asked for now.
        generate(
            name,
            episodes=generate_episodes,
            seed=generate_seed,
            directory=directory,
            progress=not path.exists(),
        )
    elif not path.exists():
        download([name], directory=directory)
    elif not is_generated(path):
        check_recorded(directory, [path.name])
    return [path]


def _shards(name: str, directory: Path, wanted: int | None) -> list[Path]:
    refuse_dangling(directory / name)
    files = _shards_there(directory / name)
    if any(is_generated(file) for file in files):
        _refuse_fewer(directory / name, len(files), wanted)
        return files[:wanted]
    pending = StagingDir(directory).pending(name) if wanted is None else None
    if not files or len(files) < (wanted or 0) or pending:
        download([name], directory=directory, shards=pending.shards if pending else wanted)
        files = _shards_there(directory / name)
    taken = files[:wanted]
    check_recorded(directory, [f"{name}/{file.name}" for file in taken])
    return taken


def _shards_there(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.glob("*.npz") if not p.stem.endswith("-val"))
    for file in files:
        refuse_dangling(file)
    return files


def _refuse_fewer(folder: Path, there: int, wanted: int | None) -> None:
    """OGBench's shards are not put between those that were generated."""
    if wanted is not None and there < wanted:
        raise UserError(
            f"{folder}: data.shards asks for {wanted}, and there are {there}, generated here; "
            "generate the others, or ask for as many as there are"
        )


@contextlib.contextmanager
def _reading(path: Path, environment: str) -> Iterator[None]:
    try:
        yield
    except BROKEN as error:
        raise UserError(
            f"{path}: not a data set of {environment} ({error}); "
            "delete the file and make or download it again"
        ) from error
