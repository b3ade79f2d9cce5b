"""NumPy's global random generator, kept apart for each environment."""

import threading

import numpy as np


class GlobalRandomness:
    """A state of NumPy's global random generator that is in force inside `with`, and only there.

    Environments that draw from it (OGBench's mazes their start positions and the exits of
    teleports) would disturb each other in one process. One thread at a time is inside: a shard
    is relabelled beside the loop.
    """

    _lock = threading.RLock()

    def __init__(self, seed: int):
        self._inside = np.random.RandomState(seed % 2**32).get_state()
        self._outside = self._inside

    def __enter__(self) -> None:
        self._lock.acquire()
        self._outside = np.random.get_state()
        np.random.set_state(self._inside)

    def __exit__(self, *exception: object) -> None:
        self._inside = np.random.get_state()
        np.random.set_state(self._outside)
        self._lock.release()
