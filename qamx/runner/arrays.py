"""Trees of arrays as flat dictionaries of host arrays, and back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from qamx.errors import UserError


def to_host(tree: PyTree, prefix: str = "") -> dict[str, np.ndarray]:
    """A copy of every leaf by its path behind `prefix`, random keys as their data."""
    leaves = jax.tree.leaves_with_path(tree)
    return {prefix + jax.tree_util.keystr(path): _to_host(leaf) for path, leaf in leaves}


def fitted(arrays: dict[str, np.ndarray], template: PyTree, prefix: str = "") -> PyTree:
    """The arrays in the places of the template's leaves.

    **Arguments:** `prefix` is the path of `template` inside the tree that was saved.

    **Raises:** `UserError` if an array is missing or has another shape or type.
    """
    leaves, structure = jax.tree.flatten_with_path(template)
    found = [_fitted(prefix + jax.tree_util.keystr(path), arrays, leaf) for path, leaf in leaves]
    return jax.tree.unflatten(structure, found)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_host(leaf: Any) -> np.ndarray:
    # A copy: the device's buffer is donated to the next update while the save goes on.
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _fitted(name: str, arrays: dict[str, np.ndarray], leaf: Any) -> Any:
    """A saved array in the place of `leaf`."""
    expected = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    value = arrays.get(name)
    if value is None or (value.shape, value.dtype) != (expected.shape, expected.dtype):
        found = "nothing" if value is None else f"{value.dtype}{value.shape}"
        raise UserError(
            f"checkpoint array {name}: found {found}, "
            f"expected {expected.dtype}{expected.shape}; it belongs to another experiment, or to "
            "other switches of JAX (JAX_ENABLE_X64, JAX_DEFAULT_PRNG_IMPL)"
        )
    array = jnp.asarray(value)
    return jax.random.wrap_key_data(array) if _is_key(leaf) else array
