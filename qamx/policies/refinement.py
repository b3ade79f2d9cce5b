"""A flow that refines the proposals of another one."""

from dataclasses import replace
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.flow import Integrator, gaussian_adjoint_target, interpolate, sample_ode
from qamx.nn import AbstractVelocityField
from qamx.policies.base import (
    AbstractDerivedPolicy,
    AbstractFlowPolicy,
    AbstractPolicy,
    BestOfN,
    Critic,
    PolicyStage,
    clip_action,
    row_gradient,
)
from qamx.rl import frozen


class RefinementMetrics(Metrics):
    """The loss of the regression, the entries of |g_1|, and the root mean square of y_1.

    The last is 1 at the reference N(0, I).
    """

    loss: Scalar
    boundary_mean: Scalar
    boundary_max: Scalar
    size: Scalar


class RefinementFlow(AbstractDerivedPolicy):
    r"""Refines the best of a flow's proposals by a second flow.

    It acts with clip(a + delta y): a is the best proposal, and y is drawn by the ODE of the second
    flow, given (s, a).

    The second flow is fine-tuned from N(0, I) by adjoint matching, whose target is known in closed
    form there (`qamx.flow.gaussian_adjoint_target`). With one proposal a, the end y_1 of its own
    ODE (frozen), \(y_t=ty_1+(1-t)\varepsilon\), \(\varepsilon\sim N(0, I)\), t ~ U[0, 1] and
    \(d=t^2+(1-t)^2\), it minimises

    $$\mathbb E\Big\lVert v(y_t, t\mid s, a)-\mathrm{sg}\Big(\frac{2t-1}d\,y_t
      +\frac{1-t}d\,\tau\delta\,\nabla_a\mathrm{mean}_k\bar Q_k\big(s,
      \mathrm{clip}(a+\delta y_1)\big)\Big)\Big\rVert^2$$

    (a sum over entries, the mean over the batch), so that for each proposal
    \(\pi(\Delta|s, a)\propto\exp(\tau Q(s, a+\Delta)-\lVert\Delta\rVert^2/2\delta^2)\),
    \(\Delta=\delta y\). The critic's backup refines a single proposal.

    **Arguments:** `base` proposes (frozen here, trained by its own loss), `refinement` is v on
    [s, a, y, t], `integrator` the grid of its ODE, `inverse_temperature` tau, `scale` delta,
    `proposals` are drawn for an action; the one of largest \(\min_kQ_k(s, a)\) is refined.

    **Raises:** `ValueError` if the scale or the inverse temperature is not positive, or for no
    proposal.

    **Source:** PReFlow (Ha, Lee and Park, arXiv 2609.36812).
    """

    base: AbstractFlowPolicy
    refinement: AbstractVelocityField
    integrator: Integrator
    inverse_temperature: float
    scale: float
    proposals: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if min(self.scale, self.inverse_temperature) <= 0.0 or self.proposals < 1:
            raise ValueError(
                "a refinement's scale and inverse temperature are positive, and there is at least "
                f"one proposal; found {self.scale}, {self.inverse_temperature}, {self.proposals}"
            )

    @property
    def proposer(self) -> AbstractPolicy:
        """The policy whose samples are refined when acting."""
        return self.base if self.proposals == 1 else BestOfN(self.base, self.proposals)

    def for_backup(self) -> Self:
        return replace(self, base=self.base.for_backup(), proposals=1)

    def sample(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        proposal_key, noise_key = jax.random.split(key)
        proposal = self.proposer.sample(critic, observation, proposal_key)
        noise = self.base.noise(observation, noise_key)
        return clip_action(proposal + self.scale * self._refine(observation, proposal, noise))

    def stages(self, critic: Critic) -> list[PolicyStage]:
        return [*self.proposer.stages(critic), self.own_stage("refined", critic)]

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        base_key, proposal_key, start_key, time_key, noise_key = jax.random.split(key, 5)
        base_loss, metrics = self.base.loss(critic, batch, base_key)
        observation = batch.observations
        proposal = frozen(self.base).sample(critic, observation, proposal_key)
        start = self.base.noise(observation, start_key)
        end = frozen(self)._refine(observation, proposal, start)

        def values(y: Array) -> Array:
            return critic.target(observation, clip_action(proposal + self.scale * y))

        # The gradient by y is delta times that by the action.
        boundary = -self.inverse_temperature * row_gradient(values, end)
        t = jax.random.uniform(time_key, observation.shape[:1])
        y_t, _ = interpolate(self.base.noise(observation, noise_key), end, t)
        target = gaussian_adjoint_target(y_t, boundary, t)
        context = jnp.concatenate([observation, proposal], axis=-1)
        error = self.refinement(context, y_t, t) - jax.lax.stop_gradient(target)
        loss = jnp.mean(jnp.sum(error**2, axis=-1))
        size, reach = jnp.abs(boundary), jnp.sqrt(jnp.mean(end**2))
        own = RefinementMetrics(loss, jnp.mean(size), jnp.max(size), reach)
        return base_loss + loss, (*metrics, own)

    def _refine(
        self,
        observation: Float[Array, "batch obs"],
        proposal: Float[Array, "batch dim"],
        noise: Float[Array, "batch dim"],
    ) -> Float[Array, "batch dim"]:
        """y_1, the end of the refinement's ODE from `noise`."""
        context = jnp.concatenate([observation, proposal], axis=-1)
        return sample_ode(self.refinement, context, noise, self.integrator)
