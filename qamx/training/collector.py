"""Collecting transitions in the environment, chunk by chunk."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from qamx.data.transitions import Transitions
from qamx.envs import ChunkExecutor, Player, Step
from qamx.envs.protocol import environment_failure
from qamx.errors import RunError, UserError


def derived_seed(*parts: int) -> int:
    """A reset seed that is a function of the run's seed, a stream and an index."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


TRAINING_STREAM, EVALUATION_STREAM = 0, 1


class Collector:
    """Plays the present policy, one environment step at a time.

    A chunk is played whole before the next is drawn; the end of an episode drops the rest. The
    player has all of a chunk at once and may be ahead of the steps that are taken. All randomness
    is a function of `seed` and of counters, so that `position` and the actions of the episode in
    progress restore it exactly.

    **Arguments:** `scale_rewards` turns the environment's rewards into those that are learned.
    """

    def __init__(
        self,
        player: Player,
        seed: int,
        scale_rewards: Callable[[np.ndarray], np.ndarray] = lambda rewards: rewards,
    ):
        self._player, self._seed, self._scale_rewards = player, seed, scale_rewards
        self._executor = ChunkExecutor(player.action_size)
        self._episode, self._calls, self._length = 0, 0, 0
        self.short_episodes: int | None = 0
        """How many episodes ended within their first chunk; None once a chunk was played whole."""
        self._observation: Float[np.ndarray, " obs"] | None = None
        self._begin()

    @property
    def needs_chunk(self) -> bool:
        """Whether `load` must come before the next `take`."""
        return self._executor.needs_chunk

    @property
    def calls(self) -> int:
        """How many chunks have been loaded."""
        return self._calls

    @property
    def observation(self) -> Float[np.ndarray, " obs"]:
        """The present observation, for which a new episode's first waits."""
        if self._observation is None:
            try:
                self._observation = self._player.observation()
            except Exception as error:
                raise self._failure(error) from error
        return self._observation

    def load(self, chunk: Float[np.ndarray, " dim"]) -> None:
        """Begins a flat chunk."""
        self._executor.load(chunk)
        self._calls += 1
        self._play(self._executor.rest)

    def take(self) -> Transitions:
        """Waits for the next step of the chunk and returns it as one transition."""
        before, action = self.observation, self._executor.pop()
        step = self._take_step()
        if self._executor.needs_chunk:
            self.short_episodes = None
        if step.done:
            if self.short_episodes is not None:
                self.short_episodes += 1
            self._episode += 1
            self._begin()
        return _transition(before, action, step, self._scale_rewards)

    def position(self) -> dict[str, Any]:
        """Where the steps taken have come to, apart from the actions of the present episode."""
        return {
            "episode": self._episode,
            "calls": self._calls,
            "length": self._length,
            "chunk": self._executor.rest.tolist(),
            "short_episodes": self.short_episodes,
        }

    def restore(self, position: dict[str, Any], actions: Float[np.ndarray, "length act"]) -> None:
        """Goes back to a position by playing the episode's `actions` again.

        **Raises:** `RunError` if the episode ends within them, which it did not before.
        """
        self._episode, self._calls = position["episode"], position["calls"]
        self.short_episodes = position.get("short_episodes")
        self._begin()
        self._play(np.asarray(actions, np.float32))
        for _ in actions:
            if self._take_step().done:
                raise self._failure(ValueError("the same actions ended the episode earlier"))
        if position["chunk"]:
            self._executor.load(np.asarray(position["chunk"], np.float32).reshape(-1))
            self._play(self._executor.rest)

    def _begin(self) -> None:
        """Begins the present episode; its first observation is waited for when it is needed."""
        self._length, self._observation = 0, None
        self._executor.drop()
        try:
            self._player.reset(self._reset_seed)
        except Exception as error:
            raise self._failure(error) from error

    def _play(self, actions: Float[np.ndarray, "n act"]) -> None:
        _ = self.observation  # a player's first observation is asked for before its first step
        try:
            self._player.play(actions)
        except Exception as error:
            raise self._failure(error) from error

    def _take_step(self) -> Step:
        try:
            step = self._player.step()
        except Exception as error:
            raise self._failure(error) from error
        self._observation = step.observation
        self._length += 1
        return step

    @property
    def _reset_seed(self) -> int:
        return derived_seed(self._seed, TRAINING_STREAM, self._episode)

    def _failure(self, error: Exception) -> RunError | UserError:
        return environment_failure(
            error, f"episode {self._episode}, step {self._length + 1}", self._reset_seed
        )


def _transition(
    observation: Float[np.ndarray, " obs"],
    action: Float[np.ndarray, " act"],
    step: Step,
    scale_rewards: Callable[[np.ndarray], np.ndarray],
) -> Transitions:
    return Transitions(
        observations=observation[None],
        actions=action[None],
        rewards=scale_rewards(np.asarray([step.reward], np.float32)),
        masks=np.asarray([0.0 if step.terminated else 1.0], np.float32),
        ends=np.asarray([1.0 if step.done else 0.0], np.float32),
        next_observations=step.observation[None],
    )
