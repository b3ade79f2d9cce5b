"""How the robot arm departs from what its oracle tells it."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

Disturb = Callable[[Callable[[], np.ndarray]], np.ndarray]
"""Gives the action, in [-1, 1]^5, from a function that asks the oracle for its action."""


class Disturbance(Protocol):
    """A way to depart from the oracle, its strength drawn for each episode."""

    def begin(self, generator: np.random.Generator) -> Disturb:
        """The disturbance of one episode."""
        ...


class Undisturbed:
    """The oracle's action as it is: plan oracles have their noise inside their plans."""

    def begin(self, generator: np.random.Generator) -> Disturb:
        return lambda ask: _bounded(ask())


class NoisyActions:
    """Gaussian noise on the oracle's action, and now and then a random action instead.

    $a = \\mathrm{clip}(a_{oracle} + \\xi \\, (1, 1, 1, 3, 10) \\odot \\varepsilon, -1, 1)$ with
    $\\xi \\sim U(0, 0.1)$ for each episode and $\\varepsilon \\sim N(0, I)$ for each step.

    **Arguments:**

    - `random_action`: the probability of a uniform action instead.

    Source: OGBench's `generate_manipspace.py`, data sets of type `noisy`.
    """

    largest_noise = 0.1
    noise_shape = (1.0, 1.0, 1.0, 3.0, 10.0)

    def __init__(self, random_action: float):
        self.random_action = random_action

    def begin(self, generator: np.random.Generator) -> Disturb:
        scale = generator.uniform(0.0, self.largest_noise) * np.asarray(self.noise_shape)

        def disturb(ask: Callable[[], np.ndarray]) -> np.ndarray:
            # A random action leaves the oracle unasked: it counts the steps it has been asked for.
            if generator.random() < self.random_action:
                return _bounded(generator.uniform(-1.0, 1.0, scale.shape))
            return _bounded(ask() + generator.normal(0.0, scale))

        return disturb


def _bounded(action: np.ndarray) -> np.ndarray:
    # Rounded before it is taken, so that the stored action is the one that was taken.
    return np.clip(action, -1.0, 1.0).astype(np.float32)
