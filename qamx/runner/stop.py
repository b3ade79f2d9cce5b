"""Stopping a run on request."""

import contextlib
import signal
from collections.abc import Iterator

from qamx._utils.processes import handling


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
def leaving_at_once() -> Iterator[None]:
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
