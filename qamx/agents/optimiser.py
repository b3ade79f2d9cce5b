"""The one optimiser of a method."""

from typing import Any

import jax
import optax
from jaxtyping import PyTree

from qamx.rl import Delayed


def adam(learning_rate: float, gradient_clip: float | None = None) -> optax.GradientTransformation:
    """Adam over all trained networks together (Kingma and Ba, arXiv 1412.6980).

    Parts marked `Delayed` take a step, and their moments move, every `period`-th time only.

    **Arguments:** `gradient_clip`, where given, bounds the global gradient norm (critic and
    policy together) before Adam sees it.
    """

    def of(params: PyTree) -> optax.GradientTransformation:
        step = _by_period(learning_rate, _periods(params))
        if gradient_clip is None:
            return step
        return optax.chain(optax.clip_by_global_norm(gradient_clip), step)

    def init(params: Any) -> Any:
        return of(params).init(params)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return of(updates).update(updates, state, params)

    return optax.GradientTransformation(init, update)


def _by_period(learning_rate: float, periods: PyTree[int]) -> optax.GradientTransformation:
    distinct = set(jax.tree.leaves(periods))
    if distinct <= {1}:
        return optax.adam(learning_rate)
    steps = {period: _every(period, optax.adam(learning_rate)) for period in distinct}
    return optax.partition(steps, periods)


def _every(period: int, adam: optax.GradientTransformation) -> optax.GradientTransformation:
    def is_due(step: Any, **_: Any) -> Any:
        return step % period == 0

    return optax.transforms.conditionally_mask(adam, is_due)


def _periods(parameters: PyTree) -> PyTree[int]:
    """At every how many updates each parameter takes a step."""

    def is_delayed(node: PyTree) -> bool:
        return isinstance(node, Delayed)

    def period(node: PyTree) -> PyTree[int]:
        if is_delayed(node):
            return jax.tree.map(lambda _: node.period, node)
        return 1

    return jax.tree.map(period, parameters, is_leaf=is_delayed)
