"""Which parameters learn: trained networks, their Polyak targets, and frozen views."""

from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Bool, PyTree

M = TypeVar("M", bound=PyTree, covariant=True)
T = TypeVar("T", bound=PyTree)


class Fixed(eqx.Module, Generic[M]):
    """Marks arrays that the optimiser must not touch (targets, counters, dual variables)."""

    value: M


def _is_fixed(node: PyTree) -> bool:
    return isinstance(node, Fixed)


def trainable(tree: PyTree) -> PyTree[Bool]:
    """A filter for `equinox.partition`: every float array outside a `Fixed` part."""

    def mark(node: PyTree) -> PyTree[Bool]:
        if _is_fixed(node):
            return jax.tree.map(lambda _: False, node)
        return eqx.is_inexact_array(node)

    return jax.tree.map(mark, tree, is_leaf=_is_fixed)


def frozen(tree: T) -> T:
    """The same tree with no gradient to its arrays."""
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, tree
    )


class WithTarget(eqx.Module, Generic[M]):
    r"""A trained part and its slowly following copy, \(\bar\theta\leftarrow
    (1-\lambda)\bar\theta+\lambda\theta\) (Lillicrap et al., arXiv 1509.02971).

    **Arguments:** `online` learns; its target starts as a copy; `rate` is lambda, per update.

    **Raises:** `ValueError` if `rate` is not in (0, 1].
    """

    online: M
    copy: Fixed[M]
    rate: float

    def __init__(self, online: M, rate: float = 0.005):
        if not 0.0 < rate <= 1.0:
            raise ValueError(f"the target rate is in (0, 1]; found {rate}, try 0.005")
        self.online = online
        # Buffers of its own, so that both can be donated to a compiled update.
        self.copy = Fixed(
            jax.tree.map(lambda leaf: jnp.copy(leaf) if eqx.is_array(leaf) else leaf, online)
        )
        self.rate = rate

    @property
    def target(self) -> M:
        """The slow copy."""
        return self.copy.value

    def advance(self) -> "WithTarget[M]":
        """The pair after one step of the slow copy towards the online part."""

        def blend(slow, fast):
            if not eqx.is_inexact_array(slow):
                return slow
            return (1.0 - self.rate) * slow + self.rate * fast

        target = jax.tree.map(blend, self.target, self.online)
        return eqx.tree_at(lambda pair: pair.copy.value, self, target)
