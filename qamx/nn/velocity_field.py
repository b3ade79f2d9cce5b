"""Velocity fields v(s, x, t) of conditional flows."""

from abc import abstractmethod
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Key
from qamx.nn.mlp import MLP


class AbstractVelocityField(eqx.Module):
    """A velocity dx/dt = v(s, x, t) on flow time t in [0, 1] (0 is noise, 1 is data)."""

    @abstractmethod
    def __call__(
        self,
        observation: Float[Array, "*batch obs"],
        x: Float[Array, "*batch dim"],
        t: Float[Array, "*#batch"],
    ) -> Float[Array, "*batch dim"]:
        """The velocity at `x` and flow time `t`, which broadcasts against the batch axes."""


class VelocityField(AbstractVelocityField):
    """An MLP on [s, x, t]."""

    mlp: MLP

    def __init__(
        self,
        observation_size: int,
        dim: int,
        hidden: Sequence[int] = (512, 512, 512, 512),
        *,
        layer_norm: bool = False,
        key: Key,
    ):
        self.mlp = MLP(observation_size + dim + 1, hidden, dim, layer_norm=layer_norm, key=key)

    def __call__(
        self,
        observation: Float[Array, "*batch obs"],
        x: Float[Array, "*batch dim"],
        t: Float[Array, "*#batch"],
    ) -> Float[Array, "*batch dim"]:
        batch = x.shape[:-1]
        time = jnp.broadcast_to(t, batch)[..., None]
        observation = jnp.broadcast_to(observation, (*batch, observation.shape[-1]))
        return self.mlp(jnp.concatenate([observation, x, time], axis=-1))
