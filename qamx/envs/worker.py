"""The worker process of environments: `python -m qamx.envs.worker DESCRIPTOR PARENT`."""

import contextlib
import importlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

import cloudpickle

from qamx._utils.processes import TAG, ChildProcesses, handle_signals
from qamx.envs.base import Environment, step_limit
from qamx.envs.checked import CLOSE_SECONDS, checked_reset, checked_step, close
from qamx.envs.protocol import (
    NOT_FOR_WORKERS,
    Answer,
    Failure,
    Play,
    Reset,
    Setup,
    Shutdown,
    Sizes,
    Value,
)
from qamx.errors import UserError, named, no_exit

GRACE_SECONDS = 5.0
"""Timeout of the step in progress and the environments' `close` after the last message."""
POLL_SECONDS = 1.0
"""Interval at which the parent is checked."""


def main(descriptor: int, parent: int) -> None:
    """Plays until the parent sends `Shutdown` or ends, and ends the environments' child processes.

    These receive signals and do not hold the connection: a simulator can be ended, and the parent
    notices this process's end.
    """
    os.set_inheritable(descriptor, False)
    # A group's signals are for the parent, which saves its state first and ends this process.
    with handle_signals(NOT_FOR_WORKERS, lambda number, frame: None):
        for number in NOT_FOR_WORKERS:
            signal.siginterrupt(number, False)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        try:
            serve(Connection(descriptor), parent)
        finally:
            _end_started()


def serve(connection: Connection, parent: int) -> None:
    """Answers messages until the parent sends `Shutdown` or ends."""
    messages: queue.SimpleQueue[Setup | Reset | Play | Shutdown] = queue.SimpleQueue()
    # In threads, so that the two ends never wait in a send for each other, and that a process
    # whose parent died ends during a simulation too.
    for target, argument in ((_listen, connection), (_watch, parent)):
        threading.Thread(target=target, args=(argument, messages), daemon=True).start()
    setup = messages.get()
    if not isinstance(setup, Setup):
        return
    environments: list[Environment] = []
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if not _make(setup, environments, connection):
                return
            while not isinstance(message := messages.get(), Shutdown):
                if isinstance(message, Reset | Play):
                    _answer(environments[message.index], message, connection)
    finally:
        with ChildProcesses(os.environ[TAG]).end_after(CLOSE_SECONDS):
            for environment in environments:
                close(environment)


def _listen(connection: Connection, messages: queue.SimpleQueue) -> None:
    with contextlib.suppress(EOFError, OSError):
        while not isinstance(message := connection.recv(), Shutdown):
            messages.put(message)
    _shut_down(messages)


def _watch(parent: int, messages: queue.SimpleQueue) -> None:
    """Waits for the parent's end: after a fork, its end of the connection may stay open."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    _shut_down(messages)


def _shut_down(messages: queue.SimpleQueue) -> None:
    messages.put(Shutdown())
    time.sleep(GRACE_SECONDS)
    _end_started()
    os._exit(0)


def _end_started() -> None:
    ChildProcesses(os.environ[TAG]).end(session=os.getpid())


def _make(setup: Setup, environments: list[Environment], connection: Connection) -> bool:
    """Makes the environments; returns False, after sending the failure, if one cannot be made."""
    sys.path[:] = setup.path
    try:
        os.chdir(setup.folder)
        factory = cloudpickle.loads(setup.factory)
        for _ in range(setup.count):
            environments.append(factory())
    except (Exception, KeyboardInterrupt) as error:  # Ctrl-C is blocked here: it is their own
        for index in range(setup.count):
            connection.send([Answer(index, 0, Failure.of(error))])
        return False
    for index, environment in enumerate(environments):
        sizes = Sizes(
            environment.observation_size, environment.action_size, step_limit(environment)
        )
        connection.send([Answer(index, 0, sizes)])
    return True


def _answer(environment: Environment, message: Reset | Play, connection: Connection) -> None:
    answers = (Answer(message.index, message.ticket, v) for v in _values(environment, message))
    if isinstance(message, Play) and message.together:
        connection.send(list(answers))
        return
    for answer in answers:
        connection.send([answer])


def _values(environment: Environment, message: Reset | Play) -> Iterator[Value]:
    """Yields the replies to a message; stops after the first environment error."""
    try:
        if isinstance(message, Reset):
            yield checked_reset(environment, message.seed)
            return
        for action in message.actions:
            step = checked_step(environment, action)
            yield step
            if step.done:
                return
    except (Exception, KeyboardInterrupt) as error:  # Ctrl-C is blocked here: it is their own
        yield Failure.of(error)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))


@dataclass(frozen=True)
class AfterPlugins:
    """Makes an environment after importing the plugins, in any process.

    A failed import matters only if the environment cannot be made: a session may have loaded
    plugins that this experiment does not need.

    **Raises:** `UserError` that names such a plugin.
    """

    plugins: tuple[str, ...]
    make: Callable[[], Environment]

    def __call__(self) -> Environment:
        failures = [failure for module in self.plugins if (failure := _import_failure(module))]
        try:
            return self.make()
        except Exception as error:
            raise (UserError("; ".join(failures)) if failures else error) from error


def _import_failure(module: str) -> str:
    """The message for a plugin that cannot be imported here, empty for one that can."""
    try:
        with no_exit():
            importlib.import_module(module)
    except Exception as error:
        return (
            f'plugin "{module}" does not import in the processes that play the environment '
            f"({named(error)}); let it, or write evaluation.workers = 0"
        )
    return ""


@dataclass(frozen=True)
class RegisteredHere:
    """Makes an environment whose id is registered in the process that made this object.

    **Raises:** `UserError` in a process without it.
    """

    name: str
    make: Callable[[], Environment]

    def __call__(self) -> Environment:
        if not is_registered(self.name):
            raise UserError(
                f"environment.id: found {self.name!r}, which is known here, and not in the "
                "processes that play it: a script's own names are the script's alone; register it "
                "in a module and list that under plugins, write "
                f'"gymnasium:MODULE:{self.name}" or "gymnasium:MODULE:CLASS", or write '
                "evaluation.workers = 0 (qamx eval: --workers 0)"
            )
        return self.make()


def is_registered(name: str) -> bool:
    """True if Gymnasium knows an id here, or a version of an id without one."""
    import gymnasium

    return any(name in (known, known.rpartition("-v")[0]) for known in gymnasium.registry)
