"""Velocity fields and noise predictors."""

from abc import abstractmethod
from collections.abc import Sequence

import equinox as eqx
import jax
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
        hidden: Sequence[int],
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


class FourierFeatures(eqx.Module):
    r"""Fourier features of flow time with learned frequencies.

    \(\cos 2\pi t w\) and \(\sin 2\pi t w\), the frequencies w at first N(0, 0.2^2).

    **Source:** Tancik et al., arXiv 2006.10739; learned as in Li et al., arXiv 2106.02795.
    """

    frequencies: Float[Array, "half 1"]

    def __init__(self, size: int, *, key: Key):
        self.frequencies = 0.2 * jax.random.normal(key, (size // 2, 1))

    def __call__(self, t: Float[Array, "*batch"]) -> Float[Array, "*batch size"]:
        angle = 2.0 * jnp.pi * t[..., None] @ self.frequencies.T
        return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class NoisePredictor(eqx.Module):
    """An MLP on [x, s, embedded step], all activations mish.

    **Arguments:** `time_size` counts the Fourier features of the step index.
    """

    features: FourierFeatures
    embedding: MLP
    mlp: MLP

    def __init__(
        self,
        observation_size: int,
        dim: int,
        hidden: Sequence[int],
        *,
        time_size: int = 64,
        layer_norm: bool = False,
        key: Key,
    ):
        features_key, embedding_key, mlp_key = jax.random.split(key, 3)
        self.features = FourierFeatures(time_size, key=features_key)
        self.embedding = MLP(
            time_size, hidden[:-1] or hidden, hidden[-1], activation=jax.nn.mish, key=embedding_key
        )
        self.mlp = MLP(
            dim + observation_size + hidden[-1],
            hidden,
            dim,
            layer_norm=layer_norm,
            activation=jax.nn.mish,
            key=mlp_key,
        )

    def __call__(
        self,
        observation: Float[Array, "*batch obs"],
        x: Float[Array, "*batch dim"],
        step: Float[Array, "*batch"],
    ) -> Float[Array, "*batch dim"]:
        """The predicted noise in `x`, the action after `step` noising steps."""
        embedded = self.embedding(self.features(step))
        return self.mlp(jnp.concatenate([x, observation, embedded], axis=-1))
