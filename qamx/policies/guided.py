"""Behaviour flows guided by the critic's gradient when they sample."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.flow import sample_ode
from qamx.nn import AbstractCritic, AbstractVelocityField, FlowTimeCritic
from qamx.policies.base import (
    AbstractDerivedPolicy,
    Critic,
    PolicyStage,
    clip_action,
    flow_stage,
    require_flow_time,
    row_gradient,
)
from qamx.policies.behaviour_flow import BehaviourFlow, TargetBehaviourFlow
from qamx.rl import pessimistic_value


class GuidedVelocity(AbstractVelocityField):
    r"""The velocity v_b with the critic's gradient at the state of the flow.

    $$v_b(s, x, t)+\tfrac ct\big((1-t)\,\tau\nabla_x\mathrm{mean}_kQ_k(s, x, t_c)+x\big)$$

    At t = 0 it is v_b alone.

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


Chain: TypeAlias = Callable[
    [Float[Array, "batch dim"], Callable[[Float[Array, "batch dim"]], Any]],
    Float[Array, "batch dim"],
]
"""The gradient by a flow's state: from that by the predicted action, and the prediction's
vector-Jacobian product."""


def identity_jacobian(
    gradient: Float[Array, "batch dim"], pullback: Callable[[Float[Array, "batch dim"]], Any]
) -> Float[Array, "batch dim"]:
    """The gradient at the predicted action, whose Jacobian by the state is taken as I."""
    return gradient


def exact_jacobian(
    gradient: Float[Array, "batch dim"], pullback: Callable[[Float[Array, "batch dim"]], Any]
) -> Float[Array, "batch dim"]:
    """The gradient by the state, through the prediction and its clip."""
    return pullback(gradient)[0]


class PredictionGuidedVelocity(AbstractVelocityField):
    r"""The velocity v_b with the critic's gradient at the predicted action.

    $$v_b(s, x, t) + w\,J\,\nabla_{\hat a}(\mathrm{mean}-\rho\,\mathrm{std})_kQ_k(s,\hat a),\qquad
      \hat a=\mathrm{clip}(x+(1-t)v_b(s, x, t))$$

    **Arguments:** `strength` is w, `pessimism` rho; `chain` gives J, which is I or
    \((\partial\hat a/\partial x)^\top\).
    """

    velocity: AbstractVelocityField
    critic: AbstractCritic
    strength: float
    pessimism: float
    chain: Chain = eqx.field(static=True)

    def __call__(
        self,
        observation: Float[Array, "*batch obs"],
        x: Float[Array, "*batch dim"],
        t: Float[Array, "*#batch"],
    ) -> Float[Array, "*batch dim"]:
        def predict(x: Array) -> tuple[Array, Array]:
            velocity = self.velocity(observation, x, t)
            return clip_action(x + (1.0 - jnp.asarray(t)[..., None]) * velocity), velocity

        def values(action: Array) -> Array:
            return pessimistic_value(self.critic(observation, action), self.pessimism)[None]

        action, pullback, velocity = jax.vjp(predict, x, has_aux=True)
        return velocity + self.strength * self.chain(row_gradient(values, action), pullback)


class AbstractGuidedFlow(AbstractDerivedPolicy):
    """Acts by the ODE of a behaviour flow, guided by the critic at each step.

    Training is that of the behaviour flow alone.
    """

    base: eqx.AbstractVar[BehaviourFlow | TargetBehaviourFlow]

    @abstractmethod
    def guided(self, critic: Critic) -> AbstractVelocityField:
        """The velocity guided by a critic."""

    def sample(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        noise = self.base.noise(observation, key)
        velocity = self.guided(critic)
        return clip_action(sample_ode(velocity, observation, noise, self.base.integrator))

    def stages(self, critic: Critic) -> list[PolicyStage]:
        velocity = self.guided(critic)
        own = flow_stage("guided flow", self.base.noise, velocity, self.base.integrator)
        return [*self.base.stages(critic), own]

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        return self.base.loss(critic, batch, key)


class GuidedFlow(AbstractGuidedFlow):
    """Acts by the ODE of the behaviour flow's target, guided by the critic at each step.

    **Arguments:** as `GuidedVelocity`: `critic_time` is all ones for a critic of clean actions, the
    identity for one of noised actions. `guidance_scale` is the strength.

    **Source:** CGQL (Li and Levine, arXiv 2601.14234); Dhariwal and Nichol, arXiv 2105.05233.
    """

    base: TargetBehaviourFlow
    inverse_temperature: float
    guidance_scale: float
    critic_time: Callable[[Array], Array] = eqx.field(static=True)

    @property
    def strength(self) -> float:
        return self.guidance_scale

    def with_strength(self, strength: float) -> Self:
        return eqx.tree_at(lambda policy: policy.guidance_scale, self, strength)

    def guided(self, critic: Critic) -> GuidedVelocity:
        return GuidedVelocity(
            self.base.velocity,
            require_flow_time(critic.online),
            self.inverse_temperature,
            self.guidance_scale,
            self.critic_time,
        )


class PredictionGuidedFlow(AbstractGuidedFlow):
    r"""Acts by the ODE of the behaviour flow, guided at the action that each step predicts.

    For i = 0, ..., T-1 and t = i/T,

    $$x\leftarrow x+h\big(v_b(s, x, t)+w\,\nabla_{\hat a}\bar Q(s,\hat a)\big),\qquad
      \hat a=\mathrm{clip}(x+(1-t)\,v_b(s, x, t)).$$

    Nothing but the flow and its critics is trained, so that one policy samples at any strength w.

    **Arguments:** `guidance_strength` is w in evaluations, `exploration_strength` elsewhere;
    `pessimism` and `chain` as in `PredictionGuidedVelocity`.

    **Source:** QGF (Zhou et al., arXiv 2606.11087).
    """

    base: BehaviourFlow
    guidance_strength: float
    exploration_strength: float
    pessimism: float
    chain: Chain = eqx.field(static=True, default=identity_jacobian)

    @property
    def strength(self) -> float:
        return self.guidance_strength

    def with_strength(self, strength: float) -> Self:
        return eqx.tree_at(lambda policy: policy.guidance_strength, self, strength)

    def for_evaluation(self) -> Self:
        return eqx.tree_at(lambda p: p.exploration_strength, self, self.guidance_strength)

    def guided(self, critic: Critic) -> PredictionGuidedVelocity:
        velocity, strength = self.base.velocity, self.exploration_strength
        return PredictionGuidedVelocity(
            velocity, critic.target, strength, self.pessimism, self.chain
        )
