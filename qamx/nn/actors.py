"""Actors: deterministic, Gaussian, and the entropy temperature."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Key, Scalar
from qamx.nn.mlp import Linear, Trunk


class DeterministicActor(eqx.Module):
    """An MLP trunk with a tanh head that starts near zero (Tarasov et al., arXiv 2305.09836)."""

    trunk: Trunk
    mean: Linear

    def __init__(
        self,
        in_size: int,
        dim: int,
        hidden: Sequence[int],
        *,
        layer_norm: bool = False,
        key: Key,
    ):
        trunk_key, mean_key = jax.random.split(key)
        self.trunk = Trunk(in_size, hidden, layer_norm=layer_norm, key=trunk_key)
        self.mean = Linear(hidden[-1], dim, scale=0.01, key=mean_key)

    def __call__(self, inputs: Float[Array, "*batch in"]) -> Float[Array, "*batch dim"]:
        return jnp.tanh(self.mean(self.trunk(inputs)))


LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class TanhNormal(eqx.Module):
    """The law of tanh(m + sigma z), z ~ N(0, I) (Haarnoja et al., arXiv 1801.01290, app. C)."""

    mean: Float[Array, "*batch dim"]
    log_std: Float[Array, "*batch dim"]

    def sample_and_log_prob(
        self, noise: Float[Array, "*batch dim"]
    ) -> tuple[Float[Array, "*batch dim"], Float[Array, "*batch"]]:
        """The sample for `noise` ~ N(0, I), and its log density."""
        pre_tanh = self.mean + jnp.exp(self.log_std) * noise
        return jnp.tanh(pre_tanh), self._log_prob(pre_tanh, noise)

    def log_prob(self, action: Float[Array, "*batch dim"]) -> Float[Array, "*batch"]:
        """The log density at `action`, whose entries are strictly inside (-1, 1)."""
        pre_tanh = jnp.arctanh(action)
        return self._log_prob(pre_tanh, (pre_tanh - self.mean) / jnp.exp(self.log_std))

    def _log_prob(
        self, pre_tanh: Float[Array, "*batch dim"], noise: Float[Array, "*batch dim"]
    ) -> Float[Array, "*batch"]:
        normal = -0.5 * (noise**2 + jnp.log(2 * jnp.pi)) - self.log_std
        # log(1 - tanh(x)^2), in a form without cancellation for large |x|.
        log_slope = 2.0 * (jnp.log(2.0) - pre_tanh - jax.nn.softplus(-2.0 * pre_tanh))
        return jnp.sum(normal - log_slope, axis=-1)


class GaussianActor(eqx.Module):
    """An MLP trunk with linear heads for the mean and the log standard deviation."""

    trunk: Trunk
    mean: Linear
    log_std: Linear

    def __init__(
        self,
        in_size: int,
        dim: int,
        hidden: Sequence[int],
        *,
        layer_norm: bool = False,
        key: Key,
    ):
        trunk_key, mean_key, log_std_key = jax.random.split(key, 3)
        self.trunk = Trunk(in_size, hidden, layer_norm=layer_norm, key=trunk_key)
        self.mean = Linear(hidden[-1], dim, key=mean_key)
        self.log_std = Linear(hidden[-1], dim, key=log_std_key)

    def __call__(self, inputs: Float[Array, "*batch in"]) -> TanhNormal:
        features = self.trunk(inputs)
        log_std = jnp.clip(self.log_std(features), LOG_STD_MIN, LOG_STD_MAX)
        return TanhNormal(self.mean(features), log_std)


class Temperature(eqx.Module):
    """alpha = exp(log_value), positive by construction; starts at `initial`."""

    log_value: Scalar

    def __init__(self, initial: float = 1.0):
        self.log_value = jnp.log(jnp.asarray(initial, jnp.float32))

    def __call__(self) -> Scalar:
        return jnp.exp(self.log_value)
