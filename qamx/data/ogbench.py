"""OGBench's data sets, rewarded for one task."""

import contextlib
import functools
import http.client
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Num

from qamx.data.archive_checks import check_headers, check_terminals, check_values, read_headers
from qamx.data.generate import dataset_names, default_directory, generate, lookup
from qamx.data.generate.archive import read_stamp
from qamx.data.generate.expert import find_expert, training_command
from qamx.data.sequences import Transitions
from qamx.envs.ogbench import GlobalRandomness, Reward, make, sparse
from qamx.errors import UserError

ACTION_LIMIT = 1.0 - 1e-5
"""Data actions are clipped to this, so that a tanh policy can reach them."""

NETWORK_TIMEOUT = 20.0
"""Seconds without an answer after which a download is given up."""


class OGBenchData:
    """The transitions of an OGBench data set with the rewards and masks of one task.

    **Arguments:**

    - `environment`, `task`, `reward`: the task that rewards are computed for, as in
      `qamx.envs.OGBenchEnvironment`.
    - `files`: the shards, in the order in which they are used.
    - `updates_per_shard`: given for more than one file.

    **Raises:** `UserError` if shards differ in length.
    """

    def __init__(
        self,
        environment: str,
        task: int,
        reward: Reward,
        files: list[Path],
        updates_per_shard: int | None = None,
    ):
        self._environment, self._task, self._sparse = environment, task, reward == "sparse"
        self.files = files
        self.updates_per_shard = updates_per_shard
        if len(files) > 1:
            self._check_lengths()

    @property
    def shards(self) -> int:
        return len(self.files)

    @functools.cached_property
    def _goal(self) -> Any:
        """An environment of the task, which knows what is rewarded."""
        return make(self._environment, self._task)

    def _check_lengths(self) -> None:
        """Shards take each other's place in the buffer: they must be equally long."""
        lengths = [self._length(path) for path in self.files]
        odd = [index for index, length in enumerate(lengths) if length != lengths[0]]
        if odd:
            raise UserError(
                f"{self.files[odd[0]]}: {lengths[odd[0]]:,} transitions, and {self.files[0].name} "
                f"has {lengths[0]:,}; shards of one data set must be equally long"
            )

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
        check_terminals(path, terminals)
        return terminals

    def load(self, shard: int) -> Transitions:
        """Reads a shard through OGBench and relabels it.

        **Raises:** `UserError` naming the file, and the array and row at fault: it cannot be read,
        lacks an array, is of another environment, marks no ends of episodes, or holds Python
        objects, values that are not finite or actions outside [-1, 1].
        """
        from ogbench.relabel_utils import relabel_dataset
        from ogbench.utils import load_dataset

        path = self.files[shard]
        terminals = self._check(path)
        with _reading(path, self._environment):
            arrays = load_dataset(str(path), add_info=True)
        check_values(path, arrays, terminals)
        with _reading(path, self._environment), GlobalRandomness(0):
            relabel_dataset(self._environment, self._goal, arrays)
        rewards = sparse(arrays["rewards"]) if self._sparse else arrays["rewards"]
        return Transitions(
            observations=arrays["observations"],
            actions=np.clip(arrays["actions"], -ACTION_LIMIT, ACTION_LIMIT),
            rewards=rewards,
            masks=arrays["masks"],
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
      without it OGBench's downloader is asked.

    **Raises:** `UserError` with what to do, if the set can't be had or a folder holds fewer
    shards.
    """
    directory = default_directory() if directory is None else directory.expanduser()
    if "-100m-" in name:
        return _shards(name, directory, shards)
    path = directory / f"{name}.npz"
    if generate_episodes is not None and (not path.exists() or read_stamp(path) is not None):
        # A file that was generated before is compared with what is asked for now.
        generate(
            name,
            episodes=generate_episodes,
            seed=generate_seed,
            directory=directory,
            progress=not path.exists(),
        )
    elif not path.exists():
        _download(name, directory)
    return [path]


def _shards(name: str, directory: Path, wanted: int | None) -> list[Path]:
    folder = directory / name
    files = sorted(p for p in folder.glob("*.npz") if not p.stem.endswith("-val"))
    if not files:
        raise UserError(f"{folder}: no shards of the data set {name}. {_missing(name, directory)}")
    if wanted is not None and len(files) < wanted:
        raise UserError(
            f"{folder}: data.shards asks for {wanted}, and there are {len(files)}; "
            "add the others, or ask for as many as there are"
        )
    return files[:wanted]


def _missing(name: str, directory: Path) -> str:
    """How to come by a folder of shards."""
    bare = name.removesuffix("-100m-v0")
    if bare not in dataset_names():
        return "It cannot be generated here: put its files into that folder"
    return (
        "Download the folder from OGBench's 100M collection, or generate shards here "
        f"(100 of them are OGBench's size; fewer serve as well):\n{_commands(bare, directory)} "
        "--shards 100"
    )


def _download(name: str, directory: Path) -> None:
    import ogbench

    try:
        with _network_timeout(NETWORK_TIMEOUT):
            ogbench.download_datasets([name], str(directory))
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"{directory / name}.npz: missing, and OGBench's server cannot be reached ({error}). "
            + _remedy(name.removesuffix("-v0"), directory)
        ) from error


def _remedy(bare_name: str, directory: Path) -> str:
    if bare_name not in dataset_names():
        return (
            "It cannot be generated here: download it elsewhere and put the file and its -val "
            "into that folder"
        )
    return f"Generate it here:\n{_commands(bare_name, directory)}"


def _commands(bare_name: str, directory: Path) -> str:
    """What makes a data set: training its walker's expert, where that is missing, comes first."""
    place = "" if directory == default_directory() else f" --directory {directory}"
    commands = [f"  qamx data generate {bare_name}{place}"]
    walker = lookup(bare_name).walker
    if walker is not None and find_expert(walker, directory) is None:
        commands.insert(0, f"  {training_command(walker, directory)}")
    return "\n".join(commands)


@contextlib.contextmanager
def _reading(path: Path, environment: str) -> Iterator[None]:
    broken = (OSError, EOFError, KeyError, ValueError, IndexError, BadZipFile, zlib.error)
    try:
        yield
    except broken as error:
        raise UserError(
            f"{path}: not a data set of {environment} ({error}); "
            "delete the file and make or download it again"
        ) from error


@contextlib.contextmanager
def _network_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
