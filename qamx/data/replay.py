"""The buffer that updates draw from: offline rows first, online rows behind them."""

import dataclasses
import functools
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from qamx.data.sequences import Transitions
from qamx.errors import UserError


class Replay(eqx.Module):
    """Offline transitions with room for online ones, on the device.

    Rows below `size` are filled. All methods return the changed buffer; `append` and
    `replace_offline` give up the old one's memory.
    """

    rows: Transitions
    size: Int[Array, ""]
    offline_size: int = eqx.field(static=True)

    @classmethod
    def create(cls, offline: Transitions, room: int) -> Self:
        """A buffer that holds `offline` and has room for `room` more transitions."""

        count = len(offline)
        rows = jax.tree.map(
            lambda array: jnp.zeros((count + room, *array.shape[1:]), jnp.float32), offline
        )
        return cls(_put_first(rows, _closed(offline)), jnp.asarray(count, jnp.int32), count)

    def append(self, new: Transitions) -> "Replay":
        """The buffer with the rows of `new` behind its filled ones (room is not checked)."""
        rows, size = _append(self.rows, self.size, new)
        return Replay(rows, size, self.offline_size)

    def replace_offline(self, offline: Transitions) -> "Replay":
        """The buffer with another shard in the place of the offline rows.

        **Raises:** `UserError` if the shard has another number of transitions than the first.
        """
        if len(offline) != self.offline_size:
            raise UserError(
                f"a shard holds {len(offline):,} transitions and the first one "
                f"{self.offline_size:,}; shards of one data set must be equally long"
            )
        rows = _put_first(self.rows, _closed(offline))
        return Replay(rows, self.size, self.offline_size)

    def online_rows(self, first: int, last: int) -> Transitions:
        """A host copy of the online transitions `first` to `last` (exclusive)."""
        span = slice(self.offline_size + first, self.offline_size + last)
        return jax.tree.map(lambda array: np.asarray(array[span]), self.rows)


def _closed(offline: Transitions) -> Transitions:
    """The same with an end at the last row: no window reaches from the data into online rows."""
    ends = np.array(offline.ends, np.float32)
    ends[-1] = 1.0
    return dataclasses.replace(offline, ends=ends)


def _write(rows: Transitions, start: Array, new: Transitions) -> Transitions:
    def put(array, value):
        return jax.lax.dynamic_update_slice_in_dim(array, value.astype(array.dtype), start, 0)

    return jax.tree.map(put, rows, new)


@functools.partial(jax.jit, donate_argnums=(0, 1))
def _append(rows: Transitions, size: Array, new: Transitions) -> tuple[Transitions, Array]:
    return _write(rows, size, new), size + len(new)


@functools.partial(jax.jit, donate_argnums=0)
def _put_first(rows: Transitions, new: Transitions) -> Transitions:
    return _write(rows, jnp.zeros((), jnp.int32), new)
