"""Checks of arguments from Python; NumPy alone, for exported policies."""

from numbers import Integral
from typing import Any

import numpy as np


def check_positive_integers(**values: Any) -> None:
    """Refuses sizes and counts, given by name, that cannot be.

    **Raises:** `ValueError` with the name of the first.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name}: found {value!r}; write a positive integer")


def check_shape(name: str, found: tuple[int, ...], wanted: tuple[int | str, ...]) -> None:
    """Refuses an array of another shape than the wanted one, whose named axes have any length.

    **Raises:** `ValueError` with both shapes.
    """
    lengths = zip(found, wanted, strict=False)
    if len(found) != len(wanted) or any(isinstance(w, int) and f != w for f, w in lengths):
        shape = f"({wanted[0]},)" if len(wanted) == 1 else f"({', '.join(map(str, wanted))})"
        raise ValueError(f"{name}: found shape {tuple(found)}; give {shape}")


def check_observation_shape(found: tuple[int, ...], size: int | None) -> None:
    """Refuses observations that are not [batch, `size`]; None is any size.

    **Raises:** `ValueError` with both shapes.
    """
    try:
        check_shape("observations", found, ("batch", size or "obs"))
    except ValueError as error:
        one = len(found) == 1 and size in (None, found[0])
        raise ValueError(f"{error}; for one, observation[None]" if one else error) from None


def checked_observations(observations: Any, size: int | None) -> np.ndarray:
    """Observations as float32 [batch, obs].

    **Raises:** `ValueError` for another shape than [batch, `size`] (None is any size), or numbers
    that are not finite.
    """
    observations = np.asarray(observations, np.float32)
    check_observation_shape(observations.shape, size)
    finite = np.isfinite(observations).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise ValueError(f"observations: row {row} has entries that are not finite")
    return observations
