"""Guards of a run: signals, watchdog, folder lock, out of memory."""

import contextlib
import faulthandler
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from qamx._utils.processes import ChildProcesses, end_all_children, handle_signals
from qamx.errors import ExitCode, RunError, UserError

if TYPE_CHECKING:  # `qamx status` and `qamx sweep` look at locks without JAX and NumPy
    import numpy as np
    from jaxtyping import Float

    from qamx.envs import EnvHandle, Environment, Step


class Stopped(BaseException):
    """Raised inside work that can be repeated, when a stop was requested.

    Not an `Exception`, which code around an environment takes for the environment's failure.
    """


SCHEDULER = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals of a scheduler: its notice to end, and the warning that Slurm can send before it."""


class StopRequest:
    """A request to stop, by Ctrl-C or by a scheduler."""

    def __init__(self):
        self.made = False

    def make(self, number: int = signal.SIGTERM, frame: object = None) -> None:
        """Requests a stop; a second Ctrl-C does not wait for the state to be saved."""
        if self.made and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.made = True

    def check(self) -> None:
        """Raises `Stopped` if a stop was requested."""
        if self.made:
            raise Stopped

    def listening(self) -> contextlib.AbstractContextManager[None]:
        """A context in which signals make the request."""
        return handle_signals((signal.SIGINT, *SCHEDULER), self.make)


ACKNOWLEDGED = "stopping after this update; Ctrl-C again to quit"

QUIT_SECONDS = 2.0
"""Time that a second Ctrl-C leaves to Python's handler, before the process ends without it."""


@contextlib.contextmanager
def acknowledge_interrupts() -> Iterator[None]:
    """Answers Ctrl-C at once, also during a compilation, in which Python's handlers have to wait.

    A thread reads the numbers of signals, which Python's own C handler writes to a socket. After a
    second Ctrl-C the process ends within seconds; its checkpoints stay.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    left = threading.Event()

    def answer() -> None:
        heard = 0
        while number := reader.recv(1):
            if number[0] == signal.SIGINT:
                heard += 1
                if heard == 1:
                    logging.getLogger("qamx").info(ACKNOWLEDGED)
                elif not left.wait(QUIT_SECONDS):
                    end_all_children()
                    os._exit(128 + signal.SIGINT)

    thread = threading.Thread(target=answer, name="interrupts", daemon=True)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before)
        writer.close()
        thread.join()
        reader.close()


@contextlib.contextmanager
def stop_immediately() -> Iterator[None]:
    """Raises `Stopped` at a scheduler's signals, before there is anything to save."""
    stop = StopRequest()

    def leave(number: int, frame: object) -> None:
        stop.make()
        stop.check()

    with handle_signals(SCHEDULER, leave):
        try:
            yield
        except Exception:
            stop.check()  # a module that is being imported may have replaced the exception
            raise


LIMIT_SECONDS = 600.0
"""Timeout of one reset or step of an environment."""


class Watchdog:
    """A thread that ends the process when a watched call outlasts `seconds`.

    It sees every hang in which Python still runs: a simulator that releases the interpreter's
    lock, as MuJoCo does, a wait for a device or a server, an endless loop.
    """

    def __init__(self, seconds: float | None = None):
        self.seconds = LIMIT_SECONDS if seconds is None else seconds
        self._call: tuple[float, str] | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._check, name="watchdog", daemon=True).start()

    @contextlib.contextmanager
    def watch(self, call: str) -> Iterator[None]:
        """Watches the call inside, given its description."""
        self._call = (time.monotonic(), call)
        try:
            yield
        finally:
            self._call = None

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()

    def _check(self) -> None:
        while not self._closed.wait(min(1.0, self.seconds / 4)):
            call = self._call
            if call is not None and time.monotonic() - call[0] > self.seconds:
                from qamx.envs.protocol import timeout_message

                self._leave(timeout_message(self.seconds, call[1]))
                return

    def _leave(self, message: str) -> None:
        # The hanging thread cannot be made to raise: the process ends, its checkpoints stay.
        faulthandler.dump_traceback()
        logging.getLogger("qamx").error(message)
        end_all_children()
        os._exit(ExitCode.FAILED)


class WatchedEnvironment:
    """An environment of this process whose calls are watched and whose child processes are ended.

    **Arguments:** `started` are the processes that its construction has started.
    """

    def __init__(self, env: "Environment", watchdog: Watchdog, started: ChildProcesses):
        from qamx.envs.base import step_limit

        self._env, self._watchdog, self._started = env, watchdog, started
        self.observation_size, self.action_size = env.observation_size, env.action_size
        self.max_episode_steps = step_limit(env)
        self._seed, self._steps = 0, 0

    def reset(self, seed: int) -> "Float[np.ndarray, ' obs']":
        self._seed, self._steps = seed, 0
        with self._watchdog.watch(f"a reset with seed {seed}"), self._started.track():
            return self._env.reset(seed)

    def step(self, action: "Float[np.ndarray, ' act']") -> "Step":
        self._steps += 1
        call = f"step {self._steps} of the episode with reset seed {self._seed}"
        with self._watchdog.watch(call), self._started.track(threading.get_native_id()):
            return self._env.step(action)

    def close(self) -> None:
        from qamx.envs.checked import close_with

        with self._watchdog.watch("its close"), self._started.tag():
            close_with(self._env, self._started)


def open_watched_envs(
    make_environment: "Callable[[], Environment]", count: int, workers: int, watchdog: Watchdog
) -> "list[EnvHandle]":
    """`count` environments over `workers` processes, none of which can hang the run.

    In this process (`workers` 0) the watchdog sees their calls; its timeout is that of other
    processes.
    """
    from qamx.envs import open_envs

    def make_watched() -> "Environment":
        started = ChildProcesses()
        with started.end_on_error(), started.track():
            return WatchedEnvironment(make_environment(), watchdog, started)

    make = make_watched if workers == 0 else make_environment
    return open_envs(make, count, workers, watchdog.seconds)


LOCK_TIMEOUT = 0.5
"""Seconds: a process that only tests the lock holds it for an instant."""


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the lock of a directory inside `with`.

    The operating system frees the lock however the process ends; the file that stays locks
    nothing.

    **Raises:** `UserError` that names the holder, if another process holds it.
    """
    lock = filelock.FileLock(directory / "lock", timeout=LOCK_TIMEOUT, poll_interval=0.05)
    holder = directory / "lock.json"
    try:
        held = lock.acquire()
    except filelock.Timeout as error:
        try:
            process = json.loads(holder.read_bytes())
            who = f"pid {process['pid']} on {process['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            who = "it has only just begun"
        raise UserError(
            f"{directory}: another process works here ({who}); wait for its end, or name another "
            "directory with --out"
        ) from error
    with held:
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield


def is_locked(directory: Path) -> bool:
    """True while a process holds the directory's lock."""
    path = directory / "lock"
    if not path.exists():
        return False
    try:
        with filelock.FileLock(path, timeout=0):
            return False
    except filelock.Timeout:
        return True


class Divergence(RunError):
    """A metric, or the state, is not finite."""


class OutOfMemory(RunError):
    """The device's memory is exhausted."""


def replay_size(rows: int, observation_size: int, action_size: int) -> str:
    """Description of the memory of a replay buffer."""
    row = 4 * (2 * observation_size + action_size + 3)
    return f"the replay is {rows:,} rows x {row:,} bytes = {rows * row / 2**20:,.0f} MiB"


@contextlib.contextmanager
def explain_oom(content: str) -> Iterator[None]:
    """Adds the `content` of the device's memory to an out-of-memory error.

    **Raises:** `OutOfMemory`.
    """
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        message = str(error).splitlines()[0]
        if "RESOURCE_EXHAUSTED" not in message and "Out of memory" not in message:
            raise
        device = jax.devices()[0].device_kind
        raise OutOfMemory(f"out of memory on {device} ({message}): {content}") from error
