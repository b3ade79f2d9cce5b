"""Deterministic actors."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Key
from qamx.nn.mlp import Linear, Trunk


class DeterministicActor(eqx.Module):
    """An MLP trunk with a tanh head that starts near zero (Tarasov et al., arXiv 2305.09836)."""

    trunk: Trunk
    mean: Linear

    def __init__(
        self,
        in_size: int,
        dim: int,
        hidden: Sequence[int] = (512, 512, 512, 512),
        *,
        layer_norm: bool = False,
        key: Key,
    ):
        trunk_key, mean_key = jax.random.split(key)
        self.trunk = Trunk(in_size, hidden, layer_norm=layer_norm, key=trunk_key)
        self.mean = Linear(hidden[-1], dim, scale=0.01, key=mean_key)

    def __call__(self, inputs: Float[Array, "*batch in"]) -> Float[Array, "*batch dim"]:
        return jnp.tanh(self.mean(self.trunk(inputs)))
