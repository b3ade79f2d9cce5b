"""Replay data on the device, and the sampling of batches from it."""

import abc
import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from qamx._types import Batch, Key
from qamx.data.transitions import Transitions, windows


class Replay(eqx.Module):
    """Offline transitions followed by capacity for online ones, on the device.

    The two parts are separate arrays, so that runs of several seeds share the first and a shard
    replaces another without a copy. All methods return the changed buffer; `append` donates the
    old one's memory.

    **Arguments:** `size` counts the filled rows of both parts. In a group of seeds the leaves of
    `online` have a leading axis, one entry a seed.
    """

    offline: Transitions
    online: Transitions
    size: Int[Array, ""]

    @classmethod
    def create(cls, offline: Transitions, capacity: int, axes: tuple[int, ...] = ()) -> Self:
        """A buffer of `offline` with capacity for more transitions.

        **Arguments:** `axes` are leading axes of the online part, of the seeds that share the
        offline one.
        """
        # An empty array has no rows to gather from, not even unused ones.
        shape = (*axes, max(capacity, 1))
        online = jax.tree.map(lambda a: jnp.zeros((*shape, *a.shape[1:]), jnp.float32), offline)
        return cls(on_device(offline), online, jnp.asarray(len(offline), jnp.int32))

    @property
    def offline_size(self) -> int:
        """Rows of the offline part."""
        return len(self.offline)

    def at(self, rows: Int[Array, "*shape"]) -> Transitions:
        """The transitions of the given rows (inside a compiled program, only columns in use)."""
        first = self.offline_size
        old, new = jnp.minimum(rows, first - 1), jnp.maximum(rows - first, 0)

        def pick(offline: Array, online: Array) -> Array:
            is_old = (rows < first).reshape(rows.shape + (1,) * (offline.ndim - 1))
            return jnp.where(is_old, offline[old], online[new])

        return jax.tree.map(pick, self.offline, self.online)

    def append(self, new: Transitions) -> "Replay":
        """The buffer with the rows of `new` behind its filled ones (capacity is not checked).

        In a group `new` has a leading axis, one entry a seed.
        """
        online, size = _append(self.online, self.size, new, self.offline_size)
        return Replay(self.offline, online, size)

    def replace_offline(self, offline: Transitions) -> "Replay":
        """The buffer with another shard, which `on_device` made, as its offline rows.

        It must hold as many transitions as the first; nothing is copied.
        """
        return Replay(offline, self.online, self.size)

    def online_rows(self, first: int, last: int, place: tuple[int, ...] = ()) -> Transitions:
        """A host copy of the online transitions `first` to `last` (exclusive).

        **Arguments:** `place` is a seed's index in the leading axes.
        """
        rows = (*place, slice(first, last))
        return jax.tree.map(lambda array: np.array(array[rows]), self.online)

    def seed_axes(self) -> Any:
        """Axes for `jax.vmap` over the seeds of a group: only the online rows have one."""
        return eqx.tree_at(lambda r: (r.offline, r.online, r.size), self, (None, 0, None))

    def of(self, place: tuple[int, ...]) -> "Replay":
        """The buffer of the seed at an index of the leading axes."""
        return Replay(self.offline, jax.tree.map(lambda a: a[place], self.online), self.size)


def on_device(offline: Transitions) -> Transitions:
    """Offline rows on the device, with an end at the last one, so that no window reaches from the
    data into online rows."""
    ends = np.array(offline.ends, np.float32)
    ends[-1] = 1.0
    closed = dataclasses.replace(offline, ends=ends)
    return jax.tree.map(lambda array: jnp.array(array, jnp.float32), closed)


@functools.partial(jax.jit, donate_argnums=(0, 1), static_argnums=3)
def _append(
    rows: Transitions, size: Array, new: Transitions, offline_size: int
) -> tuple[Transitions, Array]:
    axis = new.rewards.ndim - 1

    def put(array: Array, value: Array) -> Array:
        value = value.astype(array.dtype)
        return jax.lax.dynamic_update_slice_in_dim(array, value, size - offline_size, axis)

    return jax.tree.map(put, rows, new), size + new.rewards.shape[axis]


@dataclass(frozen=True)
class Sampling(abc.ABC):
    """Draws batches of `batch_size` windows of `horizon` steps inside a compiled program;
    `discount` is per step."""

    batch_size: int
    horizon: int
    discount: float

    @abc.abstractmethod
    def draw(self, replay: Replay, key: Key) -> Batch:
        """A batch of windows over the filled rows."""


class UniformSampling(Sampling):
    """Windows uniform over all start rows, old and new alike."""

    def draw(self, replay: Replay, key: Key) -> Batch:
        starts = jax.random.randint(key, (self.batch_size,), 0, replay.size - self.horizon + 1)
        return windows(replay, starts, self.horizon, self.discount)


class BalancedSampling(Sampling):
    """Half of each batch from the offline rows and half from the online ones, uniform in each;
    all of it from the offline rows until a whole window was collected.

    **Source:** symmetric sampling, Ball et al., arXiv 2302.02948.
    """

    def draw(self, replay: Replay, key: Key) -> Batch:
        offline_key, online_key = jax.random.split(key)
        first, count = replay.offline_size, self.batch_size // 2
        end = first - self.horizon + 1
        offline = jax.random.randint(offline_key, (self.batch_size,), 0, end)
        last = jnp.maximum(replay.size - self.horizon, first)
        online = jax.random.randint(online_key, (count,), first, last + 1)
        collected = replay.size - first >= self.horizon
        starts = offline.at[:count].set(jnp.where(collected, online, offline[:count]))
        return windows(replay, starts, self.horizon, self.discount)
