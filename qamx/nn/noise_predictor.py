"""Noise predictors eps(s, x_k, k) of diffusion policies."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Key
from qamx.nn.mlp import MLP


class FourierFeatures(eqx.Module):
    r"""\(\cos 2\pi t w\) and \(\sin 2\pi t w\) for learned frequencies w, at first N(0, 0.2^2).

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
        hidden: Sequence[int] = (512, 512, 512, 512),
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
