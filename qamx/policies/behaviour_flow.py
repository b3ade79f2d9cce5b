"""The behaviour flow: a flow-matching clone of the data."""

from typing import Self

import equinox as eqx
import jax
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.flow import Integrator, flow_matching_loss, sample_ode
from qamx.nn import AbstractVelocityField
from qamx.policies.base import AbstractFlowPolicy, Critic, clip_action


class BehaviourFlowMetrics(Metrics):
    """The flow-matching loss of the behaviour flow."""

    loss: Scalar


class BehaviourFlow(AbstractFlowPolicy):
    """A velocity v_b trained by flow matching on the data's action chunks; acts by its ODE.

    **Arguments:** `dim` is the size of a flat chunk, `integrator` the grid of its ODE.

    **Source:** Lipman et al., arXiv 2210.02747; as a policy, Park et al., arXiv 2502.02538.
    """

    velocity: AbstractVelocityField
    integrator: Integrator
    dim: int = eqx.field(static=True)

    @property
    def behaviour(self) -> "BehaviourFlow":
        return self

    @property
    def action_dim(self) -> int:
        return self.dim

    def transport(
        self, observation: Float[Array, "batch obs"], noise: Float[Array, "batch dim"]
    ) -> Float[Array, "batch dim"]:
        return clip_action(sample_ode(self.velocity, observation, noise, self.integrator))

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        noise_key, time_key = jax.random.split(key)
        noise = self.noise(batch.observations, noise_key)
        time = jax.random.uniform(time_key, batch.valid.shape)
        loss = flow_matching_loss(
            self.velocity, batch.observations, batch.actions, noise, time, batch.valid
        )
        return loss, (BehaviourFlowMetrics(loss),)

    def advance(self) -> Self:
        return self
