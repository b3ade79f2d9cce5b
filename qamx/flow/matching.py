"""The flow-matching objective."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Scalar
from qamx.flow.interpolant import interpolate
from qamx.nn import AbstractVelocityField


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

    **Arguments:** `data` is x_1, `noise` x_0 ~ N(0, I), `time` t ~ U[0, 1]; `weight` drops (0) or
    weighs each row, and the mean is over all rows.

    **Source:** Lipman et al., arXiv 2210.02747, eq. 23.
    """
    x_t, target = interpolate(noise, data, time)
    error = jnp.mean((velocity(observation, x_t, time) - target) ** 2, axis=-1)
    return jnp.mean(weight * error)
