"""Schedules of the inverse temperature tau in pi_b(a|s) exp(tau Q(s, a))."""

from abc import abstractmethod
from typing import Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from qamx._types import Scalar


class AbstractInverseTemperature(eqx.Module):
    """An inverse temperature that may change from update to update."""

    @abstractmethod
    def value(self) -> Scalar:
        """tau for the present update."""

    @abstractmethod
    def advance(self) -> Self:
        """The schedule after one update."""


class Constant(AbstractInverseTemperature):
    """The same tau throughout.

    **Raises:** `ValueError` if tau is not positive.
    """

    tau: float

    def __check_init__(self):
        if not self.tau > 0.0:
            raise ValueError(f"the inverse temperature is positive; found {self.tau}, try 1.0")

    def value(self) -> Scalar:
        return jnp.asarray(self.tau)

    def advance(self) -> Self:
        return self


class Linear(AbstractInverseTemperature):
    """From `start` to `stop` in equal steps over `updates` updates, `stop` from then on.

    **Raises:** `ValueError` if an end is negative or `updates` is not positive.
    """

    start: float
    stop: float
    updates: int
    count: Int[Array, ""]

    def __init__(self, start: float, stop: float, updates: int):
        if min(start, stop) < 0.0:
            raise ValueError(f"inverse temperatures are at least 0; found {start} to {stop}")
        if updates < 1:
            raise ValueError(f"`updates` is at least 1; found {updates}")
        self.start, self.stop, self.updates = start, stop, updates
        self.count = jnp.zeros((), jnp.int32)

    def value(self) -> Scalar:
        done = jnp.minimum(self.count / self.updates, 1.0)
        return self.start + (self.stop - self.start) * done

    def advance(self) -> Self:
        return eqx.tree_at(lambda schedule: schedule.count, self, self.count + 1)
