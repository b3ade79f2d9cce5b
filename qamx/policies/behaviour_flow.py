"""Behaviour flows: flow-matching clones of the data."""

from typing import Self

import equinox as eqx
import jax
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.flow import Integrator, flow_matching_loss, sample_ode
from qamx.nn import AbstractVelocityField
from qamx.policies.base import AbstractFlowPolicy, Critic, PolicyStage, clip_action, flow_stage
from qamx.rl import WithTarget


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
    def clone(self) -> AbstractVelocityField:
        return self.velocity

    def start_from(self, clone: AbstractVelocityField) -> Self:
        return eqx.tree_at(lambda flow: flow.velocity, self, clone)

    @property
    def action_dim(self) -> int:
        return self.dim

    def transport(
        self, observation: Float[Array, "batch obs"], noise: Float[Array, "batch dim"]
    ) -> Float[Array, "batch dim"]:
        return clip_action(sample_ode(self.velocity, observation, noise, self.integrator))

    def stages(self, critic: Critic) -> list[PolicyStage]:
        return [flow_stage("behaviour flow", self.noise, self.velocity, self.integrator)]

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        return self.cloning_loss(batch, key)

    def cloning_loss(self, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        loss = self.matching_loss(batch, batch.valid, key)
        return loss, (BehaviourFlowMetrics(loss),)

    def matching_loss(self, batch: Batch, weight: Float[Array, " batch"], key: Key) -> Scalar:
        """Flow matching on the batch's chunks, each row weighted by `weight`."""
        noise, time = self.draw_points(batch, key)
        return flow_matching_loss(
            self.velocity, batch.observations, batch.actions, noise, time, weight
        )

    def draw_points(
        self, batch: Batch, key: Key
    ) -> tuple[Float[Array, "batch dim"], Float[Array, " batch"]]:
        """Noise and flow times, one row per batch row."""
        noise_key, time_key = jax.random.split(key)
        noise = self.noise(batch.observations, noise_key)
        return noise, jax.random.uniform(time_key, batch.valid.shape)


class TargetBehaviourFlow(AbstractFlowPolicy):
    """A behaviour flow whose target velocity acts and is refined.

    **Source:** Li and Levine, arXiv 2601.14234, the target of v_b.
    """

    pair: WithTarget[BehaviourFlow]

    @property
    def behaviour(self) -> BehaviourFlow:
        return self.pair.online

    @property
    def clone(self) -> AbstractVelocityField:
        return self.behaviour.velocity

    def start_from(self, clone: AbstractVelocityField) -> Self:
        pair = self.pair.reset_target(self.behaviour.start_from(clone))
        return eqx.tree_at(lambda flow: flow.pair, self, pair)

    @property
    def action_dim(self) -> int:
        return self.behaviour.action_dim

    @property
    def integrator(self) -> Integrator:
        """The grid of the flow."""
        return self.behaviour.integrator

    @property
    def velocity(self) -> AbstractVelocityField:
        """The target of v_b."""
        return self.pair.target.velocity

    def transport(
        self, observation: Float[Array, "batch obs"], noise: Float[Array, "batch dim"]
    ) -> Float[Array, "batch dim"]:
        return self.pair.target.transport(observation, noise)

    def stages(self, critic: Critic) -> list[PolicyStage]:
        return [flow_stage("behaviour flow", self.noise, self.velocity, self.integrator)]

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        return self.behaviour.loss(critic, batch, key)

    def cloning_loss(self, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        return self.behaviour.cloning_loss(batch, key)

    def advance(self, metrics: tuple[Metrics, ...]) -> Self:
        return eqx.tree_at(lambda flow: flow.pair, self, self.pair.advance())
