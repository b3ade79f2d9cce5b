"""A policy over the noise of a flow."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.nn import EnsembleCritic, GaussianActor
from qamx.policies.base import (
    AbstractDerivedPolicy,
    AbstractFlowPolicy,
    Critic,
    PolicyStage,
    flow_stage,
)
from qamx.rl import EntropyTarget, frozen


class LatentMetrics(Metrics):
    """The loss of the latent critic and the terms of the latent actor."""

    distill_loss: Scalar
    q_loss: Scalar
    entropy_loss: Scalar
    temperature_loss: Scalar
    entropy: Scalar
    temperature: Scalar


class LatentPolicy(AbstractDerivedPolicy):
    r"""Steers a frozen flow by choosing its noise.

    It acts with \(\mathrm{flow}(s, c\,u)\), u ~ tanh-Gaussian(s).

    The latent critic learns the value of noise, \(Q_z(s, z)\to Q(s, \mathrm{flow}(s, z))\), by
    least squares at z ~ N(0, I), and the actor maximises it:

    $$\mathrm{sg}(\alpha)\,\mathbb E\log\pi(u) - \mathbb E\,\mathrm{mean}_kQ_z(s, c\,u)
      + \alpha\,\mathrm{sg}(H - H^*)$$

    **Arguments:** `base` is the flow, `critic` Q_z, `actor` the distribution of u, `noise_scale` c.

    **Raises:** `ValueError` if the scale is not positive.

    **Source:** DSRL (Wagenmaker et al., arXiv 2506.15799).
    """

    base: AbstractFlowPolicy
    critic: EnsembleCritic
    actor: GaussianActor
    entropy: EntropyTarget
    noise_scale: float

    def __check_init__(self):
        if not self.noise_scale > 0.0:
            raise ValueError(f"the noise scale is positive; found {self.noise_scale}, try 1.0")

    def sample(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        return self.base.transport(observation, self.chosen_noise(observation, key))

    def chosen_noise(
        self, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        """The initial noise c u of the flow."""
        return self.noise_scale * self._draw(observation, key)[0]

    def stages(self, critic: Critic) -> list[PolicyStage]:
        base = self.base.stages(critic)
        if (route := base[-1].route) is None:
            return [*base, self.own_stage("steered", critic)]
        own = flow_stage("steered flow", self.chosen_noise, route.velocity, route.integrator)
        return [*base, own]

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        base_key, noise_key, actor_key = jax.random.split(key, 3)
        observation = batch.observations
        base_loss, metrics = self.base.loss(critic, batch, base_key)
        noise = self.base.noise(observation, noise_key)
        values = critic.online(observation, frozen(self.base).transport(observation, noise))
        distill_loss = jnp.mean((self.critic(observation, noise) - values) ** 2)
        latent, log_prob = self._draw(observation, actor_key)
        q_loss = -jnp.mean(frozen(self.critic)(observation, self.noise_scale * latent))
        terms = self.entropy.losses(log_prob)
        loss = base_loss + distill_loss + q_loss + terms[0] + terms[1]
        own = LatentMetrics(distill_loss, q_loss, *terms, self.entropy.temperature())
        return loss, (*metrics, own)

    def _draw(
        self, observation: Float[Array, "batch obs"], key: Key
    ) -> tuple[Float[Array, "batch dim"], Float[Array, " batch"]]:
        noise = self.base.noise(observation, key)
        return self.actor(observation).sample_and_log_prob(noise)
