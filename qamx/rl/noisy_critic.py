"""Critics that also learn the values of partly noised actions."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.nn import FlowTimeCritic
from qamx.rl.backup import Backup
from qamx.rl.target import WithTarget, frozen
from qamx.rl.temporal_difference import AbstractFlowTimeLearning, Actor

NoisyLoss = Callable[
    [Float[Array, "ensemble batch"], Float[Array, "ensemble batch"], float],
    Float[Array, "ensemble batch"],
]
"""A loss of the noised actions' values, the target values of the clean ones, and tau."""

LINEX_CLIP = 5.0
"""The exponent beyond which the LINEX loss is linear."""


class NoisyCriticMetrics(Metrics):
    """The loss at noised actions, before its weight."""

    loss: Scalar


def squared_error(
    noisy: Float[Array, "ensemble batch"], clean: Float[Array, "ensemble batch"], tau: float
) -> Float[Array, "ensemble batch"]:
    """The noised value becomes the mean of the clean ones (Li and Levine, arXiv 2601.14234)."""
    return (noisy - clean) ** 2


def linex(
    noisy: Float[Array, "ensemble batch"], clean: Float[Array, "ensemble batch"], tau: float
) -> Float[Array, "ensemble batch"]:
    r"""\(e^u+\tau Q_t\), \(u=\tau(\bar Q-Q_t)\): the noised value becomes the soft maximum
    \(\tau^{-1}\log\mathbb E\,e^{\tau\bar Q}\) of the clean ones; u itself for u > 5.

    **Source:** Li and Levine, arXiv 2601.14234; the loss, Varian (1975).
    """
    u = tau * (clean - noisy)
    # Where u is large the exponential is not taken: its infinite derivative would spread.
    inside = jnp.exp(jnp.minimum(u, LINEX_CLIP)) + tau * noisy
    return jnp.where(u > LINEX_CLIP, u, inside)


class NoisyTemporalDifference(AbstractFlowTimeLearning[Actor]):
    r"""TD at t = 1, and \(w\,\mathbb E\,l(Q(s, x_t, t), \bar Q(s, a, 1))\) at
    \(x_t=(1-t)z+ta\), so that the critic knows how good the end of a noised action will be.

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
