"""Ending a run whose environment does not answer."""

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import numpy as np
from jaxtyping import Float

from qamx._utils.processes import Marked, end_started
from qamx.envs import Environment, Player, Step, open_players
from qamx.envs.base import step_limit
from qamx.envs.checked import close_with
from qamx.envs.protocol import unanswered
from qamx.errors import ExitCode

LIMIT_SECONDS = 600.0
"""How long one reset or step of an environment may take."""


class Watchdog:
    """A thread that ends the process when a watched call outlasts `seconds`.

    It sees every hang in which Python still runs: a simulator that releases the interpreter's
    lock, as MuJoCo does, a wait for a device or a server, a loop without end.
    """

    def __init__(self, seconds: float | None = None, end: Callable[[str], object] | None = None):
        self.seconds = LIMIT_SECONDS if seconds is None else seconds
        self._end, self._call = end or self._leave, None
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def begin(self, call: str) -> None:
        """Watches `call`, a description, from now on."""
        self._call = (time.monotonic(), call)

    def done(self) -> None:
        """The call has returned."""
        self._call = None

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self.seconds / 4)):
            call = self._call
            if call is not None and time.monotonic() - call[0] > self.seconds:
                self._end(unanswered(self.seconds, call[1]))
                return

    def _leave(self, message: str) -> NoReturn:
        # The thread that hangs cannot be told to raise: the process ends, its checkpoints stay.
        faulthandler.dump_traceback()
        print(message, file=sys.stderr, flush=True)
        end_started()
        os._exit(ExitCode.FAILED)


class WatchedEnvironment:
    """An environment of this process whose every call is watched, and what it starts ended.

    **Arguments:** `started` is what the environment has started where it was made.
    """

    def __init__(self, env: Environment, watchdog: Watchdog, started: Marked | None = None):
        self._env, self._watchdog = env, watchdog
        self._started = started or Marked()
        self.observation_size, self.action_size = env.observation_size, env.action_size
        self.max_episode_steps = step_limit(env)
        self._seed, self._steps = 0, 0

    def reset(self, seed: int) -> Float[np.ndarray, " obs"]:
        self._seed, self._steps = seed, 0
        with self._watched(f"a reset with seed {seed}"), self._started.noting():
            return self._env.reset(seed)

    def step(self, action: Float[np.ndarray, " act"]) -> Step:
        self._steps += 1
        call = f"step {self._steps} of the episode with reset seed {self._seed}"
        with self._watched(call), self._started.noting(threading.get_native_id()):
            return self._env.step(action)

    def close(self) -> None:
        with self._watched("its close"):
            close_with(self._env, self._started)

    @contextlib.contextmanager
    def _watched(self, call: str) -> Iterator[None]:
        self._watchdog.begin(call)
        try:
            with self._started.marking():
                yield
        finally:
            self._watchdog.done()


def open_watched_players(
    make_environment: Callable[[], Environment], count: int, workers: int, watchdog: Watchdog
) -> list[Player]:
    """Players of `count` environments over `workers` processes, none of which can hang the run.

    In this process (`workers` 0) the watchdog sees their calls; another process is waited for no
    longer than the watchdog's time.
    """

    def make_watched() -> Environment:
        started = Marked()
        with started.ended_at_error(), started.noting():
            return WatchedEnvironment(make_environment(), watchdog, started)

    make = make_watched if workers == 0 else make_environment
    return open_players(make, count, workers, watchdog.seconds)
