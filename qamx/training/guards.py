"""Guards of a run: signals, the watchdog, the lock of its folder, out of memory."""

import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import filelock
import jax
import numpy as np
from jaxtyping import Float, PyTree

from qamx._utils.processes import Marked, end_started, handling
from qamx.envs import EnvHandle, Environment, Step, open_envs
from qamx.envs.base import step_limit
from qamx.envs.checked import close_with
from qamx.envs.protocol import timeout_message
from qamx.errors import ExitCode, RunError, UserError


class Stopped(BaseException):
    """Raised inside work that can be repeated, when a stop was requested.

    It is no `Exception`, which code around an environment takes for the environment's failure.
    """


_NAMES = ("SIGTERM", "SIGUSR1", "SIGUSR2")
SCHEDULER = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""What a scheduler sends: its notice to end, and the warning that Slurm can send before it."""


class StopRequest:
    """Whether the run was asked to stop, by Ctrl-C or by a scheduler."""

    def __init__(self):
        self.made = False

    def make(self, number: int = signal.SIGTERM, frame: object = None) -> None:
        """Asks for a stop; a second Ctrl-C does not wait for the state to be saved."""
        if self.made and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.made = True

    def check(self) -> None:
        """Raises `Stopped` if a stop was requested."""
        if self.made:
            raise Stopped

    def listening(self) -> contextlib.AbstractContextManager[None]:
        """Signals make the request inside."""
        return handling((signal.SIGINT, *SCHEDULER), self.make)


@contextlib.contextmanager
def stop_immediately() -> Iterator[None]:
    """A scheduler's signals raise `Stopped` inside: nothing has been done that could be lost."""
    stop = StopRequest()

    def leave(number: int, frame: object) -> None:
        stop.make()
        stop.check()

    with handling(SCHEDULER, leave):
        try:
            yield
        except Exception:
            stop.check()  # modules that are being imported turn it into an error of theirs
            raise


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
                self._end(timeout_message(self.seconds, call[1]))
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


def open_watched_envs(
    make_environment: Callable[[], Environment], count: int, workers: int, watchdog: Watchdog
) -> list[EnvHandle]:
    """Players of `count` environments over `workers` processes, none of which can hang the run.

    In this process (`workers` 0) the watchdog sees their calls; another process is waited for no
    longer than the watchdog's time.
    """

    def make_watched() -> Environment:
        started = Marked()
        with started.ended_at_error(), started.noting():
            return WatchedEnvironment(make_environment(), watchdog, started)

    make = make_watched if workers == 0 else make_environment
    return open_envs(make, count, workers, watchdog.seconds)


PATIENCE = 0.5
"""Seconds in which a lock is tried: whoever only looks at it holds it for an instant."""


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the directory inside `with`.

    The operating system holds the lock for the process and frees it however the process ends;
    the file that stays behind locks nothing.

    **Raises:** `UserError` that names the holder, if another process holds it.
    """
    lock = filelock.FileLock(directory / "lock", timeout=PATIENCE, poll_interval=0.05)
    holder = directory / "lock.json"
    try:
        held = lock.acquire()
    except filelock.Timeout as error:
        raise UserError(
            f"{directory}: another process works here ({_describe(holder)}); wait for its end, or "
            "name another directory with --out"
        ) from error
    with held:
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield


def is_locked(directory: Path) -> bool:
    """Whether a process works in the directory."""
    path = directory / "lock"
    if not path.exists():
        return False
    try:
        with filelock.FileLock(path, timeout=0):
            return False
    except filelock.Timeout:
        return True


def _describe(holder: Path) -> str:
    try:
        found = json.loads(holder.read_bytes())
        return f"pid {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has only just begun"


class Divergence(RunError):
    """A metric, or the state, is not finite."""


class OutOfMemory(RunError):
    """The device's memory is exhausted."""


def replay_size(rows: int, observation_size: int, action_size: int) -> str:
    """What a replay buffer takes."""
    row = 4 * (2 * observation_size + action_size + 3)
    return f"the replay is {rows:,} rows x {row:,} bytes = {rows * row / 2**20:,.0f} MiB"


def bytes_of(tree: PyTree) -> int:
    """What the arrays of a tree take."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree) if hasattr(leaf, "nbytes"))


@contextlib.contextmanager
def explain_oom(content: str) -> Iterator[None]:
    """Says `content` when the device runs out of memory inside.

    **Raises:** `OutOfMemory`.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        said = str(error).splitlines()[0]
        if "RESOURCE_EXHAUSTED" not in said and "Out of memory" not in said:
            raise
        device = jax.devices()[0].device_kind
        raise OutOfMemory(f"out of memory on {device} ({said}): {content}") from error
