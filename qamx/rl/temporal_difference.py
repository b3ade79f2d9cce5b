"""Temporal-difference learning of critics, including critics of noised actions."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.nn import AbstractCritic, FlowTimeCritic
from qamx.rl.backup import Backup, td_loss
from qamx.rl.target import WithTarget, frozen


class Actor(Protocol):
    """The policy's interface in critic learning."""

    def sample(
        self, critic: Any, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        """An action chunk for each observation."""
        ...


A = TypeVar("A", bound=Actor, contravariant=True)


class CriticMetrics(Metrics):
    """The critic's loss and the range of its values on the data."""

    loss: Scalar
    q_mean: Scalar
    q_min: Scalar
    q_max: Scalar


class AbstractCriticLearning(eqx.Module, Generic[A]):
    """A critic with its target, and its loss."""

    critic: eqx.AbstractVar[WithTarget[AbstractCritic]]

    @property
    def online(self) -> AbstractCritic:
        """The trained critic."""
        return self.critic.online

    @property
    def target(self) -> AbstractCritic:
        """Its target network."""
        return self.critic.target

    @abstractmethod
    def loss(self, batch: Batch, policy: A, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        """The critic's loss; `policy` is the backup policy, already frozen."""

    def advance(self) -> Self:
        """The critic learning after an optimiser step, with the target updated."""
        return eqx.tree_at(lambda learner: learner.critic, self, self.critic.advance())

    def fit(self, batch: Batch, target: Float[Array, " batch"]) -> tuple[Scalar, CriticMetrics]:
        """The squared error of the values at the data's chunks, and their range."""
        values = self.online(batch.observations, batch.actions)
        loss = td_loss(values, target, batch.valid)
        return loss, CriticMetrics(loss, jnp.mean(values), jnp.min(values), jnp.max(values))

    def along_flow(
        self,
        observation: Float[Array, "*batch obs"],
        x: Float[Array, "*batch dim"],
        t: Float[Array, ""],
    ) -> Float[Array, "ensemble *batch"]:
        """The target's values of a flow's states at flow time `t`, here evaluated as actions."""
        return self.target(observation, jnp.clip(x, -1.0, 1.0))

    def td_target(
        self, backup: Backup, batch: Batch, policy: Actor, key: Key
    ) -> Float[Array, " batch"]:
        """The backup of the target critics' values at the policy's actions."""
        next_actions = policy.sample(frozen(self), batch.next_observations, key)
        next_values = frozen(self.target)(batch.next_observations, next_actions)
        return backup.target(batch, next_values)


class AbstractFlowTimeLearning(AbstractCriticLearning[A]):
    """Also learns the values of noised actions, at all flow times."""

    critic: eqx.AbstractVar[WithTarget[FlowTimeCritic]]

    def along_flow(
        self,
        observation: Float[Array, "*batch obs"],
        x: Float[Array, "*batch dim"],
        t: Float[Array, ""],
    ) -> Float[Array, "ensemble *batch"]:
        # At t = 1 the state is the executed action.
        state = jnp.where(t < 1.0, x, jnp.clip(x, -1.0, 1.0))
        return self.critic.target.at(observation, state, t)


class TemporalDifference(AbstractCriticLearning[Actor]):
    """TD(H) on action chunks towards a pessimistic ensemble.

    **Arguments:** `critic` is the ensemble with its target, `backup` its regression target.
    """

    critic: WithTarget[AbstractCritic]
    backup: Backup

    def loss(self, batch: Batch, policy: Actor, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        loss, metrics = self.fit(batch, self.td_target(self.backup, batch, policy, key))
        return loss, (metrics,)


NoisyLoss = Callable[
    [Float[Array, "ensemble batch"], Float[Array, "ensemble batch"], float],
    Float[Array, "ensemble batch"],
]
"""A loss of noised actions' values, clean actions' target values, and tau."""

LINEX_CLIP = 5.0
"""The exponent beyond which the LINEX loss is linear."""


class NoisyCriticMetrics(Metrics):
    """The loss at noised actions, before its weight."""

    loss: Scalar


def squared_error(
    noisy: Float[Array, "ensemble batch"], clean: Float[Array, "ensemble batch"], tau: float
) -> Float[Array, "ensemble batch"]:
    """The noised value learns the mean of the clean ones (Li and Levine, arXiv 2601.14234)."""
    return (noisy - clean) ** 2


def linex(
    noisy: Float[Array, "ensemble batch"], clean: Float[Array, "ensemble batch"], tau: float
) -> Float[Array, "ensemble batch"]:
    r"""\(e^u+\tau Q_t\), \(u=\tau(\bar Q-Q_t)\): the noised value learns the soft maximum
    \(\tau^{-1}\log\mathbb E\,e^{\tau\bar Q}\) of the clean ones; u itself for u > 5.

    **Source:** Li and Levine, arXiv 2601.14234; the loss, Varian (1975).
    """
    u = tau * (clean - noisy)
    # The exponential is not evaluated at large u, where its infinite derivative would spread.
    inside = jnp.exp(jnp.minimum(u, LINEX_CLIP)) + tau * noisy
    return jnp.where(u > LINEX_CLIP, u, inside)


class NoisyTemporalDifference(AbstractFlowTimeLearning[Actor]):
    r"""TD at t = 1, and \(w\,\mathbb E\,l(Q(s, x_t, t), \bar Q(s, a, 1))\) at
    \(x_t=(1-t)z+ta\), so that the critic predicts the value of the clean action.

    **Arguments:** `noisy_loss` is l, `weight` w, `inverse_temperature` tau.

    **Source:** Li and Levine, arXiv 2601.14234, the CGQL baselines.
    """

    critic: WithTarget[FlowTimeCritic]
    backup: Backup
    noisy_loss: NoisyLoss = eqx.field(static=True)
    weight: float
    inverse_temperature: float

    def loss(self, batch: Batch, policy: Actor, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        td_key, noise_key, time_key = jax.random.split(key, 3)
        loss, metrics = self.fit(batch, self.td_target(self.backup, batch, policy, td_key))
        noise = jax.random.normal(noise_key, batch.actions.shape)
        t = jax.random.uniform(time_key, batch.valid.shape)
        x_t = (1.0 - t[:, None]) * noise + t[:, None] * batch.actions
        noisy = self.critic.online.at(batch.observations, x_t, t)
        clean = frozen(self.target)(batch.observations, batch.actions)
        terms = self.noisy_loss(noisy, clean, self.inverse_temperature)
        noisy_loss = jnp.mean(batch.valid * terms)
        return loss + self.weight * noisy_loss, (metrics, NoisyCriticMetrics(noisy_loss))
