"""Transitions in the order of time, and the action-chunk windows over them."""

from typing import Protocol, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from qamx._types import Batch

AnyArray: TypeAlias = Array | np.ndarray
"""On the device or on the host."""


class Transitions(eqx.Module):
    """One row a transition; trajectories follow each other without gaps."""

    observations: Float[AnyArray, "size obs"]
    actions: Float[AnyArray, "size act"]
    rewards: Float[AnyArray, " size"]
    masks: Float[AnyArray, " size"]
    """0 where the task is solved, so that nothing is bootstrapped, else 1."""
    ends: Float[AnyArray, " size"]
    """1 at the last transition of a trajectory, else 0."""
    next_observations: Float[AnyArray, "size obs"]

    def __len__(self) -> int:
        return self.rewards.shape[0]

    def at(self, rows: Int[Array, "*shape"]) -> "Transitions":
        """The transitions of the given rows."""
        return jax.tree.map(lambda column: jnp.asarray(column)[rows], self)


class Rows(Protocol):
    """Transitions that can be looked up by row."""

    def at(self, rows: Int[Array, "*shape"]) -> Transitions:
        """The transitions of the given rows."""
        ...


def windows(rows: Rows, starts: Int[Array, " batch"], horizon: int, discount: float) -> Batch:
    r"""The windows of `horizon` steps that begin at `starts`, as a batch.

    The return is \(R=\sum_i\gamma^i r_i\) up to the end of the trajectory; a window is valid if
    no trajectory ends strictly inside it; s' follows the last step inside the trajectory.
    """
    steps = jnp.arange(horizon)
    inside = rows.at(starts[:, None] + steps)
    # alive[b, i]: no trajectory ended on the steps before i.
    ended = jnp.cumsum(inside.ends, axis=1) - inside.ends
    alive = (ended == 0).astype(jnp.float32)
    last = starts + jnp.sum(alive, axis=1).astype(starts.dtype) - 1
    return Batch(
        observations=jnp.asarray(rows.at(starts).observations),
        actions=jnp.reshape(inside.actions, (len(starts), -1)),
        rewards=jnp.sum(discount**steps * alive * inside.rewards, axis=1),
        masks=jnp.min(jnp.where(alive > 0, inside.masks, 1.0), axis=1),
        valid=alive[:, -1],
        next_observations=jnp.asarray(rows.at(last).next_observations),
    )
