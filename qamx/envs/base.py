"""What the runner needs of an environment."""

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
