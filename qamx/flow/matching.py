"""Flow matching: interpolant, loss, and the sampler of the ODE."""

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Scalar
from qamx.flow.integrator import Integrator
from qamx.nn import AbstractVelocityField


def interpolate(
    noise: Float[Array, "*batch dim"],
    data: Float[Array, "*batch dim"],
    t: Float[Array, "*#batch"],
) -> tuple[Float[Array, "*batch dim"], Float[Array, "*batch dim"]]:
    """The point x_t = (1 - t) x_0 + t x_1 and its velocity x_1 - x_0.

    **Source:** Lipman et al., arXiv 2210.02747, section 4.
    """
    t = t[..., None]
    return (1.0 - t) * noise + t * data, data - noise


def flow_matching_loss(
    velocity: AbstractVelocityField,
    observation: Float[Array, "batch obs"],
    data: Float[Array, "batch dim"],
    noise: Float[Array, "batch dim"],
    time: Float[Array, " batch"],
    weight: Float[Array, " batch"],
) -> Scalar:
    r"""Conditional flow matching, the regression of a velocity onto straight lines.

    $$\mathbb{E}\big[w\,\tfrac1d\lVert v(s, x_t, t) - (x_1 - x_0)\rVert^2\big],
      \qquad x_t = (1 - t)x_0 + t x_1$$

    **Arguments:** `data` is x_1, `noise` x_0 ~ N(0, I), `time` t ~ U[0, 1]; `weight` weights each
    row (0 drops it), and the mean is over all rows.

    **Source:** Lipman et al., arXiv 2210.02747, eq. 23.
    """
    x_t, target = interpolate(noise, data, time)
    error = jnp.mean((velocity(observation, x_t, time) - target) ** 2, axis=-1)
    return jnp.mean(weight * error)


def ode_term(
    velocity: AbstractVelocityField, observation: Float[Array, "*batch obs"]
) -> diffrax.ODETerm:
    """dx/dt = v(s, x, t) as a Diffrax term."""
    return diffrax.ODETerm(lambda t, x, args: velocity(observation, x, jnp.asarray(t)))


def sample_ode(
    velocity: AbstractVelocityField,
    observation: Float[Array, "*batch obs"],
    noise: Float[Array, "*batch dim"],
    integrator: Integrator,
) -> Float[Array, "*batch dim"]:
    """Transports `noise` at t = 0 along the velocity to t = 1 (not clipped).

    With the default Euler solver: x_{i+1} = x_i + h v(s, x_i, i/T).
    """
    return integrator.end(ode_term(velocity, observation), integrator.times, noise)
