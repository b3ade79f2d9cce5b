"""Shards: memory-mapped cache and double-buffered loading."""

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Num

from qamx._utils.files import atomic_path, atomic_write, package_version
from qamx.data.replay import on_device
from qamx.data.source import DataSource
from qamx.data.transitions import Transitions
from qamx.data.validation import warn_once
from qamx.errors import UserError

FOLDER = ".cache"
"""The folder of all caches, in that of the data files."""

FORMAT = 1
STAMP = "stamp.json"
SPARE_BYTES = 2**30
"""Free space that a cache must leave on the disk."""


class TransitionCache:
    """The cache of one data file.

    It is valid while the file's size and modification time do not change.

    **Arguments:** `source` is the data file.
    """

    def __init__(self, source: Path):
        self._source = source
        self._folder = source.parent / FOLDER / source.stem

    def read(self, label: str) -> Transitions | None:
        """The transitions with the rewards and masks of a `label`, None if they are not cached."""
        shared, task = self._shared(), self._array(f"task-{label}")
        if shared is None or task is None or task.shape != (2, len(shared[1])):
            return None
        observed, actions, ends = shared
        rows, (rewards, masks) = _observation_rows(ends), task
        return Transitions(observed[rows], actions, rewards, masks, ends, observed[rows + 1])

    def write(self, label: str, transitions: Transitions) -> None:
        """Caches transitions, or warns of the reason for which that is not possible.

        Within an episode, a transition's next observation must be the observation of the next.
        """
        try:
            self._write(label, transitions)
        except OSError as error:
            reason = f"not kept ({error.strerror or error}); shards are read again"
            warn_once(f"warning: {self._folder}: {reason}")

    def _write(self, label: str, transitions: Transitions) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        task = np.stack([np.asarray(transitions.rewards), np.asarray(transitions.masks)])
        arrays = {f"task-{label}": task.astype(np.float32)}
        if self._shared() is None:
            # Of an older file, or damaged: its tasks must not be read as the new one's.
            for old in self._folder.iterdir():
                old.unlink()
            arrays["observed"] = _observed(transitions)
            arrays["actions"] = np.asarray(transitions.actions, np.float32)
            arrays["ends"] = np.asarray(transitions.ends, np.float32)
        size = sum(array.nbytes for array in arrays.values())
        if shutil.disk_usage(self._folder).free < size + SPARE_BYTES:
            raise OSError(f"it takes {size / 1e9:.1f} GB, and the disk is nearly full")
        for name, array in arrays.items():
            path = self._folder / f"{name}.npy"
            with atomic_path(path) as partial, partial.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        atomic_write(self._folder / STAMP, json.dumps(self._stamp()))

    def _shared(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The arrays of all tasks (observations, actions and ends), None if they are not whole or
        of an older file."""
        try:
            if json.loads((self._folder / STAMP).read_bytes()) != self._stamp():
                return None
        except (OSError, ValueError):
            return None
        observed, actions, ends = map(self._array, ("observed", "actions", "ends"))
        if observed is None or actions is None or ends is None or not len(ends):
            return None
        ends = np.asarray(ends)
        rows = len(ends), _observation_rows(ends)[-1] + 2
        return (observed, actions, ends) if (len(actions), len(observed)) == rows else None

    def _array(self, name: str) -> np.ndarray | None:
        try:
            return np.load(self._folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None

    def _stamp(self) -> Mapping[str, Any]:
        status = self._source.stat()
        return {
            "format": FORMAT,
            "bytes": status.st_size,
            "changed": status.st_mtime_ns,
            "ogbench": package_version("ogbench"),  # whose relabelling the rewards are
        }


def _observation_rows(ends: Num[np.ndarray, " size"]) -> Int[np.ndarray, " size"]:
    """The row of each transition's observation: an episode has one more of these."""
    ended = ends > 0
    return np.arange(len(ends)) + np.cumsum(ended) - ended


def _observed(transitions: Transitions) -> np.ndarray:
    """The observations of all episodes, each with the one that follows its last transition."""
    before, after = np.asarray(transitions.observations), np.asarray(transitions.next_observations)
    ends = np.asarray(transitions.ends) > 0
    places = _observation_rows(ends)
    observed = np.empty((len(before) + int(ends.sum()), before.shape[1]), np.float32)
    observed[places] = before
    observed[places[ends] + 1] = after[ends]
    return observed


class Shards:
    """Double-buffered loading of a data set's shards, each for the same number of updates.

    During training on a shard, a thread reads and relabels the next and moves it to the device, so
    that a swap need not wait. (Reading, decompressing and copying release Python's lock.)

    **Arguments:** `updates` are those done so far, `total` those of the whole run.
    """

    def __init__(self, data: DataSource, updates: int, total: int):
        self._data, self._every, self._total = data, data.updates_per_shard, total
        self._present = self._at(updates)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shard")
        self._next: tuple[int, Future[Transitions]] | None = None
        self._length = 0

    @property
    def ahead(self) -> int:
        """The number of shards on the device besides the present one."""
        return 0 if self._every is None or self._data.shards == 1 else 1

    def first(self) -> Transitions:
        """Loads the shard of the present update; the runner puts it on the device."""
        transitions = self._data.load(self._present)
        self._length = len(transitions)
        return transitions

    def left(self, updates: int) -> int:
        """Updates until the next shard replaces the present one."""
        return self._total if self._every is None else self._every - updates % self._every

    def needs_swap(self, updates: int) -> bool:
        """True if the update needs another shard than the present one."""
        return self._at(updates) != self._present

    def prepare(self, updates: int) -> None:
        """Begins to load the next shard, if the run reaches it."""
        reached = updates + self.left(updates) < self._total
        if self.ahead and reached and self._next is None:
            self._next = self._begin(self._at(updates + self.left(updates)))

    def swap(self, updates: int) -> Transitions:
        """Waits for the shard of the present update, on the device.

        **Raises:** the exception of loading it; `UserError` if it has another number of
        transitions.
        """
        self._present = self._at(updates)
        # Another one was loaded only if a step brings more updates than a shard is used for.
        if self._next is None or self._next[0] != self._present:
            self._next = self._begin(self._present)
        (_, loading), self._next = self._next, None
        return loading.result()

    def close(self) -> None:
        """Cancels loading."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _at(self, updates: int) -> int:
        return 0 if self._every is None else updates // self._every % self._data.shards

    def _begin(self, shard: int) -> tuple[int, Future[Transitions]]:
        return shard, self._thread.submit(self._load, shard)

    def _load(self, shard: int) -> Transitions:
        transitions = self._data.load(shard)
        if len(transitions) != self._length:
            raise UserError(
                f"shard {shard} holds {len(transitions):,} transitions and the first one "
                f"{self._length:,}; shards of one data set must be equally long"
            )
        return on_device(transitions)
