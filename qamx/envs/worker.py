"""A process that plays environments: `python -m qamx.envs.worker DESCRIPTOR`."""

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import cloudpickle

from qamx.envs.base import Environment, step_limit
from qamx.envs.checked import checked_reset, checked_step
from qamx.envs.messages import Answer, Failure, Leave, Play, Reset, Setup, Sizes, Value

GRACE_SECONDS = 2.0
"""How long the step in progress may take when nobody listens any more."""


def serve(connection: Connection) -> None:
    """Answers messages until the other end says `Leave` or is gone."""
    messages: queue.SimpleQueue[Setup | Reset | Play | Leave] = queue.SimpleQueue()
    # Reading in a thread, so that the other end never waits in a send while this one does, and
    # that a process whose parent died leaves in mid-simulation too.
    threading.Thread(target=_listen, args=(connection, messages), daemon=True).start()
    setup = messages.get()
    if not isinstance(setup, Setup):
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        environments = _make(setup, connection)
        while environments and not isinstance(message := messages.get(), Leave):
            if isinstance(message, Reset | Play):
                _answer(environments[message.index], message, connection)
        for environment in environments:
            environment.close()


def _listen(connection: Connection, messages: queue.SimpleQueue) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            messages.put(connection.recv())
    messages.put(Leave())
    time.sleep(GRACE_SECONDS)
    os._exit(0)


def _make(setup: Setup, connection: Connection) -> list[Environment]:
    """The environments, or none where one cannot be made, which is said."""
    sys.path[:] = setup.path
    environments: list[Environment] = []
    try:
        os.chdir(setup.folder)
        factory = cloudpickle.loads(setup.factory)
        environments = [factory() for _ in range(setup.count)]
    except Exception as error:
        for index in range(setup.count):
            connection.send([Answer(index, 0, Failure.of(error))])
        return []
    for index, environment in enumerate(environments):
        sizes = Sizes(
            environment.observation_size, environment.action_size, step_limit(environment)
        )
        connection.send([Answer(index, 0, sizes)])
    return environments


def _answer(environment: Environment, message: Reset | Play, connection: Connection) -> None:
    answers = (Answer(message.index, message.ticket, v) for v in _values(environment, message))
    if isinstance(message, Play) and message.together:
        connection.send(list(answers))
        return
    for answer in answers:
        connection.send([answer])


def _values(environment: Environment, message: Reset | Play) -> Iterator[Value]:
    """What comes of a message; an error of the environment is the last of it."""
    try:
        if isinstance(message, Reset):
            yield checked_reset(environment, message.seed)
            return
        for action in message.actions:
            step = checked_step(environment, action)
            yield step
            if step.done:
                return
    except Exception as error:
        yield Failure.of(error)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
