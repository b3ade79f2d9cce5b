"""The precision of matrix products, chosen where a program is traced."""

import contextlib
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Precision: TypeAlias = Literal["tf32", "float32", "bfloat16"]
"""TF32 inputs where the hardware has them, float32 throughout, or bfloat16 inputs."""

_OPTION, _BFLOAT16 = "jax_default_matmul_precision", "bfloat16"


def matmul_precision(
    precision: Precision, platform: str | None = None
) -> contextlib.AbstractContextManager[object]:
    """The context in which a function is traced so that its matrix products have this precision.

    Sums are accumulated, and parameters kept, in float32 whatever the inputs are rounded to. A
    CPU has no TF32: `tf32` and `float32` leave a program on it as it is. `bfloat16` is of the
    layers' products (`product`); other products stay at the backend's default.

    **Arguments:** `platform` is what the program will run on (default: JAX's backend here).
    """
    if precision == "bfloat16":
        return jax.default_matmul_precision(_BFLOAT16)
    if (platform or jax.default_backend()) == "cpu":
        return contextlib.nullcontext()
    return jax.default_matmul_precision("highest" if precision == "float32" else "tensorfloat32")


def product(
    x: Float[Array, "*batch in"], kernel: Float[Array, "in out"]
) -> Float[Array, "*batch out"]:
    """x @ kernel, in the precision of the context (which is part of JAX's cache keys)."""
    if getattr(jax.config, _OPTION) == _BFLOAT16:
        return _rounded(x, kernel)
    return x @ kernel


# JAX knows bfloat16 inputs as an algorithm of float32 products too (`BF16_BF16_F32`), but its CPU
# backend then multiplies no faster, and refuses some shapes. Its own derivative of a product of
# bfloat16 arrays would round gradients to bfloat16 and multiply arrays of two types, hence the
# rule below, made of the same product.


@jax.custom_vjp
def _rounded(x: Array, kernel: Array) -> Array:
    return jnp.matmul(
        x.astype(jnp.bfloat16),
        kernel.astype(jnp.bfloat16),
        precision=jax.lax.Precision.DEFAULT,
        preferred_element_type=jnp.float32,
    )


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _rounded(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, kernel = saved
    rows, slopes = x.reshape(-1, x.shape[-1]), slope.reshape(-1, slope.shape[-1])
    columns = rows.astype(jnp.bfloat16).T
    if jax.default_backend() == "cpu":
        # Its library takes bfloat16 only where the left factor's rows lie together in memory;
        # the barrier keeps the compiler from multiplying by a transposed view instead.
        columns = jax.lax.optimization_barrier(columns)
    return _rounded(slope, kernel.T), _rounded(columns, slopes)


_rounded.defvjp(_forward, _backward)
