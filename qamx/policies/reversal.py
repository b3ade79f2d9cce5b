"""A flow improved by critics on its own intermediate states."""

from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.flow import interpolate
from qamx.policies.base import (
    AbstractDerivedFlow,
    Critic,
    PolicyStage,
    flow_stage,
    require_flow_time,
)
from qamx.policies.behaviour_flow import TargetBehaviourFlow


class ReversalMetrics(Metrics):
    """The flow-matching loss and the value term, before their weights."""

    cloning_loss: Scalar
    q_loss: Scalar


class ReversalFlow(AbstractDerivedFlow):
    r"""A flow whose every step maximises the critic at the state it leads to.

    $$c\,L_{FM} - \mathbb E\,\mathrm{mean}_kQ_k\big(s,\ x_t + \delta\,v(s, x_t, t),\ t+\delta\big),
      \qquad \delta=\min(1/T, 1-t)$$

    at the points of flow matching. Data is collected with the online velocity, and evaluations
    use its target.

    **Arguments:** `base` is the flow with its target, `bc_weight` c.

    **Raises:** `TypeError` if the critic takes no flow time: compose it with
    `ReversalLearning`.

    **Source:** RQL (Oberai, Park and Levine, arXiv 2606.17551).
    """

    base: TargetBehaviourFlow
    bc_weight: float

    @property
    def behaviour(self) -> None:
        return None

    def for_evaluation(self) -> Self:
        return eqx.tree_at(lambda p: p.base.pair.online, self, self.base.pair.target)

    def transport(
        self, observation: Float[Array, "batch obs"], noise: Float[Array, "batch dim"]
    ) -> Float[Array, "batch dim"]:
        return self.base.behaviour.transport(observation, noise)

    def reverse(
        self,
        observation: Float[Array, "batch obs"],
        action: Float[Array, "batch dim"],
        length: Float[Array, " batch"],
    ) -> Float[Array, "batch dim"]:
        """The state at flow time 1 - `length` that leads to `action`: T steps of the ODE back."""
        step = length / self.base.integrator.steps

        def back(i: Array, x: Float[Array, "batch dim"]) -> Float[Array, "batch dim"]:
            return x - step[:, None] * self.base.clone(observation, x, 1.0 - i * step)

        return jax.lax.fori_loop(0, self.base.integrator.steps, back, action)

    def stages(self, critic: Critic) -> list[PolicyStage]:
        return [flow_stage("flow", self.noise, self.base.clone, self.base.integrator)]

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        noise, t = self.base.behaviour.draw_points(batch, key)
        x_t, target = interpolate(noise, batch.actions, t)
        velocity = self.base.clone(batch.observations, x_t, t)
        cloning = jnp.mean(batch.valid * jnp.mean((velocity - target) ** 2, axis=-1))
        step = jnp.minimum(1.0 / self.base.integrator.steps, 1.0 - t)
        x_next = x_t + step[:, None] * velocity
        values = require_flow_time(critic.online).at(batch.observations, x_next, t + step)
        q_loss = -jnp.mean(values)
        return self.bc_weight * cloning + q_loss, (ReversalMetrics(cloning, q_loss),)
