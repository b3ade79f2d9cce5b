"""What the device's memory holds, said when it runs out."""

import contextlib
from collections.abc import Iterator

import jax
from jaxtyping import PyTree

from qamx.errors import RunError


class OutOfMemory(RunError):
    """The device has no room left."""


def replay_size(rows: int, observation_size: int, action_size: int) -> str:
    """What a replay buffer takes."""
    row = 4 * (2 * observation_size + action_size + 3)
    return f"the replay is {rows:,} rows x {row:,} bytes = {rows * row / 2**20:,.0f} MiB"


def bytes_of(tree: PyTree) -> int:
    """What the arrays of a tree take."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree) if hasattr(leaf, "nbytes"))


@contextlib.contextmanager
def named_memory(content: str) -> Iterator[None]:
    """Says `content` when the device runs out of memory inside.

    **Raises:** `OutOfMemory`.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        said = str(error).splitlines()[0]
        if "RESOURCE_EXHAUSTED" not in said and "Out of memory" not in said:
            raise
        device = jax.devices()[0].device_kind
        raise OutOfMemory(f"out of memory on {device} ({said}): {content}") from error
