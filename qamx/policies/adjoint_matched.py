"""Flows fine-tuned from a behaviour flow on its memoryless SDE."""

from abc import abstractmethod
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
    path_kl,
    sample_memoryless_sde,
    sample_ode,
    velocity_change,
)
from qamx.nn import AbstractCritic, AbstractVelocityField
from qamx.policies.base import (
    AbstractDerivedFlow,
    Critic,
    PolicyStage,
    clip_action,
    flow_stage,
    row_gradient,
)
from qamx.policies.behaviour_flow import TargetBehaviourFlow
from qamx.rl import frozen, pessimistic_value
from qamx.schedules.inverse_temperature import AbstractInverseTemperature


class AbstractFineTunedFlow(AbstractDerivedFlow):
    """A flow fine-tuned by the critic, separate from its base; acts by its ODE.

    The base is frozen in fine-tuning, and trained by its own loss.
    """

    base: eqx.AbstractVar[TargetBehaviourFlow]
    velocity: eqx.AbstractVar[AbstractVelocityField]

    @abstractmethod
    def fine_tuning_loss(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> tuple[Scalar, Metrics]:
        """The objective of the velocity."""

    @property
    def integrator(self) -> Integrator:
        """The grid shared by all flows of the method."""
        return self.base.integrator

    def start_from(self, clone: AbstractVelocityField) -> Self:
        parts = self.base.start_from(clone), clone
        return eqx.tree_at(lambda policy: (policy.base, policy.velocity), self, parts)

    def transport(
        self, observation: Float[Array, "batch obs"], noise: Float[Array, "batch dim"]
    ) -> Float[Array, "batch dim"]:
        return clip_action(sample_ode(self.velocity, observation, noise, self.integrator))

    def stages(self, critic: Critic) -> list[PolicyStage]:
        own = flow_stage("fine-tuned flow", self.noise, self.velocity, self.integrator)
        return [*self.base.stages(critic), own]

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        base_key, fine_tuning_key = jax.random.split(key)
        cloning, metrics = self.base.loss(critic, batch, base_key)
        loss, own = self.fine_tuning_loss(critic, batch.observations, fine_tuning_key)
        return cloning + loss, (*metrics, own)

    def sample_path(
        self, velocity: AbstractVelocityField, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "steps+1 batch dim"]:
        """A path of the memoryless SDE of `velocity`, its last step by the base."""
        start_key, path_key = jax.random.split(key)
        step_keys = jax.random.split(path_key, self.integrator.steps - 1)
        step_noise = jax.vmap(lambda step_key: self.noise(observation, step_key))(step_keys)
        noise = self.noise(observation, start_key)
        base = frozen(self.base.velocity)
        return sample_memoryless_sde(
            velocity, base, observation, noise, step_noise, self.integrator
        )

    def change_along(
        self, observation: Float[Array, "batch obs"], states: Float[Array, "steps batch dim"]
    ) -> tuple[Float[Array, "steps batch dim"], Float[Array, " steps"]]:
        """v - v_base at the states of a path, and sigma_t of each."""
        times = self.integrator.times[: len(states)]
        base = frozen(self.base.velocity)
        change = velocity_change(self.velocity, base, observation, states, times)
        return change, MemorylessSchedule(self.integrator.step_size).sigma(times)


class AdjointMatchingMetrics(Metrics):
    """The loss of adjoint matching, the size of its adjoints, tau, and the path KL.

    Adjoints are the entries of |g_1| at the path's end and |g_0| at its start, means over batch and
    dimensions; the path KL is per environment step.
    """

    loss: Scalar
    boundary_mean: Scalar
    boundary_std: Scalar
    boundary_max: Scalar
    start_mean: Scalar
    inverse_temperature: Scalar
    path_kl: Scalar


class MatchedPaths(eqx.Module):
    """Paths of the memoryless SDE, and what adjoint matching regresses along them.

    `boundary` is g_1, `adjoints` g_0 to g_{1-h} (both times the price of control), `change`
    v - v_base at all states but the last.
    """

    states: Float[Array, "steps+1 batch dim"]
    adjoints: Float[Array, "steps batch dim"]
    boundary: Float[Array, "batch dim"]
    change: Float[Array, "steps batch dim"]
    sigma: Float[Array, " steps"]


class AdjointMatchedFlow(AbstractFineTunedFlow):
    r"""A flow fine-tuned towards \(\pi(a|s)\propto\pi_b(a|s)\exp(\tau Q(s, a))\).

    Paths are drawn from the memoryless SDE of the current velocity, the critic's gradient at
    their end is propagated back by the lean adjoint of the base flow, and the velocity is
    regressed onto it (`qamx.flow.adjoint_matching_loss`). The base flow is the Polyak target of
    the behaviour flow, and the critic the target ensemble's mean.

    **Arguments:** `base` is v_b with its target, `velocity` the flow that acts,
    `inverse_temperature` the schedule of tau, `horizon` the environment steps of a chunk.

    **Source:** Li and Levine, arXiv 2601.14234, algorithm 1.
    """

    base: TargetBehaviourFlow
    velocity: AbstractVelocityField
    inverse_temperature: AbstractInverseTemperature
    horizon: int = eqx.field(static=True, default=1)

    def fine_tuning_loss(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> tuple[Scalar, AdjointMatchingMetrics]:
        return self.matching_loss(critic.target, observation, key)

    def matching_loss(
        self, critic: AbstractCritic, observation: Float[Array, "batch obs"], key: Key
    ) -> tuple[Scalar, AdjointMatchingMetrics]:
        """Adjoint matching against a given critic.

        With the price L of control and the reward scale c, tau = c / L, the loss is that with
        sigma_t / sqrt(L) in place of sigma_t and the boundary -c grad Q.
        """
        tau, price = self._temperature()
        paths = self.draw_paths(critic, observation, key)
        change, sigma = paths.change, paths.sigma
        loss = adjoint_matching_loss(change, paths.adjoints, sigma / jnp.sqrt(price))
        kl = path_kl(change, sigma, self.integrator.step_size) / self.horizon
        size, start = jnp.abs(paths.boundary), jnp.mean(jnp.abs(paths.adjoints[0]))
        return loss, AdjointMatchingMetrics(
            loss, jnp.mean(size), jnp.std(size), jnp.max(size), start, tau, kl
        )

    def draw_paths(
        self, critic: AbstractCritic, observation: Float[Array, "batch obs"], key: Key
    ) -> MatchedPaths:
        """A path for each observation, and the velocity's regression targets along it."""
        tau, price = self._temperature()
        states = self.sample_path(frozen(self.velocity), observation, key)
        boundary = (
            -tau * price * row_gradient(lambda a: critic(observation, clip_action(a)), states[-1])
        )
        base = frozen(self.base.velocity)
        adjoints = lean_adjoint(base, observation, states[:-1], boundary, self.integrator)
        change, sigma = self.change_along(observation, states[:-1])
        return MatchedPaths(states, adjoints, boundary, change, sigma)

    def _temperature(self) -> tuple[Scalar, Scalar]:
        """tau and the price of control, without gradient."""
        schedule = self.inverse_temperature
        return jax.lax.stop_gradient((schedule.value(), schedule.control_price()))

    def advance(self, metrics: tuple[Metrics, ...]) -> Self:
        own = next(record for record in metrics if isinstance(record, AdjointMatchingMetrics))
        parts = self.base.advance(metrics), self.inverse_temperature.advance(own.path_kl)
        return eqx.tree_at(lambda policy: (policy.base, policy.inverse_temperature), self, parts)


class BackpropagatedFlowMetrics(Metrics):
    """The loss of the fine-tuned flow, and its control cost."""

    loss: Scalar
    control_cost: Scalar


class BackpropagatedFlow(AbstractFineTunedFlow):
    r"""A flow fine-tuned by backpropagation through its whole memoryless SDE.

    It is fine-tuned towards \(\pi_b\exp(\tau Q)\) ("basic adjoint matching") by the loss

    $$-\tau\,\mathbb E\,(\mathrm{mean}_k - \rho\,\mathrm{std}_k)Q_k(s, x_1)
      + \mathbb E\sum_{t<1-h}\frac{2}{\sigma_t^2}\lVert v - v_{base}\rVert^2$$

    The published values of tau assume that the control cost has no factor h.

    **Arguments:** as `AdjointMatchedFlow`; `pessimism` is rho.

    **Source:** Li and Levine, arXiv 2601.14234, the BAM baseline.
    """

    base: TargetBehaviourFlow
    velocity: AbstractVelocityField
    inverse_temperature: float
    pessimism: float

    def fine_tuning_loss(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> tuple[Scalar, BackpropagatedFlowMetrics]:
        states = self.sample_path(self.velocity, observation, key)
        change, sigma = self.change_along(observation, states[:-2])
        cost = path_kl(change, sigma, step_size=1.0)
        value = pessimistic_value(critic.online(observation, states[-1]), self.pessimism)
        loss = cost - self.inverse_temperature * jnp.mean(value)
        return loss, BackpropagatedFlowMetrics(loss, cost)
