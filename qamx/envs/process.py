"""Starting, hearing and ending a process that plays environments."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing import Pipe

import cloudpickle

from qamx.envs.base import Environment
from qamx.envs.messages import Answer, Leave, Play, Reset, Setup
from qamx.errors import RunError, UserError

CONTINUES = "A run goes on from its last checkpoint with the same command"
END_SECONDS = 3.0
"""How long a process may take to end before it is killed."""
SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
NOT_FOR_WORKERS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")


def unanswered(seconds: float, call: str) -> str:
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
            f"the environment cannot go to a worker process ({type(error).__name__}: {error}); "
            "make files, locks and connections inside it, or play in this process with 0 workers"
        ) from error


class WorkerProcess:
    """A process that holds `count` environments, told apart by their index.

    **Arguments:** `factory` is what `pickled` returns; a process that says nothing for `limit`
    seconds while it is waited for is given up.
    """

    def __init__(self, factory: bytes, count: int, limit: float):
        self._limit, self._users = limit, count
        self._answers: list[deque[Answer]] = [deque() for _ in range(count)]
        self._lock = threading.Lock()
        self._connection, theirs = Pipe()
        command = [sys.executable, "-P", "-m", "qamx.envs.worker", str(theirs.fileno())]
        with _signals_held():
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=_surroundings()
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

    def release(self) -> None:
        """One of the environments is not needed any more; ends the process after the last."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self.end()

    def end(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            self._connection.send(Leave())
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._connection.close()

    def _hear(self, call: str) -> list[Answer]:
        try:
            if not self._connection.poll(self._limit):
                self._process.kill()
                self._process.wait()
                raise RunError(unanswered(self._limit, call))
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._gone() from error

    def _gone(self) -> RunError:
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        how = f"ended with exit code {code}"
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += " (as the system does when memory runs out)"
        return RunError(f"the process that plays the environment {how}. {CONTINUES}")


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """A process that starts inside does not hear signals that are meant for this one.

    A terminal's Ctrl-C and a scheduler's notice go to all processes; this one, which saves its
    state first, ends the others. What is blocked here stays blocked there, from the first moment.
    """
    numbers = {getattr(signal, name) for name in NOT_FOR_WORKERS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _surroundings() -> dict[str, str]:
    """One thread and no accelerator: the cores are for processes, the device for the updates."""
    surroundings = dict.fromkeys(SINGLE_THREADED, "1") | dict(os.environ)
    surroundings["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    return surroundings | {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
