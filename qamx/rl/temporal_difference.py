"""Temporal-difference learning: the pessimistic n-step backup over action chunks, and critics
that learn by it, of noised actions too."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx._utils.defaults import PESSIMISM
from qamx.nn import AbstractCritic, FlowTimeCritic
from qamx.rl.target import WithTarget, frozen


def pessimistic_value(
    values: Float[Array, "ensemble *batch"], pessimism: float
) -> Float[Array, "*batch"]:
    r"""The pessimistic value \(\mathrm{mean}_k Q_k - \rho\,\mathrm{std}_k Q_k\) of an ensemble.

    The standard deviation has ddof 0.

    **Source:** Ghasemipour et al., arXiv 2205.13703.
    """
    variance = jnp.var(values, axis=0)
    # The root has no derivative where all critics agree bitwise: return 0 there, not NaN.
    agree = variance == 0.0
    deviation = jnp.where(agree, 0.0, jnp.sqrt(jnp.where(agree, 1.0, variance)))
    return jnp.mean(values, axis=0) - pessimism * deviation


class Backup(eqx.Module):
    r"""The chunked n-step target of a critic.

    $$R + \gamma^H m\,(\mathrm{mean}_k - \rho\,\mathrm{std}_k)\bar Q_k(s', a')$$

    **Arguments:** `discount` is gamma per environment step, `horizon` the chunk length H,
    `pessimism` rho.

    **Raises:** `ValueError` for a discount outside [0, 1], a horizon below 1, or a negative rho.

    **Source:** Li et al., Q-chunking, arXiv 2507.07969; Li and Levine, arXiv 2601.14234.
    """

    discount: float
    horizon: int = eqx.field(static=True)
    pessimism: float = PESSIMISM

    def __check_init__(self):
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f"the discount is in [0, 1]; found {self.discount}, try 0.99")
        if self.horizon < 1:
            raise ValueError(f"the horizon is at least 1 step; found {self.horizon}")
        if self.pessimism < 0.0:
            raise ValueError(f"the pessimism is at least 0; found {self.pessimism}, try 0.5")

    def target(
        self, batch: Batch, next_values: Float[Array, "ensemble batch"]
    ) -> Float[Array, " batch"]:
        """The regression target, without gradient; `next_values` are the target critics' at s'."""
        bootstrap = pessimistic_value(next_values, self.pessimism)
        target = batch.rewards + self.discount**self.horizon * batch.masks * bootstrap
        return jax.lax.stop_gradient(target)


def td_loss(
    values: Float[Array, "ensemble batch"],
    target: Float[Array, " batch"],
    valid: Float[Array, " batch"],
) -> Scalar:
    """Mean over ensemble and batch of valid (Q_k - target)^2."""
    return jnp.mean(valid * (values - target) ** 2)


def expectile_loss(error: Float[Array, "*shape"], expectile: float) -> Float[Array, "*shape"]:
    r"""The expectile loss \(|\kappa-\mathbb 1(u<0)|\,u^2\) of u = target - prediction.

    The minimiser is the mean for kappa = 1/2, and approaches the largest target as kappa
    approaches 1.

    **Source:** Kostrikov et al., arXiv 2110.06169, eq. 5.
    """
    return jnp.where(error < 0, 1.0 - expectile, expectile) * error**2


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
    """The squared error: the noised value learns the mean of the clean ones.

    **Source:** Li and Levine, arXiv 2601.14234.
    """
    return (noisy - clean) ** 2


def linex(
    noisy: Float[Array, "ensemble batch"], clean: Float[Array, "ensemble batch"], tau: float
) -> Float[Array, "ensemble batch"]:
    r"""The LINEX loss: the noised value learns the soft maximum of the clean ones.

    It is \(e^u+\tau Q_t\) with \(u=\tau(\bar Q-Q_t)\), whose minimiser is
    \(\tau^{-1}\log\mathbb E\,e^{\tau\bar Q}\); the exponential is replaced by u for u > 5.

    **Source:** Li and Levine, arXiv 2601.14234; the loss, Varian (1975).
    """
    u = tau * (clean - noisy)
    # The exponential is not evaluated at large u, where its infinite derivative would spread.
    inside = jnp.exp(jnp.minimum(u, LINEX_CLIP)) + tau * noisy
    return jnp.where(u > LINEX_CLIP, u, inside)


class NoisyTemporalDifference(AbstractFlowTimeLearning[Actor]):
    r"""TD of clean actions, and regression of noised actions' values to theirs.

    TD at t = 1, plus \(w\,\mathbb E\,l(Q(s, x_t, t), \bar Q(s, a, 1))\) at \(x_t=(1-t)z+ta\), so
    that the critic predicts the value of the clean action.

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
