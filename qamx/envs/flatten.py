"""Observations that are dictionaries, as vectors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from qamx.errors import UserError, suggestion

PLAIN = ""
"""The name of an observation that is an array by itself."""


def named_leaves(observation: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dictionaries by dotted name, in alphabetical order.

    Gymnasium's own `Dict` spaces are in this order too. A leaf by itself has the name "".
    """
    if not isinstance(observation, Mapping):
        return {prefix.removesuffix("."): observation}
    leaves: dict[str, Any] = {}
    for name in sorted(observation):
        leaves |= named_leaves(observation[name], f"{prefix}{name}.")
    return leaves


def chosen(leaves: Mapping[str, Any], keys: Sequence[str] | None, named_by: str) -> list[str]:
    """The names of the leaves that an observation is made of, in the order of its entries.

    **Arguments:** `keys` are the names in the wanted order, or None for all of `leaves`;
    `named_by` is what the messages call them.

    **Raises:** `UserError` for a name that there is not.
    """
    if keys is None:
        return list(leaves)
    for key in keys:
        if key not in leaves and PLAIN in leaves:
            raise UserError(
                f"{named_by}: found {key!r}, and the observations are vectors without names; leave "
                "the key out"
            )
        if key not in leaves:
            raise UserError(
                f"{named_by}: found {key!r}, which the observations do not have; "
                f"{suggestion(key, tuple(leaves))} (there are: {', '.join(leaves)})"
            )
    return list(keys)


def joined(
    leaves: Mapping[str, np.ndarray], keys: Sequence[str], rows: int | None = None
) -> Float[np.ndarray, "*rows obs"]:
    """The named leaves behind each other, each flattened, as one vector, or `rows` vectors."""
    axes = () if rows is None else (rows,)
    parts = [np.asarray(leaves[key], np.float32).reshape(*axes, -1) for key in keys]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
