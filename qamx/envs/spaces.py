"""Gymnasium's spaces that qamx can use: boxes, and dictionaries of them."""

from typing import Any

import numpy as np

from qamx.envs.flatten import is_image, named_leaves
from qamx.errors import UserError


def observation_spaces(space: Any) -> dict[str, Any]:
    """The spaces that an observation's space is made of, by dotted name, in alphabetical order."""
    return named_leaves(space)  # a space of dictionaries is a mapping


def require_vector(address: str, name: str, space: Any) -> None:
    """Refuses an observation's space, or the entry `name` of it, that is no box or an image."""
    _require_box(address, f"observation {name!r}" if name else "observation", space)
    if is_image(space.shape, space.dtype):
        raise UserError(
            f"environment.id: the observation {name or 'space'} of {address} is an image of shape "
            f"{space.shape}; qamx learns from vectors: name other entries in "
            "environment.observation_keys, or wrap the environment in one that gives features"
        )


def require_continuous(address: str, space: Any) -> None:
    """Refuses a space of actions that is no box of real numbers."""
    _require_box(address, "action", space)
    if space.dtype.kind != "f":
        raise _unfit(address, "action", f"{space}, whose entries are no real numbers")


def _require_box(address: str, what: str, space: Any) -> None:
    from gymnasium.spaces import Box

    if not isinstance(space, Box):
        raise _unfit(address, what, str(space))


def _unfit(address: str, what: str, found: str) -> UserError:
    return UserError(
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
