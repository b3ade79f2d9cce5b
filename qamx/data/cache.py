"""Shards as memory-mapped arrays: what is read from an npz file once need not be unpacked again.

An npz file's arrays are compressed, so that each is unpacked as a whole; and a shard's are wanted
every thousand updates. Observations, actions and ends are the same for all tasks and stand in the
cache once; each task adds its rewards and masks.
"""

import functools
import json
import os
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Num

from qamx.data.sequences import Transitions

FOLDER = ".cache"
"""The folder of all caches, beside the files that they are made from."""

FORMAT = 1
STAMP = "stamp.json"
SPARE_BYTES = 2**30
"""A cache is made only if the disk has this much left after it."""


class TransitionCache:
    """The cache of one data file.

    It holds only while the file has the size and time of change that it had when it was read.
    Each file of the cache is written whole or not at all.

    **Arguments:** `source` is the data file.
    """

    def __init__(self, source: Path):
        self._source = source
        self._folder = source.parent / FOLDER / source.stem

    def read(self, label: str) -> Transitions | None:
        """The transitions with the rewards and masks called `label`, None if they are not there."""
        shared, task = self._shared(), self._array(_task(label))
        if shared is None or task is None or task.shape != (2, len(shared.actions)):
            return None
        first, observed = _places(shared.ends), shared.observed
        rewards, masks = task
        return Transitions(
            observed[first], shared.actions, rewards, masks, shared.ends, observed[first + 1]
        )

    def write(self, label: str, transitions: Transitions) -> None:
        """Keeps transitions; where that is not possible, says why, and the run goes on without.

        Their observations must follow each other: within an episode, what follows a transition is
        what the next one begins with.
        """
        try:
            self._write(label, transitions)
        except OSError as error:
            _say(f"{self._folder}: not kept ({error.strerror or error}); shards are read anew")

    def _write(self, label: str, transitions: Transitions) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        task = np.stack([np.asarray(transitions.rewards), np.asarray(transitions.masks)])
        arrays = {_task(label): task.astype(np.float32)}
        if self._shared() is None:
            # Of an older file, or damaged: its tasks must not be taken for the new one's.
            for old in self._folder.iterdir():
                old.unlink()
            ends = np.asarray(transitions.ends, np.float32)
            arrays |= {
                "observed": _observed(transitions),
                "actions": np.asarray(transitions.actions, np.float32),
                "ends": ends,
            }
        size = sum(array.nbytes for array in arrays.values())
        if shutil.disk_usage(self._folder).free < size + SPARE_BYTES:
            raise OSError(f"it takes {size / 1e9:.1f} GB, and the disk is nearly full")
        for name, array in arrays.items():
            partial = self._folder / f".{name}.{os.getpid()}"
            with partial.open("wb") as file:
                np.save(file, array, allow_pickle=False)
            partial.replace(self._folder / f"{name}.npy")
        partial = self._folder / f".{STAMP}.{os.getpid()}"
        partial.write_text(json.dumps(self._stamp()), encoding="utf-8")
        partial.replace(self._folder / STAMP)

    def _shared(self) -> "_Shared | None":
        """What all tasks have, None where it is not whole or of another state of the file."""
        try:
            if json.loads((self._folder / STAMP).read_bytes()) != self._stamp():
                return None
        except (OSError, ValueError):
            return None
        observed, actions, ends = map(self._array, ("observed", "actions", "ends"))
        if observed is None or actions is None or ends is None or not len(ends):
            return None
        shared = _Shared(observed, actions, np.asarray(ends))
        whole = len(actions) == len(ends) and _places(shared.ends)[-1] + 2 == len(observed)
        return shared if whole else None

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
            "ogbench": version("ogbench"),  # whose relabelling the rewards are
        }


class _Shared(NamedTuple):
    """The arrays that do not depend on the task."""

    observed: np.ndarray
    actions: np.ndarray
    ends: np.ndarray


def _places(ends: Num[np.ndarray, " size"]) -> Int[np.ndarray, " size"]:
    """The row of each transition among the observations: an episode has one more of these."""
    ended = ends > 0
    return np.arange(len(ends)) + np.cumsum(ended) - ended


def _task(label: str) -> str:
    return f"task-{label}"


def _observed(transitions: Transitions) -> np.ndarray:
    """The observations of all episodes, each with the one that follows its last transition."""
    before, after = np.asarray(transitions.observations), np.asarray(transitions.next_observations)
    ends = np.asarray(transitions.ends) > 0
    places = _places(ends)
    observed = np.empty((len(before) + int(ends.sum()), before.shape[1]), np.float32)
    observed[places] = before
    observed[places[ends] + 1] = after[ends]
    return observed


@functools.cache
def _say(text: str) -> None:
    """A warning, once a process."""
    print(f"warning: {text}", file=sys.stderr, flush=True)
