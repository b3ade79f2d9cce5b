"""The matrix products of a compiled function, counted and timed on their own."""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Product:
    """`batch` products of [m, k] by [k, n]."""

    batch: int
    m: int
    k: int
    n: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.batch * self.m * self.k * self.n


def count(function: Callable[..., Any], *arguments: Any) -> Counter[Product]:
    """Every matrix product that one call makes; loops of known length are counted in full."""
    found: Counter[Product] = Counter()
    _walk(jax.make_jaxpr(function)(*arguments).jaxpr, 1, found)
    return found


def _walk(jaxpr: Any, times: int, found: Counter[Product]) -> None:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            found[_product(equation)] += times
        inner = times * equation.params.get("length", 1)
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")
        ):
            nested = getattr(value, "jaxpr", value)
            if hasattr(nested, "eqns"):
                _walk(nested, inner, found)


def _product(equation: Any) -> Product:
    (contract_left, contract_right), (batch_left, batch_right) = equation.params[
        "dimension_numbers"
    ]
    left, right = (variable.aval.shape for variable in equation.invars)

    def size(shape: tuple[int, ...], axes: Any) -> int:
        return math.prod(shape[axis] for axis in axes)

    def rest(shape: tuple[int, ...], *used: Any) -> int:
        taken = {axis for axes in used for axis in axes}
        return math.prod(extent for axis, extent in enumerate(shape) if axis not in taken)

    return Product(
        size(left, batch_left),
        rest(left, contract_left, batch_left),
        size(left, contract_left),
        rest(right, contract_right, batch_right),
    )


def floor_seconds(products: Counter[Product], repeats: int = 20) -> float:
    """The time that the products take one after the other, each timed alone."""
    return sum(times * _seconds(product, repeats) for product, times in products.items())


def _seconds(product: Product, repeats: int, together: int = 16) -> float:
    # Several in one program, so that the cost of a call does not count.
    lefts = jnp.ones((together, product.batch, product.m, product.k))
    right = jnp.ones((product.batch, product.k, product.n))
    multiply = jax.jit(lambda lefts, right: jax.lax.map(lambda left: left @ right, lefts))
    return best_seconds(lambda: multiply(lefts, right), repeats) / together


def best_seconds(call: Callable[[], Any], repeats: int) -> float:
    """The shortest of several timed calls, after one that compiles."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return min(times)
