"""Policies that are one network: the deterministic one of ReBRAC, the Gaussian one of SAC."""

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.nn import GaussianActor
from qamx.policies.base import AbstractPolicy, Critic, PolicyStage, clip_action
from qamx.rl import EntropyTarget, WithTarget, pessimistic_value

NOISE_CLIP = 0.5
"""The largest exploration noise of an action entry, before it is added."""


class DeterministicPolicyMetrics(Metrics):
    """The value term, normalised by the mean size of the values, and the squared distance."""

    q_loss: Scalar
    cloning_loss: Scalar


class DeterministicPolicy(AbstractPolicy):
    r"""A map mu(s) that maximises the critic near the data's chunks; acts with noise.

    $$-\frac{\mathbb E\,q}{\mathrm{sg}\,\mathbb E|q|} + w\,\mathbb E\lVert\mu(s)-a\rVert^2,
      \qquad q = (\mathrm{mean}_k-\rho\,\mathrm{std}_k)Q_k(s,\mu(s))$$

    The backup samples the actor's target.

    **Arguments:** `actor` is mu with its target, `noise_scale` the standard deviation of the noise
    (clipped to 0.5), `pessimism` rho, `bc_weight` w.

    **Source:** ReBRAC (Tarasov et al., arXiv 2305.09836); TD3, Fujimoto et al., arXiv 1802.09477.
    """

    actor: WithTarget[Any]
    dim: int = eqx.field(static=True)
    noise_scale: float
    pessimism: float
    bc_weight: float

    @property
    def behaviour(self) -> None:
        return None

    @property
    def clone(self) -> PyTree:
        return self.actor.online

    def start_from(self, clone: PyTree) -> Self:
        return eqx.tree_at(lambda policy: policy.actor, self, self.actor.reset_target(clone))

    def sample(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        noise = self.noise_scale * jax.random.normal(key, (observation.shape[0], self.dim))
        noise = jnp.clip(noise, -NOISE_CLIP, NOISE_CLIP)
        return clip_action(self.actor.online(observation) + noise)

    def stages(self, critic: Critic) -> list[PolicyStage]:
        return [self.own_stage("deterministic policy", critic)]

    def for_backup(self) -> Self:
        return eqx.tree_at(lambda policy: policy.actor.online, self, self.actor.target)

    def cloning_loss(self, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        loss = self._distance(batch, self.actor.online(batch.observations))
        return loss, (DeterministicPolicyMetrics(jnp.zeros(()), loss),)

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        action = self.actor.online(batch.observations)
        q = pessimistic_value(critic.online(batch.observations, action), self.pessimism)
        q_loss = -jnp.mean(q) / jax.lax.stop_gradient(jnp.mean(jnp.abs(q)))
        cloning = self._distance(batch, action)
        own = DeterministicPolicyMetrics(q_loss, cloning)
        return q_loss + self.bc_weight * cloning, (own,)

    def advance(self, metrics: tuple[Metrics, ...]) -> Self:
        return eqx.tree_at(lambda policy: policy.actor, self, self.actor.advance())

    @staticmethod
    def _distance(batch: Batch, action: Float[Array, "batch dim"]) -> Scalar:
        return jnp.mean(batch.valid * jnp.sum((action - batch.actions) ** 2, axis=-1))


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
