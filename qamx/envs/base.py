"""Environments: the interface, action chunks, and isolated NumPy random numbers."""

import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Step:
    """What one environment step brings.

    **Arguments:** `terminated` says that nothing is bootstrapped beyond this step, `truncated`
    that the episode was cut; `success` whether the task counts as solved at this step, None where
    the environment does not say so before the episode's end.
    """

    observation: Float[np.ndarray, " obs"]
    reward: float
    terminated: bool
    truncated: bool
    success: bool | None

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.terminated or self.truncated


class Environment(Protocol):
    """An episodic environment with observation and action vectors, actions in [-1, 1].

    An episode is a function of its reset seed and its actions: the runner restores an episode
    in progress by resetting with its seed and playing its actions again. An environment that has
    an attribute `max_episode_steps` says how long its episodes can be.
    """

    observation_size: int
    action_size: int

    def reset(self, seed: int) -> Float[np.ndarray, " obs"]:
        """Begins the episode that `seed` determines."""
        ...

    def step(self, action: Float[np.ndarray, " act"]) -> Step:
        """Plays one action."""
        ...

    def close(self) -> None:
        """Frees what the environment holds."""
        ...


def step_limit(environment: Environment) -> int | None:
    """The number of steps after which every episode has ended, None where it is not known."""
    return getattr(environment, "max_episode_steps", None)


class GlobalRandomness:
    """A state of NumPy's global random generator that is in force inside `with`, and only there.

    Environments that draw from it (OGBench's mazes their start positions and the exits of
    teleports) would disturb each other in one process. One thread at a time is inside: a shard
    is relabelled beside the loop.
    """

    _lock = threading.RLock()

    def __init__(self, seed: int):
        self._inside = np.random.RandomState(seed % 2**32).get_state()
        self._outside = self._inside

    def __enter__(self) -> None:
        self._lock.acquire()
        self._outside = np.random.get_state()
        np.random.set_state(self._inside)

    def __exit__(self, *exception: object) -> None:
        self._inside = np.random.get_state()
        np.random.set_state(self._outside)
        self._lock.release()


class ActionQueue:
    """Hands out the actions of a chunk one by one; a new chunk is due when none is left.

    **Arguments:** `action_size` is the size of one action.
    """

    def __init__(self, action_size: int):
        self._action_size = action_size
        self.rest: Float[np.ndarray, "left act"] = self._empty()

    @property
    def needs_chunk(self) -> bool:
        """Whether the next action must come from a new chunk."""
        return len(self.rest) == 0

    def load(self, chunk: Float[np.ndarray, " dim"]) -> None:
        """Begins a flat chunk."""
        self.rest = np.asarray(chunk, np.float32).reshape(-1, self._action_size)

    def pop(self) -> Float[np.ndarray, " act"]:
        """The next action."""
        action, self.rest = self.rest[0], self.rest[1:]
        return action

    def drop(self) -> None:
        """Forgets what is left, as a reset does."""
        self.rest = self._empty()

    def _empty(self) -> Float[np.ndarray, "left act"]:
        return np.zeros((0, self._action_size), np.float32)
