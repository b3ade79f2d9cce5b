"""How a critic learns: the critic half of the seam *critic learning x policy extraction*."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.nn import AbstractCritic
from qamx.rl.backup import Backup, td_loss
from qamx.rl.target import WithTarget, frozen

Act = Callable[[Float[Array, "batch obs"], Key], Float[Array, "batch dim"]]


class CriticMetrics(Metrics):
    """The critic's loss and the range of its values at the data."""

    loss: Scalar
    q_mean: Scalar
    q_min: Scalar
    q_max: Scalar


class AbstractCriticLearning(eqx.Module):
    """A critic with a target copy, and the loss that it learns by."""

    critic: eqx.AbstractVar[WithTarget[AbstractCritic]]

    @abstractmethod
    def loss(self, batch: Batch, act: Act, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        """The critic's loss; `act` draws a' from the current policy and carries no gradient."""

    @abstractmethod
    def advance(self) -> Self:
        """The same after an optimiser step: targets move on."""


class TemporalDifference(AbstractCriticLearning):
    """TD(H) on action chunks towards a pessimistic ensemble.

    **Arguments:** `critic` is the ensemble with its target, `backup` its regression target.
    """

    critic: WithTarget[AbstractCritic]
    backup: Backup

    def loss(self, batch: Batch, act: Act, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        next_actions = act(batch.next_observations, key)
        next_values = frozen(self.critic.target)(batch.next_observations, next_actions)
        target = self.backup.target(batch, next_values)
        values = self.critic.online(batch.observations, batch.actions)
        loss = td_loss(values, target, batch.valid)
        return loss, (CriticMetrics(loss, jnp.mean(values), jnp.min(values), jnp.max(values)),)

    def advance(self) -> Self:
        return eqx.tree_at(lambda learner: learner.critic, self, self.critic.advance())
