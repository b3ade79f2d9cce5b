"""The precision of matrix products, chosen when a program is traced."""

import contextlib
from collections.abc import Callable
from functools import partial
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
    x: Float[Array, "*batch in"], kernel: Float[Array, "in out"], *, hidden: bool = False
) -> Float[Array, "*batch out"]:
    """x @ kernel, in the precision of the context (which is part of JAX's cache keys).

    **Arguments:** with `hidden`, the result is as `stored` keeps it.
    """
    if getattr(jax.config, _OPTION) == _BFLOAT16:
        return _rounded(x, kernel, jnp.bfloat16 if hidden and _stores_bfloat16() else jnp.float32)
    return x @ kernel


def stored(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """A hidden layer's output as it is kept for the next layer and for the gradient.

    With bfloat16 on an accelerator that is bfloat16, half the memory traffic, and so is its
    gradient. A CPU, which would compute it by conversions, keeps float32.
    """
    return x.astype(jnp.bfloat16) if _stores_bfloat16() else x


def recomputed(layer: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A layer's elementwise part, `stored`; what bfloat16 keeps for its gradient is its input.

    Kept in float32, the activation's and norm's intermediates would be four times as large.
    """

    def kept(x: Array) -> Array:
        return stored(layer(x))

    return jax.checkpoint(kept) if _stores_bfloat16() else kept


def _stores_bfloat16() -> bool:
    return getattr(jax.config, _OPTION) == _BFLOAT16 and target() != "cpu"


# JAX also has an algorithm of float32 products with bfloat16 inputs (`BF16_BF16_F32`), but its CPU
# backend then multiplies no faster, and refuses some shapes. The default derivative of a product of
# bfloat16 arrays would round gradients to bfloat16 and multiply arrays of two types, hence the
# rule below, which uses the same product.


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rounded(x: Array, kernel: Array, out: Any) -> Array:
    return _multiply(x, kernel, out)


def _multiply(x: Array, kernel: Array, out: Any) -> Array:
    return jnp.matmul(
        x.astype(jnp.bfloat16),
        kernel.astype(jnp.bfloat16),
        precision=jax.lax.Precision.DEFAULT,
        preferred_element_type=out,
    )


def _forward(x: Array, kernel: Array, out: Any) -> tuple[Array, tuple[Array, Array]]:
    return _rounded(x, kernel, out), (x, kernel)


def _backward(out: Any, saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, kernel = saved
    rows, slopes = x.reshape(-1, x.shape[-1]), slope.reshape(-1, slope.shape[-1])
    columns = rows.astype(jnp.bfloat16).T
    if target() == "cpu":
        # The library takes bfloat16 only if the left factor's rows are contiguous in memory;
        # the barrier keeps the compiler from multiplying by a transposed view instead.
        columns = jax.lax.optimization_barrier(columns)
    return (
        _rounded(slope, kernel.T, x.dtype),  # bfloat16 for what a hidden layer keeps
        _rounded(columns, slopes, kernel.dtype),
    )


_rounded.defvjp(_forward, _backward)
