"""One seed, or several stacked along a leading axis and trained as one program."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from qamx._types import Key
from qamx.agents import AbstractAgent
from qamx.training.evaluator import Acting

T = TypeVar("T", bound=PyTree)
Stack = Callable[[Sequence[Any]], Any]


class AbstractStacking(ABC):
    """The arrangement of the seeds of a run in its arrays; a seed has an index from 0."""

    axes: tuple[int, ...]
    """Leading axes of every array that each seed has its own part of."""

    @abstractmethod
    def place(self, index: int) -> tuple[int, ...]:
        """The index of a seed's part in such arrays."""

    @abstractmethod
    def join(self, trees: Sequence[T], stack: Stack = jnp.stack) -> T:
        """One tree of the trees of all seeds; `stack` is `np.stack` to stay on the host."""

    @abstractmethod
    def of(self, tree: T, index: int) -> T:
        """A seed's part of a joined tree."""

    @abstractmethod
    def map(self, function: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
        """A function of one seed's trees as one of joined trees; `in_axes` as of `jax.vmap`."""

    @abstractmethod
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

    @abstractmethod
    def label(self, seed: int, line: str) -> str:
        """A line of output about a seed."""


@dataclass(frozen=True)
class Alone(AbstractStacking):
    """One seed, whose arrays have no axis of seeds."""

    axes: ClassVar[tuple[int, ...]] = ()

    def place(self, index: int) -> tuple[int, ...]:
        return ()

    def join(self, trees: Sequence[T], stack: Stack = jnp.stack) -> T:
        (tree,) = trees
        return tree

    def of(self, tree: T, index: int) -> T:
        return tree

    def map(self, function: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
        return function

    def act(
        self,
        acting: Acting,
        agents: AbstractAgent,
        observations: Sequence[Float[np.ndarray, " obs"]],
        keys: Sequence[Key],
        calls: Sequence[int],
    ) -> Float[np.ndarray, "seeds dim"]:
        return acting(agents, observations[0][None], jax.random.fold_in(keys[0], calls[0]))

    def label(self, seed: int, line: str) -> str:
        return line


ALONE = Alone()


@dataclass(frozen=True)
class Stacked(AbstractStacking):
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
