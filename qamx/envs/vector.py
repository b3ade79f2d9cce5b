"""Environments that play whole chunks, in this process or in workers."""

import contextlib
import importlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from qamx.envs.base import Environment, Step, step_limit
from qamx.envs.checked import checked_reset, checked_step, close
from qamx.envs.protocol import Play, Reset, WorkerProcess, format_exception, pickled
from qamx.errors import RunError, UserError, named, no_exit


class LocalEnv:
    """An environment in this process, which steps when the result is asked for.

    The order is `reset`, `observation`, then repeatedly `play` and a `step` for each action, up to
    the end of the episode. A `reset` drops steps that have not been received. Observations and
    actions are not shared with the environment.
    """

    def __init__(self, environment: Environment):
        self._environment = environment
        self.observation_size = environment.observation_size
        self.action_size = environment.action_size
        self.max_episode_steps = step_limit(environment)
        self._seed, self._actions = 0, iter(())

    def reset(self, seed: int) -> None:
        """Begins the episode that `seed` determines; does not wait for it."""
        self._seed, self._actions = seed, iter(())

    def observation(self) -> Float[np.ndarray, " obs"]:
        """Waits for the first observation of the episode."""
        with no_exit():
            return checked_reset(self._environment, self._seed)

    def play(self, actions: Float[np.ndarray, "n act"], *, together: bool = False) -> None:
        """Begins to play the actions, up to the end of the episode; does not wait for them.

        **Arguments:** `together` sends all steps after the last: a message for each would cost more
        than a quick environment's step.
        """
        self._actions = iter(actions)

    def step(self) -> Step:
        """Waits for the step of the next action."""
        with no_exit():
            return checked_step(self._environment, next(self._actions))

    def close(self) -> None:
        """Frees the environment's resources."""
        close(self._environment)


class RemoteEnv:
    """The environment number `index` of a worker process, which steps at once; else as `LocalEnv`.

    An error of the environment is raised as an `EnvError`, the end or a timeout of the process as
    a `RunError`.
    """

    def __init__(self, process: WorkerProcess, index: int):
        self._process, self._index, self._ticket = process, index, 0
        self._seed, self._steps = 0, 0
        self._chunk: int | None = None
        sizes = process.receive(index, 0, "its construction")
        self.observation_size, self.action_size, self.max_episode_steps = sizes

    def reset(self, seed: int) -> None:
        self._seed, self._steps = seed, 0
        self._ticket += 1
        self._process.send(Reset(self._index, self._ticket, seed))

    def observation(self) -> Float[np.ndarray, " obs"]:
        return self._process.receive(self._index, self._ticket, f"a reset with seed {self._seed}")

    def play(self, actions: Float[np.ndarray, "n act"], *, together: bool = False) -> None:
        self._ticket += 1
        self._chunk = self._steps + 1 if together else None
        self._process.send(Play(self._index, self._ticket, actions, together))

    def step(self) -> Step:
        self._steps += 1
        place = f"step {self._steps}"
        if self._chunk is not None:
            place = f"the chunk from step {self._chunk} on"
        call = f"{place} of the episode with reset seed {self._seed}"
        return self._process.receive(self._index, self._ticket, call)

    def release(self) -> bool:
        """Releases this environment; does not wait. True if it was the last of its process."""
        return self._process.release(self._index)

    def close(self) -> None:
        if self.release():
            self._process.end()


EnvHandle: TypeAlias = LocalEnv | RemoteEnv


def open_envs(
    make_environment: Callable[[], Environment], count: int, workers: int, limit: float
) -> list[EnvHandle]:
    """`count` environments, in this process or in workers.

    **Arguments:** `workers` is the number of processes, 0 for this one; `limit` is the timeout of
    an answer in seconds.

    **Raises:** `UserError` for an environment that cannot go to another process, `RunError` for
    one that cannot be made.
    """
    workers = min(workers, count)
    factory = pickled(make_environment) if workers else b""
    environments: list[EnvHandle] = []
    processes: list[WorkerProcess] = []
    try:
        for i in range(workers):
            processes.append(WorkerProcess(factory, len(range(i, count, workers)), limit))
        # All processes start before the first answer is waited for.
        for i in range(count):
            with no_exit():
                environments.append(
                    RemoteEnv(processes[i % workers], i // workers)
                    if workers
                    else LocalEnv(make_environment())
                )
        return environments
    except BaseException as error:
        close_envs(environments)
        for process in processes:
            with contextlib.suppress(Exception):
                process.end()
        if isinstance(error, UserError | RunError) or not isinstance(error, Exception):
            raise
        raise RunError(f"the environment cannot be made: {format_exception(error)}") from error


def close_envs(environments: Sequence[EnvHandle]) -> None:
    """Closes environments; their processes end in parallel."""
    for env in environments:
        if isinstance(env, RemoteEnv):
            env.release()
    for env in environments:
        env.close()


def make_after_plugins(plugins: Sequence[str], make: Callable[[], Environment]) -> Environment:
    """Makes an environment after importing the plugins, in any process.

    A failed import matters only if the environment cannot be made: a session may have loaded
    plugins that this experiment does not need.

    **Raises:** `UserError` that names such a plugin.
    """
    failures = []
    for module in plugins:
        try:
            with no_exit():
                importlib.import_module(module)
        except Exception as error:
            failures.append(
                f'plugin "{module}" does not import in the processes that play the environment '
                f"({named(error)}); let it, or write evaluation.workers = 0"
            )
    try:
        return make()
    except Exception as error:
        if not failures:
            raise
        raise UserError("; ".join(failures)) from error
