"""Behaviour flows whose velocity is itself improved by the critic."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.policies.base import AbstractDerivedFlow, Critic, PolicyStage, flow_stage, mean_value
from qamx.policies.behaviour_flow import BehaviourFlow, BehaviourFlowMetrics
from qamx.rl import AdvantageLearning

MAX_WEIGHT = 100.0
"""The largest weight of a data chunk in advantage-weighted flow matching."""


class FlowActorMetrics(Metrics):
    """The value term of a flow that maximises the critic."""

    q_loss: Scalar


class AbstractImprovedFlow(AbstractDerivedFlow):
    """Acts by the ODE of `base`, whose velocity both clones and is improved: no clone remains."""

    base: BehaviourFlow

    @property
    def behaviour(self) -> None:
        return None

    def transport(
        self, observation: Float[Array, "batch obs"], noise: Float[Array, "batch dim"]
    ) -> Float[Array, "batch dim"]:
        return self.base.transport(observation, noise)

    def stages(self, critic: Critic) -> list[PolicyStage]:
        return [flow_stage("flow", self.noise, self.base.velocity, self.base.integrator)]


class FlowActor(AbstractImprovedFlow):
    r"""A flow trained by flow matching and, through all steps of its ODE, by the critic.

    $$L_{FM} - \frac1c\,\mathbb E\,\mathrm{mean}_k Q_k(s, \mathrm{flow}(s, z))$$

    **Arguments:** `bc_weight` is c.

    **Source:** FBRAC (Park et al., arXiv 2502.02538; Li and Levine, arXiv 2601.14234).
    """

    base: BehaviourFlow
    bc_weight: float

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        base_key, noise_key = jax.random.split(key)
        cloning, metrics = self.cloning_loss(batch, base_key)
        noise = self.noise(batch.observations, noise_key)
        action = self.transport(batch.observations, noise)
        q_loss = -mean_value(critic.online, batch.observations, action)
        return cloning + q_loss / self.bc_weight, (*metrics, FlowActorMetrics(q_loss))


class AdvantageWeightMetrics(Metrics):
    """The mean weight of the data's chunks, and the share of weights that were cut."""

    mean: Scalar
    cut: Scalar


class AdvantageWeightedFlow(AbstractImprovedFlow):
    r"""A flow trained by flow matching on the data's chunks, weighted by their advantage.

    The weight is \(\min(\exp(\tau(\mathrm{mean}_k Q_k(s, a) - V(s))), 100)\).

    **Arguments:** `inverse_temperature` is tau.

    **Raises:** `TypeError` if the critic has no V: compose it with `AdvantageLearning`.

    **Source:** FAWAC (Park et al., arXiv 2502.02538); Peng et al., arXiv 1910.00177.
    """

    base: BehaviourFlow
    inverse_temperature: float

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        if not isinstance(critic, AdvantageLearning):
            raise TypeError(
                "an advantage-weighted flow learns from AdvantageLearning, a critic with a "
                f"state value; found {type(critic).__name__}"
            )
        tilt = jnp.exp(self.inverse_temperature * critic.advantage(batch))
        weight = jnp.minimum(tilt, MAX_WEIGHT)
        loss = self.base.matching_loss(batch, batch.valid * weight, key)
        weights = AdvantageWeightMetrics(jnp.mean(weight), jnp.mean(tilt > MAX_WEIGHT))
        return loss, (BehaviourFlowMetrics(loss), weights)
