"""Guards of a run that need no JAX: signals and the folder lock."""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

from qamx._utils.processes import handle_signals
from qamx.errors import RunError, UserError


class Stopped(BaseException):
    """Raised inside work that can be repeated, when a stop was requested.

    Not an `Exception`, which code around an environment takes for the environment's failure.
    """


_NAMES = ("SIGTERM", "SIGUSR1", "SIGUSR2")
SCHEDULER = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
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
        raise UserError(
            f"{directory}: another process works here ({_describe(holder)}); wait for its end, or "
            "name another directory with --out"
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


def _describe(holder: Path) -> str:
    try:
        found = json.loads(holder.read_bytes())
        return f"pid {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has only just begun"


class Divergence(RunError):
    """A metric, or the state, is not finite."""
