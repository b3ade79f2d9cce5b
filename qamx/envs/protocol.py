"""The worker process as its parent sees it: messages, start, end, failure."""

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
from typing import TypeAlias

import cloudpickle
import numpy as np
from jaxtyping import Float

from qamx._utils.processes import MARK, Marked
from qamx.envs.base import Environment, Step
from qamx.errors import RunError, UserError, named


class EnvError(Exception):
    """An environment's error in another process; its text is that of `described`."""


@dataclass(frozen=True)
class Setup:
    """The first message: where imports are found, and how many environments to make.

    **Arguments:** `factory` is what `cloudpickle` makes of the function that makes one.
    """

    path: list[str]
    folder: str
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

    **Arguments:** `together` has all answers in one message, after the last step.
    """

    index: int
    ticket: int
    actions: Float[np.ndarray, "n act"]
    together: bool


class Shutdown:
    """The last message."""


@dataclass(frozen=True)
class Sizes:
    """The answer to `Setup`, from each environment; `limit` is that of an episode's steps."""

    observation: int
    action: int
    limit: int | None


@dataclass(frozen=True)
class Failure:
    """The answer where the environment raised an error; `by_user` where that was a `UserError`."""

    text: str
    by_user: bool

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """What tells of an error."""
        by_user = isinstance(error, UserError)
        return cls(str(error) if by_user else format_exception(error), by_user)


Value: TypeAlias = Step | Float[np.ndarray, " obs"] | Sizes | Failure


@dataclass(frozen=True)
class Answer:
    """What came of a message; `ticket` is that of the `Reset` or `Play` it answers. A process
    sends lists of these."""

    index: int
    ticket: int
    value: Value


def format_exception(error: BaseException) -> str:
    """Type, message and place of an error, e.g. `ValueError: unstable (arm.py:12)`."""
    if isinstance(error, EnvError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{named(error)}{place}"


CONTINUES = "A run goes on from its last checkpoint with the same command"
END_SECONDS = 10.0
"""How long a process may take to end, and to end what it has started, before it is killed."""
LOOK_SECONDS = 1.0
"""How often it is looked whether a process that says nothing is there."""
SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
NOT_FOR_WORKERS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGHUP,
)


def timeout_message(seconds: float, call: str) -> str:
    """The message about a call of an environment that does not return."""
    return f"the environment did not answer for {seconds:,.0f} s in {call}. {CONTINUES}"


def pickled(make_environment: Callable[[], Environment]) -> bytes:
    """The function in a form that another process can call.

    **Raises:** `UserError` for one that holds what cannot leave this process.
    """
    try:
        return cloudpickle.dumps(make_environment)
    except Exception as error:
        raise UserError(
            f"the environment cannot go to a worker process ({named(error)}); "
            "make files, locks and connections inside it, or play in this process with 0 workers"
        ) from error


class WorkerProcess:
    """A process that holds `count` environments, told apart by their index.

    What it has started ends with it, however it ends.

    **Arguments:** `factory` is what `pickled` returns; a process that says nothing for `limit`
    seconds while it is waited for is given up.
    """

    def __init__(self, factory: bytes, count: int, limit: float):
        self._limit, self._users = limit, count
        self._answers: list[deque[Answer]] = [deque() for _ in range(count)]
        self._lock, self._ended = threading.Lock(), False
        self._connection, theirs = Pipe()
        self._started = Marked()
        arguments = [str(theirs.fileno()), str(os.getpid())]
        with _signals_held():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "qamx.envs.worker", *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_surroundings() | {MARK: self._started.mark},
                start_new_session=True,
            )
        theirs.close()
        self.send(Setup(sys.path, os.getcwd(), factory, count))

    def send(self, message: Setup | Reset | Play) -> None:
        """Tells the process to do something; does not wait.

        **Raises:** `RunError` if the process is gone.
        """
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._gone() from error

    def receive(self, index: int, ticket: int, call: str) -> Answer:
        """The next answer to the message with this ticket; earlier messages' are dropped.

        **Raises:** `RunError` if the process is gone, or silent for longer than its limit.
        """
        mine = self._answers[index]
        while True:
            while mine:
                if (answer := mine.popleft()).ticket == ticket:
                    return answer
            for answer in self._hear(call):
                self._answers[answer.index].append(answer)

    @property
    def unused(self) -> bool:
        """Whether all of the environments have been released."""
        return self._users == 0

    def release(self) -> None:
        """One of the environments is not needed any more; after the last the process leaves."""
        with self._lock:
            self._users -= 1
        if self.unused:
            self._leave()

    def end(self) -> None:
        """Ends the process, which has the time to close its environments."""
        self._leave()
        self._wait()
        self._connection.close()

    def _leave(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(Shutdown())

    def _wait(self, seconds: float | None = None) -> int:
        """The exit code of the process, killed if it takes too long; what it started is ended."""
        try:
            code = self._process.wait(END_SECONDS if seconds is None else seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        with self._lock:
            # Once: the number of a session that has ended may become another's.
            before, self._ended = self._ended, True
        if not before:
            self._started.end(session=self._process.pid)
        return code

    def _hear(self, call: str) -> list[Answer]:
        deadline = time.monotonic() + self._limit
        try:
            while not self._connection.poll(min(LOOK_SECONDS, self._limit)):
                # What it started may hold its end of the connection, so that no end is heard.
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


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """A process that starts inside does not hear signals that are meant for this one.

    A scheduler's notice goes to all processes; this one, which saves its state first, ends the
    others. What is blocked here stays blocked there until the process handles it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_FOR_WORKERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _surroundings() -> dict[str, str]:
    """One thread and no accelerator: the cores are for processes, the device for the updates."""
    surroundings = dict.fromkeys(SINGLE_THREADED, "1") | dict(os.environ)
    surroundings["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    return surroundings | {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}


def environment_failure(error: Exception, where: str, seed: int) -> RunError | UserError:
    """An environment's own error as a run's, with what repeats it; a run's error as it is.

    An error that is the user's, such as an answer that the interface does not allow, stays one:
    the same command would meet it again.
    """
    if isinstance(error, RunError):
        return error
    if isinstance(error, UserError):
        return UserError(f"{error} (in {where}, reset seed {seed})")
    cause = format_exception(error)
    return RunError(f"the environment failed in {where}, reset seed {seed}: {cause}. {CONTINUES}")
