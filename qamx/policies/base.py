"""The interfaces of policies."""

from abc import abstractmethod
from typing import Self, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.nn import AbstractCritic
from qamx.rl import WithTarget

Critic: TypeAlias = WithTarget[AbstractCritic]


class AbstractPolicy(eqx.Module):
    """Acts at observations and learns from a critic and a batch.

    A policy that is built on another one holds it as a part: its loss includes the part's loss,
    and everything that it uses of the part besides is frozen.
    """

    @property
    @abstractmethod
    def behaviour(self) -> "AbstractPolicy":
        """The part that clones the data, for comparison with the policy itself."""

    @abstractmethod
    def sample(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        """An action chunk for each observation, entries in [-1, 1]."""

    @abstractmethod
    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        """The sum of the objectives that train this policy; `critic` comes frozen."""

    @abstractmethod
    def advance(self) -> Self:
        """The policy after an optimiser step: targets and schedules move on."""


class AbstractFlowPolicy(AbstractPolicy):
    """A policy that transports standard normal noise to actions."""

    @property
    @abstractmethod
    def action_dim(self) -> int:
        """Entries of a flat action chunk, and of its noise."""

    @abstractmethod
    def transport(
        self, observation: Float[Array, "batch obs"], noise: Float[Array, "batch dim"]
    ) -> Float[Array, "batch dim"]:
        """The action chunk that `noise` is sent to, clipped to [-1, 1]."""

    def sample(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        return self.transport(observation, self.noise(observation, key))

    def noise(self, observation: Float[Array, "batch obs"], key: Key) -> Float[Array, "batch dim"]:
        """Standard normal noise, a row for each observation."""
        return jax.random.normal(key, (observation.shape[0], self.action_dim))


def clip_action(action: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
    """Actions live in the box [-1, 1]."""
    return jnp.clip(action, -1.0, 1.0)


def mean_value(
    critic: AbstractCritic,
    observation: Float[Array, "batch obs"],
    action: Float[Array, "batch dim"],
) -> Scalar:
    """mean_B mean_k Q_k(s, clip a), the value that a policy is pushed towards."""
    return jnp.mean(critic(observation, clip_action(action)))
