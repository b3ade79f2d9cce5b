"""One seed, or several stacked along a leading axis and trained as one program.

`Alone` and `Stacked` have the same methods; a seed has an index from 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from qamx._types import Key
from qamx.agents import AbstractAgent
from qamx.training.evaluator import Acting

T = TypeVar("T", bound=PyTree)
Stack = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Alone:
    """One seed, whose arrays have no axis of seeds."""

    @property
    def axes(self) -> tuple[int, ...]:
        """Leading axes of the arrays of which each seed has its part."""
        return ()

    def place(self, index: int) -> tuple[int, ...]:
        """The index of a seed's part in such arrays."""
        return ()

    def join(self, trees: Sequence[T], stack: Stack = jnp.stack) -> T:
        """One tree of the trees of all seeds; `stack` is `np.stack` to stay on the host."""
        (tree,) = trees
        return tree

    def of(self, tree: T, index: int) -> T:
        """A seed's part of a joined tree."""
        return tree

    def map(self, function: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
        """A function of one seed's trees as one of joined trees; `in_axes` as of `jax.vmap`."""
        return function

    def act(
        self,
        acting: Acting,
        agents: AbstractAgent,
        observations: Sequence[Float[np.ndarray, " obs"]],
        keys: Sequence[Key],
        calls: Sequence[int],
    ) -> Float[np.ndarray, "seeds dim"]:
        """A chunk of each seed's policy, to collect data with.

        **Arguments:** a draw is seeded by the seed's key and the number of its chunk.
        """
        return acting(agents, observations[0][None], jax.random.fold_in(keys[0], calls[0]))

    def label(self, seed: int, line: str) -> str:
        """A line of output about a seed."""
        return line


@dataclass(frozen=True)
class Stacked:
    """`size` seeds along the leading axis."""

    size: int

    @property
    def axes(self) -> tuple[int, ...]:
        return (self.size,)

    def place(self, index: int) -> tuple[int, ...]:
        return (index,)

    def join(self, trees: Sequence[T], stack: Stack = jnp.stack) -> T:
        return jax.tree.map(lambda *leaves: stack(leaves), *trees)

    def of(self, tree: T, index: int) -> T:
        return jax.tree.map(lambda leaf: leaf[index], tree)

    def map(self, function: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
        return jax.vmap(function, in_axes)

    def act(
        self,
        acting: Acting,
        agents: AbstractAgent,
        observations: Sequence[Float[np.ndarray, " obs"]],
        keys: Sequence[Key],
        calls: Sequence[int],
    ) -> Float[np.ndarray, "seeds dim"]:
        return acting.of_each(agents, np.stack(observations), tuple(keys), np.asarray(calls))

    def label(self, seed: int, line: str) -> str:
        return f"seed {seed:>6}  {line}"


Stacking: TypeAlias = Alone | Stacked
ALONE = Alone()
