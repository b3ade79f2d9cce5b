"""The precision of matrix products, chosen when a program is traced."""

import contextlib
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._utils.backend import target

Precision: TypeAlias = Literal["tf32", "float32", "bfloat16"]
"""TF32 inputs where the hardware supports them, float32, or bfloat16 inputs."""

_OPTION, _BFLOAT16 = "jax_default_matmul_precision", "bfloat16"


def matmul_precision(
    precision: Precision, platform: str | None = None
) -> contextlib.AbstractContextManager[object]:
    """A context manager: functions traced inside it have matrix products of this precision.

    Sums are accumulated, and parameters, layer norms and losses kept, in float32 whatever the
    inputs are rounded to. A CPU has no TF32, so `tf32` and `float32` do not change its programs.
    `bfloat16` applies to the layers' products (`product`) and to what hidden layers keep
    (`stored`); other products keep the backend's default.

    **Arguments:** `platform` is the target platform (default: that of `target`).
    """
    if precision == "bfloat16":
        return jax.default_matmul_precision(_BFLOAT16)
    if (platform or target()) == "cpu":
        return contextlib.nullcontext()
    return jax.default_matmul_precision("highest" if precision == "float32" else "tensorfloat32")


def product(
    x: Float[Array, "*batch in"], kernel: Float[Array, "in out"]
) -> Float[Array, "*batch out"]:
    """x @ kernel, in the precision of the context (which is part of JAX's cache keys)."""
    if getattr(jax.config, _OPTION) == _BFLOAT16:
        return _rounded(x, kernel)
    return x @ kernel


def stored(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """A hidden layer's output as it is kept for the next layer and for the gradient.

    With bfloat16 on an accelerator that is bfloat16, half the memory traffic, and so is its
    gradient. A CPU, which would compute it by conversions, keeps float32.
    """
    rounds = getattr(jax.config, _OPTION) == _BFLOAT16 and target() != "cpu"
    return x.astype(jnp.bfloat16) if rounds else x


# JAX also has an algorithm of float32 products with bfloat16 inputs (`BF16_BF16_F32`), but its CPU
# backend then multiplies no faster, and refuses some shapes. The default derivative of a product of
# bfloat16 arrays would round gradients to bfloat16 and multiply arrays of two types, hence the
# rule below, which uses the same product.


@jax.custom_vjp
def _rounded(x: Array, kernel: Array) -> Array:
    return _multiply(x, kernel, jnp.float32)


def _multiply(x: Array, kernel: Array, out: Any) -> Array:
    return jnp.matmul(
        x.astype(jnp.bfloat16),
        kernel.astype(jnp.bfloat16),
        precision=jax.lax.Precision.DEFAULT,
        preferred_element_type=out,
    )


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _rounded(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, kernel = saved
    rows, slopes = x.reshape(-1, x.shape[-1]), slope.reshape(-1, slope.shape[-1])
    columns = rows.astype(jnp.bfloat16).T
    if target() == "cpu":
        # The library takes bfloat16 only if the left factor's rows are contiguous in memory;
        # the barrier keeps the compiler from multiplying by a transposed view instead.
        columns = jax.lax.optimization_barrier(columns)
    if x.dtype == jnp.bfloat16:  # the gradient of what a hidden layer keeps
        return _multiply(slope, kernel.T, x.dtype), _rounded(columns, slopes)
    return _rounded(slope, kernel.T), _rounded(columns, slopes)


_rounded.defvjp(_forward, _backward)
