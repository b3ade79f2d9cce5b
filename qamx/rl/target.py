"""Gradient routing, delayed parts, target networks, and the entropy target."""

from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from qamx._types import Scalar
from qamx._utils.defaults import TARGET_RATE
from qamx.nn import Temperature

M = TypeVar("M", bound=PyTree, covariant=True)
T = TypeVar("T", bound=PyTree)


class Fixed(eqx.Module, Generic[M]):
    """Marks arrays that the optimiser must not touch (targets, counters, dual variables)."""

    value: M


def _is_fixed(node: PyTree) -> bool:
    return isinstance(node, Fixed)


def trainable(tree: PyTree) -> PyTree[Bool]:
    """A filter for `equinox.partition`: every float array outside a `Fixed` part."""

    def is_trainable(node: PyTree) -> PyTree[Bool]:
        if _is_fixed(node):
            return jax.tree.map(lambda _: False, node)
        return eqx.is_inexact_array(node)

    return jax.tree.map(is_trainable, tree, is_leaf=_is_fixed)


def frozen(tree: T) -> T:
    """The same tree with stopped gradients."""
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, tree
    )


class Delayed(eqx.Module, Generic[M]):
    """Marks a part that takes an optimiser step at every `period`-th update only, from the first.

    It is called like the part itself.
    """

    value: M
    period: int = eqx.field(static=True)

    def __call__(self, *arguments: Any) -> Any:
        return self.value(*arguments)


class Clock(eqx.Module):
    """A counter of updates that fires on the first and on every `period`-th after it."""

    period: int = eqx.field(static=True)
    count: Int[Array, ""]

    def __init__(self, period: int):
        if period < 1:
            raise ValueError(f"a period is at least 1 update; found {period}")
        self.period, self.count = period, jnp.zeros((), jnp.int32)

    def fires(self) -> Bool[Array, ""]:
        """True on the first update and every `period`-th after it."""
        return self.count % self.period == 0

    def advance(self) -> "Clock":
        """The clock at the next update."""
        return eqx.tree_at(lambda clock: clock.count, self, self.count + 1)


class WithTarget(eqx.Module, Generic[M]):
    r"""A trained part and its Polyak target.

    $$\bar\theta\leftarrow(1-\lambda)\bar\theta+\lambda\theta$$

    **Arguments:** `online` is trained; its target starts as a copy; `rate` is lambda, per update;
    with a `clock` the target moves only on the updates on which it fires.

    **Raises:** `ValueError` if `rate` is not in (0, 1].

    **Source:** Lillicrap et al., arXiv 1509.02971.
    """

    online: M
    copy: Fixed[M]
    """Checkpoints find arrays by field names: do not rename."""
    rate: float
    clock: Clock | None

    def __init__(self, online: M, rate: float = TARGET_RATE, clock: Clock | None = None):
        if not 0.0 < rate <= 1.0:
            raise ValueError(f"the target rate is in (0, 1]; found {rate}, try 0.005")
        self.online = online
        self.copy = Fixed(_copied(online))
        self.rate, self.clock = rate, clock

    @property
    def target(self) -> M:
        """The target."""
        return self.copy.value

    def reset_target(self, online: Any) -> "WithTarget[M]":
        """The pair with a new online part and a target copied from it."""
        return eqx.tree_at(
            lambda pair: (pair.online, pair.copy.value), self, (online, _copied(online))
        )

    def advance(self) -> "WithTarget[M]":
        """The pair after one step of the target towards the online part."""
        rate = self.rate if self.clock is None else jnp.where(self.clock.fires(), self.rate, 0.0)

        def blend(slow, fast):
            if not eqx.is_inexact_array(slow):
                return slow
            return (1.0 - rate) * slow + rate * fast

        target = jax.tree.map(blend, self.target, self.online)
        pair = eqx.tree_at(lambda pair: pair.copy.value, self, target)
        if self.clock is None:
            return pair
        return eqx.tree_at(lambda pair: pair.clock, pair, self.clock.advance())


def _copied(part: T) -> T:
    # Separate buffers, so that both can be donated to a compiled update.
    return jax.tree.map(lambda leaf: jnp.copy(leaf) if eqx.is_array(leaf) else leaf, part)


class EntropyTarget(eqx.Module):
    r"""Keeps a policy's entropy H near H* by a learned temperature alpha.

    The policy's loss term is \(-\mathrm{sg}(\alpha)H\) and the temperature's
    \(\alpha\,\mathrm{sg}(H-H^*)\), with \(H = -\mathbb{E}\log\pi\).

    **Arguments:** `target` is H* in nats; H* = -0.5 d is the usual choice for d action entries.

    **Source:** Haarnoja et al., arXiv 1812.05905, section 5.
    """

    temperature: Temperature
    target: float

    def losses(self, log_prob: Float[Array, " batch"]) -> tuple[Scalar, Scalar, Scalar]:
        """The policy's loss term, the temperature's loss, and the entropy."""
        alpha = self.temperature()
        entropy = -jnp.mean(log_prob)
        policy_term = -jax.lax.stop_gradient(alpha) * entropy
        temperature_loss = alpha * jax.lax.stop_gradient(entropy - self.target)
        return policy_term, temperature_loss, entropy
