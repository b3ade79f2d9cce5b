"""The learned temperature of entropy-regularised policies."""

import equinox as eqx
import jax.numpy as jnp

from qamx._types import Scalar


class Temperature(eqx.Module):
    """alpha = exp(log_value), positive by construction; starts at `initial`."""

    log_value: Scalar

    def __init__(self, initial: float = 1.0):
        self.log_value = jnp.log(jnp.asarray(initial, jnp.float32))

    def __call__(self) -> Scalar:
        return jnp.exp(self.log_value)
