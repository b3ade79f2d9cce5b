"""Matrix products of a function: their count, and a lower bound of their time."""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval


@dataclass(frozen=True)
class Product:
    """`batch` products of [m, k] by [k, n] with entries of the type `inputs`."""

    batch: int
    m: int
    k: int
    n: int
    inputs: str = "float32"

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.batch * self.m * self.k * self.n


def count(function: Callable[..., Any], *arguments: Any) -> Counter[Product]:
    """The matrix products of a call, loops of known length in full.

    **Raises:** `ValueError` for products inside a loop whose length is known at run time only.
    """
    products: Counter[Product] = Counter()
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    _walk(needed, 1, products)
    return products


def flops(products: Counter[Product]) -> int:
    """Multiplications and additions of all products."""
    return sum(product.flops * times for product, times in products.items())


def _walk(jaxpr: Any, times: int, products: Counter[Product]) -> None:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            products[_product(equation)] += times
        inner = times * equation.params.get("length", 1)
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")
        ):
            nested = getattr(value, "jaxpr", value)
            if hasattr(nested, "eqns"):
                _walk(nested, inner, inside := Counter())
                if inside and equation.primitive.name == "while":
                    raise ValueError("a loop without a known length multiplies matrices; use scan")
                products.update(inside)


def _product(equation: Any) -> Product:
    contracted, batched = equation.params["dimension_numbers"]
    left, right = (variable.aval.shape for variable in equation.invars)
    m, n = (
        math.prod(size for axis, size in enumerate(shape) if axis not in (*summed, *mapped))
        for shape, summed, mapped in zip((left, right), contracted, batched, strict=True)
    )
    batch, k = (math.prod(left[axis] for axis in axes) for axes in (batched[0], contracted[0]))
    return Product(batch, m, k, n, equation.invars[0].aval.dtype.name)


class MatmulLowerBound:
    """The sum of the products' times, each timed alone.

    The shortest time of all rounds counts for each product; on a shared machine, take rounds in
    turn with the compared measurement.
    """

    TOGETHER = 8
    """Products in one timed program, to hide the cost of a call."""

    def __init__(self, products: Counter[Product]):
        self._products = products
        self._calls = {product: _call(product, self.TOGETHER) for product in products}
        self._best = dict.fromkeys(products, float("inf"))

    def round(self) -> None:
        """Times every product once more."""
        for product, call in self._calls.items():
            seconds = elapsed(call) / self.TOGETHER
            self._best[product] = min(self._best[product], seconds)

    @property
    def seconds(self) -> float:
        """The sum of the shortest times so far."""
        return sum(times * self._best[product] for product, times in self._products.items())


def _call(product: Product, together: int) -> Callable[[], Any]:
    lefts = jnp.ones((together, product.batch, product.m, product.k), product.inputs)
    right = jnp.ones((product.batch, product.k, product.n), product.inputs)

    @jax.jit
    def multiply(lefts: jax.Array, right: jax.Array) -> jax.Array:
        matmul = partial(jnp.matmul, b=right, preferred_element_type=jnp.float32)
        return jax.lax.map(matmul, lefts)

    jax.block_until_ready(multiply(lefts, right))
    return lambda: multiply(lefts, right)


def elapsed(call: Callable[[], Any]) -> float:
    """Seconds until the result of `call` is ready."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began
