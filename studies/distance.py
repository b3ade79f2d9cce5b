"""The energy distance between two samples."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Scalar

ROWS = 256
"""Rows of the distance matrix that are in memory at a time."""


@jax.jit
def mean_distance(x: Float[Array, "n dim"], y: Float[Array, "m dim"]) -> Scalar:
    """The mean Euclidean distance of all pairs, n a multiple of `ROWS`."""

    def rows(block: Float[Array, "rows dim"]) -> Scalar:
        squares = jnp.sum((block[:, None] - y[None]) ** 2, axis=-1)
        return jnp.mean(jnp.sqrt(squares))

    return jnp.mean(jax.lax.map(rows, x.reshape(-1, ROWS, x.shape[-1])))


@dataclass(frozen=True)
class Sample:
    """Draws of a law, and how far apart they lie, computed once.

    **Arguments:** `points`, as many as a multiple of 256.
    """

    points: Float[Array, "n dim"]

    @cached_property
    def spread(self) -> float:
        """E|X-X'|, each point paired with itself too."""
        return float(mean_distance(self.points, self.points))


def energy_distance(x: Sample, y: Sample) -> float:
    r"""\(\sqrt{2\,\mathbb E|X-Y|-\mathbb E|X-X'|-\mathbb E|Y-Y'|}\).

    It is 0 only for equal laws. Each point is paired with itself too, so that the result is
    real, and that of two samples of one law is small but not 0: of the order of
    \(\sqrt{(1/n+1/m)\,\mathbb E|X-X'|}\).

    **Source:** Székely and Rizzo, Energy statistics, 2013.
    """
    square = 2.0 * float(mean_distance(x.points, y.points)) - x.spread - y.spread
    return max(square, 0.0) ** 0.5
