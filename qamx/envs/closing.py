"""Environments that are closed whatever happens meanwhile."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from qamx._utils.processes import Marked
from qamx.envs.base import Environment
from qamx.envs.messages import described
from qamx.errors import no_exit

CLOSE_SECONDS = 3.0
"""How long an environment may wait, in its `close`, for what it has started."""


def close(environment: Environment) -> None:
    """Closes an environment; an error of it is said, and is none of what was played."""
    try:
        with no_exit():
            environment.close()
    except Exception as error:
        print(
            f"warning: the environment failed while it was closed: {described(error)}",
            file=sys.stderr,
            flush=True,
        )


def close_with(environment: Environment, started: Marked) -> None:
    """Closes an environment of this process, and ends what it has started and left.

    That is ended in mid-close too: a simulator that does not hear SIGTERM is waited for in vain.
    """
    try:
        with started.ended_after(CLOSE_SECONDS):
            close(environment)
    finally:
        started.end()


@contextlib.contextmanager
def opened(make_environment: Callable[[], Environment]) -> Iterator[Environment]:
    """An environment in this process, closed after the block with what it has started."""
    started = Marked()
    with started.ended_at_error(), started.noting(), no_exit():
        environment = make_environment()
    try:
        with started.noting(), no_exit():
            yield environment
    finally:
        close_with(environment, started)
