"""Observation and action spaces: dictionaries as vectors, images, bounds."""

import itertools
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

    **Raises:** `UserError` for two leaves of one name.
    """
    if not isinstance(observation, Mapping):
        return {prefix.removesuffix("."): observation}
    leaves: dict[str, Any] = {}
    for name in sorted(observation, key=str):
        for key, leaf in named_leaves(observation[name], f"{prefix}{name}.").items():
            if key in leaves:
                raise UserError(
                    f"entry {key!r}: two entries of a dictionary have this name, in which a dot "
                    "stands between nested ones; rename one"
                )
            leaves[key] = leaf
    return leaves


def select_keys(leaves: Mapping[str, Any], keys: Sequence[str] | None, named_by: str) -> list[str]:
    """The names of the leaves of an observation, in the order of its entries.

    **Arguments:** `keys` are the names in order, or None for all of `leaves`; `named_by` is the
    option's name in messages.

    **Raises:** `UserError` for an unknown name.
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
            advice = suggestion(key, tuple(leaves))
            every = f" (there are: {', '.join(leaves)})" if advice.startswith("did") else ""
            raise UserError(
                f"{named_by}: found {key!r}, which the observations do not have; {advice}{every}"
            )
    return list(keys)


CHANNELS = (1, 3, 4)
"""Of an image: grey; red, green and blue; and how opaque it is."""

SMALLEST_IMAGE, SMALLEST_MATRIX, SMALLEST_DEPTHS = 8, 16, 48
"""The fewest rows and columns of an image with channels, of one without, and of one without of
real entries, which more often holds measurements such as a history of states."""


def is_image(shape: Sequence[int], dtype: Any) -> bool:
    """True for an image or a stack of images, of any type of numbers.

    Bytes with two axes or more are; so are three axes of which the first or the last counts 1, 3
    or 4 channels, and two neighbouring axes that are long.

    **Arguments:** `shape` is that of one observation, without a row for each step.
    """
    kind, axes = np.dtype(dtype).kind, tuple(shape)
    if kind not in "buif" or len(axes) < 2:
        return False
    if np.dtype(dtype) == np.uint8:
        return True
    for first, middle, last in zip(axes, axes[1:], axes[2:], strict=False):
        for channels, side in ((first, last), (last, first)):
            if channels in CHANNELS and min(middle, side) >= SMALLEST_IMAGE:
                return True
    least = SMALLEST_DEPTHS if kind == "f" and len(axes) == 2 else SMALLEST_MATRIX
    return any(min(pair) >= least for pair in itertools.pairwise(axes))


def concat(
    leaves: Mapping[str, np.ndarray], keys: Sequence[str], rows: int
) -> Float[np.ndarray, "rows obs"]:
    """The named leaves, each flattened in every one of its `rows`, side by side."""
    parts = [np.asarray(leaves[key], np.float32).reshape(rows, -1) for key in keys]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def require_vector(address: str, name: str, space: Any) -> None:
    """Refuses an observation's space, or the entry `name` of it, that is no box or an image."""
    require_box(address, f"observation {name!r}" if name else "observation", space)
    if is_image(space.shape, space.dtype):
        raise UserError(
            f"environment.id: the observation {name or 'space'} of {address} is an image of shape "
            f"{space.shape}; qamx learns from vectors: name other entries in "
            "environment.observation_keys, or wrap the environment in one that gives features"
        )


def require_box(address: str, what: str, space: Any, *, real: bool = False) -> None:
    """Refuses a space that is no box, or whose entries are not `real` numbers."""
    from gymnasium.spaces import Box

    found = str(space)
    if isinstance(space, Box):
        if not real or space.dtype.kind == "f":
            return
        found += ", whose entries are no real numbers"
    raise UserError(
        f"environment.id: the {what} space of {address} is {found}; qamx needs a Box of "
        "continuous numbers: wrap the environment in one that has it"
    )


def float32_bounds(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest float32 of each entry that lie inside bounds of any type.

    Where there is none, because an entry can hardly move, both are the one below.
    """
    low, high = low.reshape(-1), high.reshape(-1)
    with np.errstate(over="ignore"):
        least, most = low.astype(np.float32), high.astype(np.float32)
    least = np.where(least < low, np.nextafter(least, np.float32(np.inf)), least)
    most = np.where(most > high, np.nextafter(most, np.float32(-np.inf)), most)
    return np.where(least > most, most, least), most
