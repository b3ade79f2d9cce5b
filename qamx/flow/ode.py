"""Sampling a flow by its ordinary differential equation."""

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx.flow.integrator import Integrator
from qamx.nn import AbstractVelocityField


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
