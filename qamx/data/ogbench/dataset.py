"""OGBench's data sets, rewarded for one task."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Num

from qamx.data import validation
from qamx.data.ogbench.catalogue import SHARDED, default_directory
from qamx.data.ogbench.download import StagingDir, check_recorded, download
from qamx.data.ogbench.generate import generate
from qamx.data.ogbench.rollout import is_generated
from qamx.data.shards import TransitionCache
from qamx.data.transitions import Transitions
from qamx.envs.base import GlobalRandomness
from qamx.envs.ogbench import Reward, make, sparse
from qamx.errors import UserError

TASKS = (1, 2, 3, 4, 5)

STATES = ("qpos", "button_states")
"""The arrays that rewards are computed from."""

Rewards: TypeAlias = Float[np.ndarray, " size"]


@dataclass(eq=False)
class OGBenchData:
    """The transitions of an OGBench data set with the rewards and masks of one task.

    **Arguments:**

    - `environment`, `task`, `reward`: the task that rewards are computed for, as in
      `qamx.envs.OGBenchEnvironment`.
    - `files`: the shards, in the order in which they are used.
    - `updates_per_shard`: given for more than one file.
    - `cached`: keep files as memory-mapped arrays once they are read.

    **Raises:** `UserError` if shards differ in length.
    """

    environment: str
    task: int
    reward: Reward
    files: list[Path]
    updates_per_shard: int | None = None
    cached: bool = False

    def __post_init__(self) -> None:
        self._environments: dict[int, Any] = {}
        if self.shards > 1:
            validation.require_equal_lengths(map(str, self.files), map(self._length, self.files))

    @property
    def shards(self) -> int:
        return len(self.files)

    @property
    def has_teleports(self) -> bool:
        """True for mazes with portals."""
        return "teleport" in self.environment

    def _task_environment(self, task: int) -> Any:
        """The environment of a task, which computes its rewards."""
        if task not in self._environments:
            with GlobalRandomness(0):
                self._environments[task] = make(self.environment, task)
        return self._environments[task]

    def _length(self, path: Path) -> int:
        return int(np.sum(self._terminals(path) == 0))

    def _terminals(self, path: Path) -> Num[np.ndarray, " rows"]:
        with self._reading(path), np.load(path, allow_pickle=False) as file:
            return file["terminals"]

    def load_validation(self) -> Transitions | None:
        """The validation data of the first file, if it exists and has a step."""
        path = self.files[0].with_name(f"{self.files[0].stem}-val.npz")
        validation.refuse_dangling(path)
        return self._read(path) if path.exists() and self._length(path) else None

    def tasks(self, shard: int) -> Iterator[tuple[int, Rewards, Rewards]]:
        """Yields each of the five tasks with the rewards and masks of a shard's rows.

        **Raises:** as `load`.
        """
        path = self.files[shard]
        inner = self._terminals(path) == 0
        with self._reading(path), np.load(path, allow_pickle=False) as file:
            states = {name: file[name][inner] for name in STATES if name in file}
        for task in TASKS:
            yield task, *self._relabelled(path, task, states)

    def _relabelled(
        self, path: Path, task: int, states: dict[str, np.ndarray]
    ) -> tuple[Rewards, Rewards]:
        """The rewards and masks of a task."""
        from ogbench.relabel_utils import relabel_dataset

        environment = self._task_environment(task)
        with self._reading(path), GlobalRandomness(0):
            relabel_dataset(self.environment, environment, states)
        rewards = sparse(states["rewards"]) if self.reward == "sparse" else states["rewards"]
        return rewards, states["masks"]

    def load(self, shard: int) -> Transitions:
        """Reads a shard through OGBench and relabels it.

        **Raises:** `UserError` with file, array and row: unreadable file, missing array, another
        environment, no ends of episodes, Python objects, non-finite values, actions outside
        [-1, 1].
        """
        if not self.cached:
            return self._read(self.files[shard])
        cache, label = TransitionCache(self.files[shard]), f"{self.task}-{self.reward}"
        transitions = cache.read(label)
        if transitions is None:
            transitions = self._read(self.files[shard])
            cache.write(label, transitions)
        return transitions

    def _read(self, path: Path) -> Transitions:
        from ogbench.utils import load_dataset

        environment = self._task_environment(self.task)
        sizes = environment.observation_space.shape[0], environment.action_space.shape[0]
        with self._reading(path):
            headers = validation.read_headers(path)
        validation.check_headers(path, headers, sizes)
        terminals = self._terminals(path)
        validation.refuse(path, validation.find_bad_ends("terminals", terminals))
        with self._reading(path):
            arrays = load_dataset(str(path), add_info=True)
        validation.check_values(path, arrays, terminals)
        rewards, masks = self._relabelled(path, self.task, arrays)
        return Transitions(
            observations=arrays["observations"],
            actions=arrays["actions"],
            rewards=rewards,
            masks=masks,
            ends=arrays["terminals"],
            next_observations=arrays["next_observations"],
        )

    def _reading(self, path: Path) -> contextlib.AbstractContextManager[None]:
        expected = f"a data set of {self.environment}"
        return validation.reading_file(str(path), expected, "delete the file and ")


def find_files(
    name: str,
    directory: Path | None = None,
    *,
    shards: int | None = None,
    generate_episodes: int | None = None,
    generate_seed: int = 0,
) -> list[Path]:
    """The file of a data set, or the shards of a folder, generated or downloaded if missing.

    **Arguments:**

    - `name`: such as `cube-double-play-v0`, or `cube-quadruple-play-100m-v0` for a folder.
    - `shards`: the number of a folder's first shards; by default all.
    - `generate_episodes`: generate a missing set with this many training episodes; by default it
      is downloaded.

    **Raises:** `UserError` with the remedy, if the set is not available or has fewer shards.
    """
    directory = default_directory() if directory is None else directory.expanduser()
    if SHARDED in name:
        return _find_shards(name, directory, shards)
    path = directory / f"{name}.npz"
    validation.refuse_dangling(path)
    missing, seed = not path.exists(), generate_seed
    if not missing and not is_generated(path):
        check_recorded(directory, [path.name])
    elif generate_episodes is not None:  # a generated file that is there is compared
        generate(name, episodes=generate_episodes, seed=seed, directory=directory, progress=missing)
    elif missing:
        download([name], directory=directory)
    return [path]


def _find_shards(name: str, directory: Path, count: int | None) -> list[Path]:
    folder = directory / name
    validation.refuse_dangling(folder)
    files = _existing_shards(folder)
    if any(is_generated(file) for file in files):
        # OGBench's shards are not put between generated ones.
        if count is not None and len(files) < count:
            raise UserError(
                f"{folder}: data.shards asks for {count}, and there are {len(files)}, generated "
                "here; generate the others, or ask for as many as there are"
            )
        return files[:count]
    pending = StagingDir(directory).find_pending(name) if count is None else None
    if not files or len(files) < (count or 0) or pending:
        download([name], directory=directory, shards=pending["shards"] if pending else count)
        files = _existing_shards(folder)
    check_recorded(directory, [f"{name}/{file.name}" for file in files[:count]])
    return files[:count]


def _existing_shards(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.glob("*.npz") if not p.stem.endswith("-val"))
    for file in files:
        validation.refuse_dangling(file)
    return files
