"""Data in the units that a policy learns in."""

import dataclasses

import numpy as np
from jaxtyping import Float

from qamx.data.checks import not_finite
from qamx.data.sequences import Transitions
from qamx.data.source import AbstractDataAround, DataSource, jumps_of, validation_of
from qamx.envs.scaling import Scaling, Vector
from qamx.errors import UserError

SMALLEST_DEVIATION = 1e-6
"""An entry that varies less is constant: it is centred, and keeps its unit."""


class ScaledData(AbstractDataAround):
    """A data source in a policy's units.

    **Arguments:** `first` is the source's first shard, where it has been loaded already.
    """

    def __init__(self, source: DataSource, scaling: Scaling, first: Transitions | None = None):
        super().__init__(source)
        self._scaling, self._first = scaling, first

    @property
    def jumps(self) -> bool:
        return jumps_of(self._source)

    def load_validation(self) -> Transitions | None:
        raw = validation_of(self._source)
        return None if raw is None else scaled(self._scaling, raw)

    def load(self, shard: int) -> Transitions:
        raw, self._first = self._first if shard == 0 else None, None
        return scaled(self._scaling, self._source.load(shard) if raw is None else raw)


def scaled(scaling: Scaling, raw: Transitions) -> Transitions:
    """Transitions in a policy's units."""
    return dataclasses.replace(
        raw,
        observations=scaling.observations(np.asarray(raw.observations)),
        actions=scaling.actions(np.asarray(raw.actions)),
        rewards=scaling.rewards(np.asarray(raw.rewards)),
        next_observations=scaling.observations(np.asarray(raw.next_observations)),
    )


def moments(where: str, observations: Float[np.ndarray, "size obs"]) -> tuple[Vector, Vector]:
    """Mean and standard deviation of each entry; deviation 1 for one that is constant.

    **Arguments:** `where` is what messages call the data.

    **Raises:** `UserError` for a value that is not finite.
    """
    _require_finite(where, "observations", observations)
    mean = observations.mean(axis=0, dtype=np.float64)
    deviation = observations.std(axis=0, dtype=np.float64)
    deviation = np.where(deviation < SMALLEST_DEVIATION, 1.0, deviation)
    return mean.astype(np.float32), deviation.astype(np.float32)


def extremes(where: str, actions: Float[np.ndarray, "size act"]) -> tuple[Vector, Vector]:
    """The smallest and the largest value of each entry; `where` as above.

    **Raises:** `UserError` for a value that is not finite.
    """
    _require_finite(where, "actions", actions)
    return actions.min(axis=0), actions.max(axis=0)


def _require_finite(where: str, name: str, array: np.ndarray) -> None:
    row = not_finite(array)
    if row is not None:
        raise UserError(f"{where}: {name}: not finite in row {row:,}; mend or drop the episode")
