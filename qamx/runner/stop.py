"""Stopping a run on request."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Stopped(Exception):
    """Raised inside work that can be repeated, when a stop was requested."""


class StopRequest:
    """Whether the run was asked to stop, by Ctrl-C or by a scheduler (SIGTERM)."""

    def __init__(self):
        self.made = False

    def make(self, number: int = signal.SIGTERM, frame: object = None) -> None:
        """Asks for a stop; asking a second time does not wait for the state to be saved."""
        if self.made:
            raise KeyboardInterrupt
        self.made = True

    def check(self) -> None:
        """Raises `Stopped` if a stop was requested."""
        if self.made:
            raise Stopped

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Signals make the request inside; Python hears them in the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = [signal.signal(number, self.make) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, previous, strict=True):
                signal.signal(number, handler)
