"""The adjoint-matched flow, the heart of QAM."""

from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.flow import (
    Integrator,
    MemorylessSchedule,
    adjoint_matching_loss,
    lean_adjoint,
    sample_memoryless_sde,
    sample_ode,
)
from qamx.nn import AbstractCritic, AbstractVelocityField
from qamx.policies.base import AbstractFlowPolicy, Critic, clip_action, mean_value
from qamx.policies.behaviour_flow import BehaviourFlow
from qamx.rl import WithTarget, frozen
from qamx.schedules.temperature import AbstractInverseTemperature


class AdjointMatchingMetrics(Metrics):
    """The adjoint-matching loss, the entries of |g_1| at the path's end and |g_0| at its start
    (means over batch and dimensions), and tau."""

    loss: Scalar
    boundary_mean: Scalar
    boundary_std: Scalar
    boundary_max: Scalar
    start_mean: Scalar
    inverse_temperature: Scalar


class AdjointMatchedFlow(AbstractFlowPolicy):
    r"""A flow fine-tuned from the behaviour flow towards
    \(\pi(a|s)\propto\pi_b(a|s)\exp(\tau Q(s, a))\).

    A path of the memoryless SDE is drawn with the present velocity, the critic's gradient at its
    end is carried back by the lean adjoint of the base flow, and the velocity is regressed onto
    it (`qamx.flow.adjoint_matching_loss`). The base flow is the Polyak target of the behaviour
    flow, and the critic the target ensemble's mean.

    **Arguments:** `behaviour` is v_b with its target, `velocity` the flow that acts,
    `inverse_temperature` the schedule of tau.

    **Source:** Li and Levine, arXiv 2601.14234, algorithm 1.
    """

    behaviour_pair: WithTarget[BehaviourFlow]
    velocity: AbstractVelocityField
    inverse_temperature: AbstractInverseTemperature

    @property
    def behaviour(self) -> BehaviourFlow:
        return self.behaviour_pair.online

    @property
    def action_dim(self) -> int:
        return self.behaviour.action_dim

    @property
    def integrator(self) -> Integrator:
        """The grid that all flows of the method share."""
        return self.behaviour.integrator

    def transport(
        self, observation: Float[Array, "batch obs"], noise: Float[Array, "batch dim"]
    ) -> Float[Array, "batch dim"]:
        return clip_action(sample_ode(self.velocity, observation, noise, self.integrator))

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        behaviour_key, matching_key = jax.random.split(key)
        cloning, metrics = self.behaviour.loss(critic, batch, behaviour_key)
        matching, own = self.matching_loss(critic.target, batch.observations, matching_key)
        return cloning + matching, (*metrics, own)

    def advance(self) -> Self:
        return eqx.tree_at(
            lambda policy: (policy.behaviour_pair, policy.inverse_temperature),
            self,
            (self.behaviour_pair.advance(), self.inverse_temperature.advance()),
        )

    def matching_loss(
        self, critic: AbstractCritic, observation: Float[Array, "batch obs"], key: Key
    ) -> tuple[Scalar, AdjointMatchingMetrics]:
        base = frozen(self.behaviour_pair.target.velocity)
        states = self._sample_path(base, observation, key)
        tau = jax.lax.stop_gradient(self.inverse_temperature.value())
        boundary = self._boundary(critic, observation, states[-1], tau)
        adjoints = lean_adjoint(base, observation, states[:-1], boundary, self.integrator)
        times = self.integrator.times[:-1]
        sigma = MemorylessSchedule(self.integrator.step_size).sigma(times)
        loss = adjoint_matching_loss(
            self.velocity, base, observation, states[:-1], adjoints, times, sigma
        )
        size = jnp.abs(boundary)
        start = jnp.mean(jnp.abs(adjoints[0]))
        return loss, AdjointMatchingMetrics(
            loss, jnp.mean(size), jnp.std(size), jnp.max(size), start, tau
        )

    def _sample_path(
        self, base: AbstractVelocityField, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "steps+1 batch dim"]:
        start_key, path_key = jax.random.split(key)
        step_keys = jax.random.split(path_key, self.integrator.steps - 1)
        step_noise = jax.vmap(lambda step_key: self.noise(observation, step_key))(step_keys)
        return sample_memoryless_sde(
            frozen(self.velocity),
            base,
            observation,
            self.noise(observation, start_key),
            step_noise,
            self.integrator,
        )

    @staticmethod
    def _boundary(
        critic: AbstractCritic,
        observation: Float[Array, "batch obs"],
        action: Float[Array, "batch dim"],
        tau: Scalar,
    ) -> Float[Array, "batch dim"]:
        """g_1 = -tau grad_a mean_k Q_k(s, clip a), row by row."""
        # The gradient of the batch mean is 1/B of each row's own gradient.
        scale = -tau * action.shape[0]
        return scale * jax.grad(lambda a: mean_value(critic, observation, a))(action)
