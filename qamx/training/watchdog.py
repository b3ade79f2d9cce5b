"""Guards of a run's calls: the watchdog of environments, and out of memory."""

import contextlib
import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import jax
import numpy as np
from jaxtyping import Float, PyTree

from qamx._utils.processes import ChildProcesses, end_all_children
from qamx.envs import EnvHandle, Environment, Step, open_envs
from qamx.envs.base import step_limit
from qamx.envs.checked import close_with
from qamx.envs.protocol import timeout_message
from qamx.errors import ExitCode, RunError

LIMIT_SECONDS = 600.0
"""Timeout of one reset or step of an environment."""


class Watchdog:
    """A thread that ends the process when a watched call outlasts `seconds`.

    It sees every hang in which Python still runs: a simulator that releases the interpreter's
    lock, as MuJoCo does, a wait for a device or a server, an endless loop.
    """

    def __init__(self, seconds: float | None = None, end: Callable[[str], object] | None = None):
        self.seconds = LIMIT_SECONDS if seconds is None else seconds
        self._end, self._call = end or self._leave, None
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def begin(self, call: str) -> None:
        """Starts to watch a call, given its description."""
        self._call = (time.monotonic(), call)

    def done(self) -> None:
        """Stops watching the call."""
        self._call = None

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self.seconds / 4)):
            call = self._call
            if call is not None and time.monotonic() - call[0] > self.seconds:
                self._end(timeout_message(self.seconds, call[1]))
                return

    def _leave(self, message: str) -> NoReturn:
        # The hanging thread cannot be made to raise: the process ends, its checkpoints stay.
        faulthandler.dump_traceback()
        logging.getLogger("qamx").error(message)
        end_all_children()
        os._exit(ExitCode.FAILED)


class WatchedEnvironment:
    """An environment of this process whose calls are watched and whose child processes are ended.

    **Arguments:** `started` are the processes that its construction has started.
    """

    def __init__(self, env: Environment, watchdog: Watchdog, started: ChildProcesses | None = None):
        self._env, self._watchdog = env, watchdog
        self._started = started or ChildProcesses()
        self.observation_size, self.action_size = env.observation_size, env.action_size
        self.max_episode_steps = step_limit(env)
        self._seed, self._steps = 0, 0

    def reset(self, seed: int) -> Float[np.ndarray, " obs"]:
        self._seed, self._steps = seed, 0
        with self._watched(f"a reset with seed {seed}"), self._started.track():
            return self._env.reset(seed)

    def step(self, action: Float[np.ndarray, " act"]) -> Step:
        self._steps += 1
        call = f"step {self._steps} of the episode with reset seed {self._seed}"
        with self._watched(call), self._started.track(threading.get_native_id()):
            return self._env.step(action)

    def close(self) -> None:
        with self._watched("its close"):
            close_with(self._env, self._started)

    @contextlib.contextmanager
    def _watched(self, call: str) -> Iterator[None]:
        self._watchdog.begin(call)
        try:
            with self._started.tag():
                yield
        finally:
            self._watchdog.done()


def open_watched_envs(
    make_environment: Callable[[], Environment], count: int, workers: int, watchdog: Watchdog
) -> list[EnvHandle]:
    """`count` environments over `workers` processes, none of which can hang the run.

    In this process (`workers` 0) the watchdog sees their calls; its timeout is that of other
    processes.
    """

    def make_watched() -> Environment:
        started = ChildProcesses()
        with started.end_on_error(), started.track():
            return WatchedEnvironment(make_environment(), watchdog, started)

    make = make_watched if workers == 0 else make_environment
    return open_envs(make, count, workers, watchdog.seconds)


class OutOfMemory(RunError):
    """The device's memory is exhausted."""


def replay_size(rows: int, observation_size: int, action_size: int) -> str:
    """Description of the memory of a replay buffer."""
    row = 4 * (2 * observation_size + action_size + 3)
    return f"the replay is {rows:,} rows x {row:,} bytes = {rows * row / 2**20:,.0f} MiB"


def bytes_of(tree: PyTree) -> int:
    """The size of a tree's arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree) if hasattr(leaf, "nbytes"))


@contextlib.contextmanager
def explain_oom(content: str) -> Iterator[None]:
    """Adds the `content` of the device's memory to an out-of-memory error.

    **Raises:** `OutOfMemory`.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        message = str(error).splitlines()[0]
        if "RESOURCE_EXHAUSTED" not in message and "Out of memory" not in message:
            raise
        device = jax.devices()[0].device_kind
        raise OutOfMemory(f"out of memory on {device} ({message}): {content}") from error
