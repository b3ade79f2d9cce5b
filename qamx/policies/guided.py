"""Behaviour flows guided by the critic's gradient when they sample."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.flow import sample_ode
from qamx.nn import AbstractVelocityField, FlowTimeCritic
from qamx.policies.base import (
    AbstractDerivedPolicy,
    Critic,
    PolicyStage,
    clip_action,
    flow_stage,
    require_flow_time,
    row_gradient,
)
from qamx.policies.behaviour_flow import TargetBehaviourFlow


class GuidedVelocity(AbstractVelocityField):
    r"""\(v_b(s, x, t)+\tfrac ct\big((1-t)\,\tau\nabla_x\mathrm{mean}_kQ_k(s, x, t_c)+x\big)\), and
    v_b alone at t = 0.

    **Arguments:** `guidance_scale` is c; `critic_time` maps t to t_c.
    """

    velocity: AbstractVelocityField
    critic: FlowTimeCritic
    inverse_temperature: float
    guidance_scale: float
    critic_time: Callable[[Array], Array] = eqx.field(static=True)

    def __call__(
        self,
        observation: Float[Array, "*batch obs"],
        x: Float[Array, "*batch dim"],
        t: Float[Array, "*#batch"],
    ) -> Float[Array, "*batch dim"]:
        def values(x: Array) -> Array:
            return self.critic.at(observation, x, self.critic_time(t))

        time = jnp.asarray(t)[..., None]
        tilt = (1.0 - time) * self.inverse_temperature * row_gradient(values, x) + x
        guidance = self.guidance_scale * tilt / jnp.where(time > 0.0, time, 1.0)
        return self.velocity(observation, x, t) + jnp.where(time > 0.0, guidance, 0.0)


class GuidedFlow(AbstractDerivedPolicy):
    """Acts by the ODE of the behaviour flow's target, guided by the critic at each step.

    **Arguments:** as `GuidedVelocity`: `critic_time` is all ones for a critic of clean actions, the
    identity for one of noised actions.

    **Source:** CGQL (Li and Levine, arXiv 2601.14234); Dhariwal and Nichol, arXiv 2105.05233.
    """

    base: TargetBehaviourFlow
    inverse_temperature: float
    guidance_scale: float
    critic_time: Callable[[Array], Array] = eqx.field(static=True)

    def sample(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        noise = self.base.noise(observation, key)
        velocity = self.guided(critic)
        return clip_action(sample_ode(velocity, observation, noise, self.base.integrator))

    def guided(self, critic: Critic) -> GuidedVelocity:
        """The velocity guided by a critic."""
        return GuidedVelocity(
            self.base.velocity,
            require_flow_time(critic.online),
            self.inverse_temperature,
            self.guidance_scale,
            self.critic_time,
        )

    def stages(self, critic: Critic) -> list[PolicyStage]:
        velocity = self.guided(critic)
        own = flow_stage("guided flow", self.base.noise, velocity, self.base.integrator)
        return [*self.base.stages(critic), own]

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        return self.base.loss(critic, batch, key)
