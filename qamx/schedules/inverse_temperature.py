"""Schedules of the inverse temperature tau in pi_b(a|s) exp(tau Q(s, a))."""

from abc import abstractmethod
from numbers import Real
from typing import Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from qamx._types import Scalar
from qamx._utils.defaults import KL_SCALE
from qamx.rl import Fixed


class AbstractInverseTemperature(eqx.Module):
    """An inverse temperature that may change with each update."""

    @abstractmethod
    def value(self) -> Scalar:
        """tau for the current update."""

    def control_price(self) -> Scalar:
        """The price L of control in the objective, 1 unless a schedule sets it.

        tau = c / L is the same for all scales c of the reward; L scales the loss.
        """
        return jnp.ones(())

    @abstractmethod
    def advance(self, path_kl: Scalar) -> Self:
        """The schedule after one update; `path_kl` is the divergence of the policy's paths from
        its base's in that update, in nats per environment step."""


class Constant(AbstractInverseTemperature):
    """A constant tau.

    **Raises:** `ValueError` if tau is not positive.
    """

    tau: float

    def __check_init__(self):
        if not self.tau > 0.0:
            raise ValueError(f"the inverse temperature is positive; found {self.tau}, try 1.0")

    def value(self) -> Scalar:
        return jnp.asarray(self.tau)

    def advance(self, path_kl: Scalar) -> Self:
        return self


def as_schedule(tau: AbstractInverseTemperature | float) -> AbstractInverseTemperature:
    """A schedule as it is, and a number as a constant one.

    **Raises:** `TypeError` for anything else, `ValueError` for a number that is not positive.
    """
    if isinstance(tau, AbstractInverseTemperature):
        return tau
    if isinstance(tau, Real) and not isinstance(tau, bool):
        return Constant(float(tau))
    raise TypeError(
        f"inverse_temperature: found {tau!r}; write a number, e.g. 3.0, or a schedule of "
        "qamx.schedules, e.g. LinearSchedule(0.0, 3.0, 100_000)"
    )


class LinearSchedule(AbstractInverseTemperature):
    """A linear ramp from `start` to `stop` over `updates` updates, then constant.

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

    def advance(self, path_kl: Scalar) -> Self:
        return eqx.tree_at(lambda schedule: schedule.count, self, self.count + 1)


class TrustRegion(AbstractInverseTemperature):
    r"""Keeps the divergence of the policy's paths from its base's near a budget.

    The price of control is \(L=c\lambda\) at a reward of scale 1, so that tau = 1/L. The dual
    variable follows a moving average K of the measured divergence, clipped at twice the budget b:

    $$K\leftarrow(1-\beta)K+\beta\min(\mathrm{KL}, 2b),\qquad
      \lambda\leftarrow\mathrm{clip}(\lambda+\eta(K-b),\ 0.01,\ 100)$$

    **Arguments:** `kl_budget` is b in nats per environment step, `scale` c, `rate` eta,
    `average_rate` beta.

    **Raises:** `ValueError` if a value is not positive.

    **Source:** TRQAM (Dong et al., arXiv 2605.27079).
    """

    kl_budget: float
    scale: float
    rate: float
    average_rate: float
    price: Fixed[Scalar]
    average: Fixed[Scalar]

    def __init__(
        self,
        kl_budget: float,
        scale: float = KL_SCALE,
        rate: float = 0.01,
        average_rate: float = 0.1,
    ):
        if min(kl_budget, scale, rate, average_rate) <= 0.0:
            raise ValueError(f"a trust region's values are positive; found budget {kl_budget}")
        self.kl_budget, self.scale = kl_budget, scale
        self.rate, self.average_rate = rate, average_rate
        self.price, self.average = Fixed(jnp.ones(())), Fixed(jnp.zeros(()))

    def value(self) -> Scalar:
        return 1.0 / self.control_price()

    def control_price(self) -> Scalar:
        return self.scale * self.price.value

    def advance(self, path_kl: Scalar) -> Self:
        clipped = jnp.minimum(path_kl, 2.0 * self.kl_budget)
        average = (1.0 - self.average_rate) * self.average.value + self.average_rate * clipped
        price = jnp.clip(self.price.value + self.rate * (average - self.kl_budget), 0.01, 100.0)
        return eqx.tree_at(lambda s: (s.price.value, s.average.value), self, (price, average))
