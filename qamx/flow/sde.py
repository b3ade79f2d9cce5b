"""The memoryless SDE: its noise schedule, its sampler, and the cost of its paths."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from qamx.flow.integrator import Integrator
from qamx.flow.matching import ode_term
from qamx.nn import AbstractVelocityField


class MemorylessSchedule(eqx.Module):
    r"""The diffusion that makes the start and the end of the SDE independent.

    In continuous time \(\sigma_t = \sqrt{2(1-t)/t}\); on a grid of step h, t is shifted by h
    as a divisor, \(\sigma_t = \sqrt{2(1-t+h)/(t+h)}\), so that \(\sigma_0\) is finite.

    **Source:** Domingo-Enrich et al., arXiv 2409.08861, section 4 and appendix H.
    """

    step_size: float = eqx.field(static=True)

    def sigma(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The diffusion coefficient at flow time `t`."""
        h = self.step_size
        return jnp.sqrt(2.0 * (1.0 - t + h) / (t + h))


class GridIncrements(diffrax.AbstractPath[Float[Array, "..."]]):
    """A Brownian path given by its increments over the steps of a uniform grid.

    **Arguments:** `increments[i]` is W(t_{i+1}) - W(t_i) ~ N(0, h I), t_i = i h.
    """

    increments: Float[Array, "steps *shape"]
    step_size: float
    t0: float
    t1: float

    def __init__(self, increments: Float[Array, "steps *shape"], step_size: float):
        self.increments = increments
        self.step_size = step_size
        self.t0 = 0.0
        self.t1 = step_size * increments.shape[0]

    def evaluate(self, t0, t1=None, left=True):
        """The increment over the grid step that starts at `t0`."""
        index = jnp.round(jnp.asarray(t0) / self.step_size).astype(jnp.int32)
        return self.increments[index]


def memoryless_terms(
    velocity: AbstractVelocityField,
    observation: Float[Array, "batch obs"],
    schedule: MemorylessSchedule,
    brownian: diffrax.AbstractPath,
) -> diffrax.MultiTerm:
    r"""The memoryless SDE as Diffrax terms.

    $$dX = (2v(s, X, t) - X/(t+h))\,dt + \sigma_t\,dW$$

    The shift by h is part of the field, so the terms hold on the grid that `schedule` belongs to.
    """
    h = schedule.step_size

    def drift(t, x, args):
        return 2.0 * velocity(observation, x, t) - x / (t + h)

    def diffusion(t, x, args):
        identity = lx.IdentityLinearOperator(jax.eval_shape(lambda: x))
        return identity * schedule.sigma(t)

    return diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, brownian))


def sample_memoryless_sde(
    velocity: AbstractVelocityField,
    base: AbstractVelocityField,
    observation: Float[Array, "batch obs"],
    noise: Float[Array, "batch dim"],
    step_noise: Float[Array, "steps-1 batch dim"],
    integrator: Integrator,
) -> Float[Array, "steps+1 batch dim"]:
    r"""A path x_0, x_h, ..., x_1 of the memoryless SDE of `velocity`.

    $$x_{t+h} = x_t + h\Big(2v(s, x_t, t) - \frac{x_t}{t+h}\Big) + \sqrt h\,\sigma_t z$$

    for all steps but the last, which is a step of the ODE of `base`: noise added to the final
    state would not be removed again.

    **Arguments:** `noise` is x_0 ~ N(0, I), `step_noise[i]` the z ~ N(0, I) of step i.

    **Source:** Domingo-Enrich et al., arXiv 2409.08861, algorithm 1; Li and Levine,
    arXiv 2601.14234.
    """
    h, times = integrator.step_size, integrator.times
    path = noise[None]
    if integrator.steps > 1:
        brownian = GridIncrements(jnp.sqrt(h) * step_noise, h)
        terms = memoryless_terms(velocity, observation, MemorylessSchedule(h), brownian)
        path = integrator.path(terms, times[:-1], noise)
    last = integrator.end(ode_term(base, observation), times[-2:], path[-1])
    return jnp.concatenate([path, last[None]])
