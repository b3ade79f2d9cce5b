"""The worker process of environments: `python -m qamx.envs.worker DESCRIPTOR PARENT`."""

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from qamx._utils.processes import TAG, ChildProcesses, handle_signals
from qamx.envs.base import Environment, step_limit
from qamx.envs.checked import CLOSE_SECONDS, checked_reset, checked_step, close
from qamx.envs.protocol import (
    NOT_FOR_WORKERS,
    Answer,
    EnvError,
    Message,
    Play,
    Reset,
    Setup,
    format_exception,
)
from qamx.errors import UserError

GRACE_SECONDS = 5.0
"""Timeout of the step in progress and the environments' `close` after the last message."""
POLL_SECONDS = 1.0
"""Interval at which the parent is checked."""


def main(descriptor: int, parent: int) -> None:
    """Plays until the parent's last message or end, and ends the environments' child processes.

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
    """Answers messages until the parent's last one or its end."""
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    # In threads, so that the two ends never wait in a send for each other, and that a process
    # whose parent died ends during a simulation too.
    for target, argument in ((_listen, connection), (_watch, parent)):
        threading.Thread(target=target, args=(argument, messages), daemon=True).start()
    environments: list[Environment] = []
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while (message := messages.get()) is not None:
                if isinstance(message, Setup):
                    answers = enumerate(_make(message, environments))
                    connection.send([Answer(index, 0, value) for index, value in answers])
                else:
                    _answer(environments[message.index], message, connection)
    finally:
        with ChildProcesses(os.environ[TAG]).end_after(CLOSE_SECONDS):
            for environment in environments:
                close(environment)


def _listen(connection: Connection, messages: queue.SimpleQueue) -> None:
    with contextlib.suppress(EOFError, OSError):
        while (message := connection.recv()) is not None:
            messages.put(message)
    _shut_down(messages)


def _watch(parent: int, messages: queue.SimpleQueue) -> None:
    """Waits for the parent's end: after a fork, its end of the connection may stay open."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    _shut_down(messages)


def _shut_down(messages: queue.SimpleQueue) -> None:
    messages.put(None)
    time.sleep(GRACE_SECONDS)
    _end_started()
    os._exit(0)


def _end_started() -> None:
    ChildProcesses(os.environ[TAG]).end(session=os.getpid())


def _make(setup: Setup, environments: list[Environment]) -> list[Any]:
    """Makes the environments, up to one that cannot be made; returns the answers of all."""
    try:
        factory = cloudpickle.loads(setup.factory)
        for _ in range(setup.count):
            environments.append(factory())
        return [(env.observation_size, env.action_size, step_limit(env)) for env in environments]
    except (Exception, KeyboardInterrupt) as error:  # Ctrl-C is blocked here: it is their own
        return [_portable(error)] * setup.count


def _answer(environment: Environment, message: Reset | Play, connection: Connection) -> None:
    answers = (Answer(message.index, message.ticket, v) for v in _values(environment, message))
    if isinstance(message, Play) and message.together:
        connection.send(list(answers))
        return
    for answer in answers:
        connection.send([answer])


def _values(environment: Environment, message: Reset | Play) -> Iterator[Any]:
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
        yield _portable(error)


def _portable(error: BaseException) -> UserError | EnvError:
    """The error for the parent, which may not know its class."""
    if isinstance(error, UserError):
        return UserError(str(error))
    return EnvError(format_exception(error))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
