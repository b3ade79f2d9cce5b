"""A squashed Gaussian policy: SAC."""

from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.nn import GaussianActor
from qamx.policies.base import AbstractPolicy, Critic, PolicyStage
from qamx.rl import EntropyTarget, pessimistic_value

INSIDE = 1.0 - 1e-5
"""Data actions are clipped to this bound, where the squashed density is finite."""


class GaussianPolicyMetrics(Metrics):
    """The terms of the policy, -log pi of the data's chunks, its entropy and temperature."""

    q_loss: Scalar
    entropy_loss: Scalar
    cloning_loss: Scalar
    temperature_loss: Scalar
    entropy: Scalar
    temperature: Scalar


class GaussianPolicy(AbstractPolicy):
    r"""A tanh-Gaussian that maximises a pessimistic critic, with entropy and cloning terms.

    $$\mathrm{sg}(\alpha)\,\mathbb E\log\pi(u|s)
      - \mathbb E(\mathrm{mean}_k-\rho\,\mathrm{std}_k)Q_k(s, u)
      - w\,\mathbb E\log\pi(a|s) + \alpha\,\mathrm{sg}(H - H^*)$$

    **Arguments:** `entropy` holds alpha and H*, `pessimism` is rho, `bc_weight` w (0: no cloning).

    **Source:** SAC, Haarnoja et al., arXiv 1812.05905; RLPD, Ball et al., arXiv 2302.02948.
    """

    actor: GaussianActor
    entropy: EntropyTarget
    dim: int = eqx.field(static=True)
    pessimism: float
    bc_weight: float

    @property
    def behaviour(self) -> None:
        return None

    @property
    def clone(self) -> GaussianActor:
        return self.actor

    def start_from(self, clone: GaussianActor) -> Self:
        return eqx.tree_at(lambda policy: policy.actor, self, clone)

    def sample(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        return self._draw(observation, key)[0]

    def stages(self, critic: Critic) -> list[PolicyStage]:
        return [self.own_stage("Gaussian policy", critic)]

    def cloning_loss(self, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        loss = self._surprise(batch)
        zero = jnp.zeros(())
        own = GaussianPolicyMetrics(zero, zero, loss, zero, zero, self.entropy.temperature())
        return loss, (own,)

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        action, log_prob = self._draw(batch.observations, key)
        values = critic.online(batch.observations, action)
        q_loss = -jnp.mean(pessimistic_value(values, self.pessimism))
        entropy_loss, temperature_loss, entropy = self.entropy.losses(log_prob)
        cloning = self._surprise(batch)
        loss = q_loss + entropy_loss + self.bc_weight * cloning + temperature_loss
        alpha = self.entropy.temperature()
        own = GaussianPolicyMetrics(q_loss, entropy_loss, cloning, temperature_loss, entropy, alpha)
        return loss, (own,)

    def _surprise(self, batch: Batch) -> Scalar:
        """-log pi(a|s) of the data's valid chunks, summed and divided by the batch size."""
        law = self.actor(batch.observations)
        return -jnp.mean(batch.valid * law.log_prob(jnp.clip(batch.actions, -INSIDE, INSIDE)))

    def _draw(
        self, observation: Float[Array, "batch obs"], key: Key
    ) -> tuple[Float[Array, "batch dim"], Float[Array, " batch"]]:
        noise = jax.random.normal(key, (observation.shape[0], self.dim))
        return self.actor(observation).sample_and_log_prob(noise)
