"""Multi-layer perceptrons over any leading batch axes."""

from collections.abc import Callable, Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Key
from qamx.nn.precision import product, recomputed

Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The tanh approximation of GELU (Hendrycks and Gimpel, arXiv 1606.08415)."""
    return jax.nn.gelu(x, approximate=True)


class Linear(eqx.Module):
    """An affine map with a Glorot-uniform kernel and a zero bias (Glorot and Bengio, 2010).

    **Arguments:** `scale` multiplies the variance of the initial kernel.
    """

    kernel: Float[Array, "in out"]
    bias: Float[Array, " out"]

    def __init__(self, in_size: int, out_size: int, *, scale: float = 1.0, key: Key):
        glorot = jax.nn.initializers.variance_scaling(scale, "fan_avg", "uniform")
        self.kernel = glorot(key, (in_size, out_size))
        self.bias = jnp.zeros(out_size)

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        return product(x, self.kernel) + self.bias


class LayerNorm(eqx.Module):
    """Normalises the last axis to mean 0 and variance 1, then scales and shifts.

    **Source:** Ba et al., arXiv 1607.06450.
    """

    scale: Float[Array, " size"]
    bias: Float[Array, " size"]
    epsilon: float = eqx.field(static=True, default=1e-6)

    def __init__(self, size: int):
        self.scale = jnp.ones(size)
        self.bias = jnp.zeros(size)

    def __call__(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        mean = jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.var(x, axis=-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + self.epsilon) * self.scale + self.bias


class Trunk(eqx.Module):
    """Hidden layers, each a linear map, an activation and optionally a layer norm."""

    layers: tuple[Linear, ...]
    norms: tuple[LayerNorm, ...]
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        hidden: Sequence[int],
        *,
        layer_norm: bool = False,
        activation: Activation = gelu,
        key: Key,
    ):
        sizes = [in_size, *hidden]
        keys = jax.random.split(key, len(hidden))
        self.layers = tuple(
            Linear(a, b, key=k) for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=True)
        )
        self.norms = tuple(LayerNorm(size) for size in hidden) if layer_norm else ()
        self.activation = activation

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch hidden"]:
        for i, layer in enumerate(self.layers):
            x = recomputed(partial(self._activate, i))(product(x, layer.kernel, hidden=True))
        return x

    def _activate(self, i: int, x: Float[Array, "*batch hidden"]) -> Float[Array, "*batch hidden"]:
        x = self.activation(x + self.layers[i].bias)
        return self.norms[i](x) if self.norms else x


class MLP(eqx.Module):
    """A trunk with a linear head.

    **Arguments:** `hidden` are the widths of the hidden layers, `layer_norm` adds a layer norm
    after each activation.
    """

    trunk: Trunk
    head: Linear

    def __init__(
        self,
        in_size: int,
        hidden: Sequence[int],
        out_size: int,
        *,
        layer_norm: bool = False,
        activation: Activation = gelu,
        key: Key,
    ):
        if not hidden:
            raise ValueError("`hidden` is empty: name at least one layer width, such as (512, 512)")
        trunk_key, head_key = jax.random.split(key)
        self.trunk = Trunk(
            in_size, hidden, layer_norm=layer_norm, activation=activation, key=trunk_key
        )
        self.head = Linear(hidden[-1], out_size, key=head_key)

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        return self.head(self.trunk(x))
