"""Environments: the interface, action chunks, and isolated NumPy random numbers."""

import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt32


@dataclass(frozen=True)
class Step:
    """The result of one environment step.

    **Arguments:** nothing is bootstrapped beyond a `terminated` step; a `truncated` one cuts the
    episode; `success` is True where the task counts as solved at this step, None where the
    environment does not know before the episode's end.
    """

    observation: Float[np.ndarray, " obs"]
    reward: float
    terminated: bool
    truncated: bool
    success: bool | None

    @property
    def done(self) -> bool:
        """True at the end of the episode."""
        return self.terminated or self.truncated


class Environment(Protocol):
    """An episodic environment with observation and action vectors, actions in [-1, 1].

    An episode is a function of its reset seed and its actions: the runner restores an episode
    in progress by resetting with its seed and replaying its actions. The optional attribute
    `max_episode_steps` is the length of the longest episode.
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
        """Frees the environment's resources."""
        ...


def step_limit(environment: Environment) -> int | None:
    """The length of the longest episode, None where it is not known."""
    return getattr(environment, "max_episode_steps", None)


class GlobalRandomness:
    """A state of NumPy's global random generator that holds inside `with` alone.

    Environments that draw from it (OGBench's mazes: start positions and exits of teleports) would
    disturb each other in one process. One thread at a time is inside, as shards are relabelled in
    a thread.
    """

    _lock = threading.RLock()

    def __init__(self, seed: int | UInt32[np.ndarray, " words"]):
        entropy = seed if isinstance(seed, np.ndarray) else seed % 2**32
        self._inside = self._outside = np.random.RandomState(entropy).get_state()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._outside = np.random.get_state()
        np.random.set_state(self._inside)

    def __exit__(self, *exception: object) -> None:
        self._inside = np.random.get_state()
        np.random.set_state(self._outside)
        self._lock.release()


class ActionQueue:
    """The actions of a chunk, taken one by one.

    **Arguments:** `action_size` is the size of one action.
    """

    def __init__(self, action_size: int):
        self._action_size = action_size
        self.drop()

    @property
    def needs_chunk(self) -> bool:
        """True when no action is left."""
        return len(self.rest) == 0

    def load(self, chunk: Float[np.ndarray, " dim"]) -> None:
        """Begins a flat chunk."""
        self.rest = np.asarray(chunk, np.float32).reshape(-1, self._action_size)

    def pop(self) -> Float[np.ndarray, " act"]:
        """The next action."""
        action, self.rest = self.rest[0], self.rest[1:]
        return action

    def drop(self) -> None:
        """Drops the remaining actions, as at a reset."""
        self.rest = np.zeros((0, self._action_size), np.float32)
