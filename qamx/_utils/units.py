"""Units of observations and actions; NumPy alone, for exported policies."""

import functools
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Units:
    """Affine maps between environment units and policy units.

    A policy sees (observation - mean) / deviation and acts in [-1, 1], where ±1 are the bounds of
    the environment's actions. An empty vector leaves observations, or actions, as they are.
    """

    observation_mean: np.ndarray
    observation_deviation: np.ndarray
    action_low: np.ndarray
    action_high: np.ndarray

    def observations(self, raw: np.ndarray) -> np.ndarray:
        """Observations [..., obs] as a policy sees them."""
        if not self.observation_mean.size:
            return raw
        return ((raw - self.observation_mean) / self.observation_deviation).astype(np.float32)

    def actions(self, raw: np.ndarray) -> np.ndarray:
        """Actions [..., act] of the environment in a policy's units."""
        if not self.action_low.size:
            return raw
        return ((raw - self.centre) / self.reach).astype(np.float32)

    def to_environment(self, actions: np.ndarray) -> np.ndarray:
        """A policy's actions [..., act] in the environment's units, inside its bounds."""
        if not self.action_low.size:
            return actions
        raw = self.centre + actions * self.reach
        return np.clip(raw, self.action_low, self.action_high).astype(np.float32)

    @functools.cached_property
    def centre(self) -> np.ndarray:
        """The middle of the bounds, the policy's 0."""
        return self.action_low / 2 + self.action_high / 2

    @functools.cached_property
    def reach(self) -> np.ndarray:
        """Half the range of the bounds; 1 for an entry that cannot move."""
        half = self.action_high / 2 - self.action_low / 2
        return np.where(half > 0, half, 1.0)
