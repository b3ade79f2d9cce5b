"""Messages and life cycle of a worker process, in the parent."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import Any

import cloudpickle
import numpy as np
from jaxtyping import Float

from qamx._utils.processes import TAG, ChildProcesses
from qamx.envs.base import Environment
from qamx.errors import RunError, UserError, named


class EnvError(Exception):
    """An environment's error as text, such as that of a worker."""


@dataclass(frozen=True)
class Setup:
    """The first message: makes `count` environments with a pickled function.

    Each is answered by its observation size, action size and longest episode.
    """

    factory: bytes
    count: int


@dataclass(frozen=True)
class Reset:
    """Begins an episode; answered by its first observation."""

    index: int
    ticket: int
    seed: int


@dataclass(frozen=True)
class Play:
    """Plays actions until they or the episode end; answered by a `Step` for each.

    **Arguments:** `together` puts all answers into one message, after the last step.
    """

    index: int
    ticket: int
    actions: Float[np.ndarray, "n act"]
    together: bool


Message = Setup | Reset | Play | None
"""A message to a worker; None is the last."""


@dataclass(frozen=True)
class Answer:
    """The result of a message, or the exception; `ticket` is that of its `Reset` or `Play`.

    A process sends lists of answers.
    """

    index: int
    ticket: int
    value: Any


def format_exception(error: BaseException) -> str:
    """Type, message and line of an exception, e.g. `ValueError: unstable (arm.py:12)`."""
    if isinstance(error, EnvError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{named(error)}{place}"


CONTINUES = "A run resumes from its last checkpoint with the same command"
END_SECONDS = 10.0
"""Timeout for a process to end with its child processes, before it is killed."""
POLL_SECONDS = 1.0
"""Interval at which a silent process is checked."""
SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
NOT_FOR_WORKERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


def timeout_message(seconds: float, call: str) -> str:
    """The message about a call of an environment that does not return."""
    return f"the environment did not answer for {seconds:,.0f} s in {call}. {CONTINUES}"


def pickled(make_environment: Callable[[], Environment]) -> bytes:
    """The pickled function, for another process.

    **Raises:** `UserError` if it cannot be pickled.
    """
    try:
        return cloudpickle.dumps(make_environment)
    except Exception as error:
        raise UserError(
            f"the environment cannot go to a worker process ({named(error)}); "
            "make files, locks and connections inside it, or play in this process with 0 workers"
        ) from error


class WorkerProcess:
    """A process that holds `count` environments, addressed by their index.

    Its child processes end with it, however it ends.

    **Arguments:** `factory` is the result of `pickled`; `limit` is the timeout of an answer in
    seconds.
    """

    def __init__(self, factory: bytes, count: int, limit: float):
        self._limit, self._open = limit, set(range(count))
        self._answers: list[deque[Answer]] = [deque() for _ in range(count)]
        self._lock, self._ended = threading.Lock(), False
        self._connection, remote = Pipe()
        self._started = ChildProcesses()
        arguments = [str(remote.fileno()), str(os.getpid())]
        # A scheduler's notice goes to all processes; this one, which saves its state first, ends
        # the others. The signals stay blocked there until the process handles them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_FOR_WORKERS)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "qamx.envs.worker", *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[remote.fileno()],
                env=_worker_env() | {TAG: self._started.value},
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        remote.close()
        self.send(Setup(factory, count))

    def send(self, message: Message) -> None:
        """Sends a message; does not wait for its answer.

        **Raises:** `RunError` if the process has ended.
        """
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._gone() from error

    def receive(self, index: int, ticket: int, call: str) -> Any:
        """The next answer to the message with this ticket; answers to earlier ones are dropped.

        **Raises:** the environment's `EnvError` or `UserError`; `RunError` if the process has
        ended, or at a timeout.
        """
        mine = self._answers[index]
        while True:
            while mine:
                if (answer := mine.popleft()).ticket == ticket:
                    if isinstance(answer.value, Exception):
                        raise answer.value
                    return answer.value
            for answer in self._hear(call):
                self._answers[answer.index].append(answer)

    def release(self, index: int) -> bool:
        """Releases an environment; True after the last one, when the process shuts down."""
        self._open.discard(index)
        if not self._open:
            self._shut_down()
        return not self._open

    def end(self) -> None:
        """Ends the process after it has closed its environments."""
        self._shut_down()
        self._wait()
        self._connection.close()

    def _shut_down(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(None)

    def _wait(self, seconds: float | None = None) -> int:
        """Waits for the exit code, kills the process at a timeout, and ends its child processes."""
        try:
            code = self._process.wait(END_SECONDS if seconds is None else seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        with self._lock:
            if not self._ended:  # once: the system may reuse the number of a session
                self._started.end(session=self._process.pid)
            self._ended = True
        return code

    def _hear(self, call: str) -> list[Answer]:
        deadline = time.monotonic() + self._limit
        try:
            while not self._connection.poll(min(POLL_SECONDS, self._limit)):
                # A child process may hold its end of the connection open.
                if self._process.poll() is not None and not self._connection.poll():
                    raise self._gone()
                if time.monotonic() > deadline:
                    self._wait(0.0)
                    raise RunError(timeout_message(self._limit, call))
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._gone() from error

    def _gone(self) -> RunError:
        code = self._wait()
        how = f"ended with exit code {code}"
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += " (as the system does when memory runs out)"
        return RunError(f"the process that plays the environment {how}. {CONTINUES}")


def _worker_env() -> dict[str, str]:
    """One thread and no accelerator: the cores are for processes, the device for the updates."""
    variables = dict.fromkeys(SINGLE_THREADED, "1") | dict(os.environ)
    variables["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    return variables | {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}


@contextlib.contextmanager
def environment_errors(locate: Callable[[], tuple[str, int]]) -> Iterator[None]:
    """Raises an environment's exception as a run's error, with what reproduces it.

    A `UserError`, such as for a result that the interface does not allow, stays one: the same
    command would meet it again.

    **Arguments:** `locate` gives the episode's step, in words, and its reset seed.
    """
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        where, seed = locate()
        if isinstance(error, UserError):
            raise UserError(f"{error} (in {where}, reset seed {seed})") from error
        cause = format_exception(error)
        raise RunError(
            f"the environment failed in {where}, reset seed {seed}: {cause}. {CONTINUES}"
        ) from error
