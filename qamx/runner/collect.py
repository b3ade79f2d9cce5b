"""Collecting transitions in the environment, chunk by chunk."""

from typing import Any

import numpy as np
from jaxtyping import Float

from qamx.data.sequences import Transitions
from qamx.envs import ChunkExecutor, Environment, Step
from qamx.errors import RunError
from qamx.runner.evaluate import Act
from qamx.runner.failure import environment_failure


def derived_seed(*parts: int) -> int:
    """A reset seed that is a function of the run's seed, a stream and an index."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


TRAINING_STREAM, EVALUATION_STREAM = 0, 1


class Collector:
    """Plays the present policy, one environment step at a time.

    A chunk is played whole before the next is drawn; the end of an episode drops the rest. All
    randomness is a function of `seed` and of counters, so that `position` and the actions of the
    episode in progress restore it exactly.
    """

    def __init__(self, env: Environment, seed: int):
        self._env, self._seed = env, seed
        self._executor = ChunkExecutor(env.action_size)
        self._episode, self._calls, self._length = 0, 0, 0
        self._observation = self._reset()

    def step(self, act: Act) -> Transitions:
        """Plays one step and returns it as one transition."""
        if self._executor.needs_chunk:
            self._executor.load(act(self._observation[None], self._calls)[0])
            self._calls += 1
        action = self._executor.pop()
        step = self._play(action)
        transition = _transition(self._observation, action, step)
        self._observation = step.observation
        self._length += 1
        if step.done:
            self._next_episode()
        return transition

    def position(self) -> dict[str, Any]:
        """Where collection stands, apart from the actions of the episode in progress."""
        return {
            "episode": self._episode,
            "calls": self._calls,
            "length": self._length,
            "chunk": self._executor.rest.tolist(),
        }

    def restore(self, position: dict[str, Any], actions: Float[np.ndarray, "length act"]) -> None:
        """Goes back to a position by playing the episode's `actions` again."""
        self._episode, self._calls = position["episode"], position["calls"]
        self._length = 0
        self._observation = self._reset()
        for action in actions:
            self._observation = self._play(action).observation
            self._length += 1
        if position["chunk"]:
            self._executor.load(np.asarray(position["chunk"], np.float32).reshape(-1))

    def close(self) -> None:
        """Frees the environment."""
        self._env.close()

    def _next_episode(self) -> None:
        self._episode += 1
        self._length = 0
        self._executor.drop()
        self._observation = self._reset()

    def _reset(self) -> Float[np.ndarray, " obs"]:
        try:
            return self._env.reset(self._reset_seed)
        except Exception as error:
            raise self._failure(error) from error

    def _play(self, action: Float[np.ndarray, " act"]) -> Step:
        try:
            step = self._env.step(action)
        except Exception as error:
            raise self._failure(error) from error
        if not (np.isfinite(step.observation).all() and np.isfinite(step.reward)):
            raise self._failure(ValueError("observation or reward is not finite"))
        return step

    @property
    def _reset_seed(self) -> int:
        return derived_seed(self._seed, TRAINING_STREAM, self._episode)

    def _failure(self, error: Exception) -> RunError:
        return environment_failure(
            error, f"episode {self._episode}, step {self._length + 1}", self._reset_seed
        )


def _transition(
    observation: Float[np.ndarray, " obs"], action: Float[np.ndarray, " act"], step: Step
) -> Transitions:
    return Transitions(
        observations=observation[None],
        actions=action[None],
        rewards=np.asarray([step.reward], np.float32),
        masks=np.asarray([0.0 if step.terminated else 1.0], np.float32),
        ends=np.asarray([1.0 if step.done else 0.0], np.float32),
        next_observations=step.observation[None],
    )
