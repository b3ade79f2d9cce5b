"""The same work on many things, some at a time, in threads that never hold up an exit."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_FAREWELL = 2.0
"""Seconds given to the others after one has failed, or Ctrl-C was pressed."""


def side_by_side(
    work: Callable[[T], R], things: Sequence[T], jobs: int, stop: threading.Event
) -> list[R]:
    """The results, in the order of the things.

    The first failure, and Ctrl-C, set `stop`, at which the work in progress should end.

    **Raises:** what the first failure raised.
    """
    futures = [Future[R]() for _ in things]
    tasks = iter(list(zip(futures, things, strict=True)))
    turn = threading.Lock()

    def labour() -> None:
        while not stop.is_set():
            with turn:
                task = next(tasks, None)
            if task is None:
                return
            _carry_out(work, *task)

    # A thread may wait for a silent server when the process is to end: as a daemon it just ends.
    threads = [threading.Thread(target=labour, daemon=True) for _ in range(min(jobs, len(things)))]
    for thread in threads:
        thread.start()
    try:
        finished = wait(futures, return_when=FIRST_EXCEPTION).done
        failed = [future for future in futures if future in finished and future.exception()]
        return [future.result() for future in failed or futures]
    except BaseException:
        stop.set()
        for thread in threads:
            thread.join(_FAREWELL / len(threads))
        raise


def _carry_out(work: Callable[[T], R], future: Future[R], thing: T) -> None:
    try:
        future.set_result(work(thing))
    except BaseException as error:
        future.set_exception(error)
