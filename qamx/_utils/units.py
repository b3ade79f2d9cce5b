"""Units of observations and actions; NumPy alone, for exported policies."""

import functools
from dataclasses import dataclass, field

import numpy as np


def _no_entries() -> np.ndarray:
    return np.zeros(0, np.float32)


@dataclass(frozen=True)
class Units:
    """Affine maps between an environment's units and a policy's.

    A policy sees (observation - mean) / deviation and acts in [-1, 1], where ±1 are the bounds of
    the environment's actions. An empty vector leaves observations, or actions, as they are.
    """

    observation_mean: np.ndarray = field(default_factory=_no_entries)
    observation_deviation: np.ndarray = field(default_factory=_no_entries)
    action_low: np.ndarray = field(default_factory=_no_entries)
    action_high: np.ndarray = field(default_factory=_no_entries)

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
        """The distance of the bounds from the middle; 1 for an entry that cannot move."""
        half = self.action_high / 2 - self.action_low / 2
        return np.where(half > 0, half, 1.0)
