"""Data in the units that a policy learns in."""

import dataclasses
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from qamx.data.checks import SMALLEST_DEVIATION, nearly_constant, not_finite
from qamx.data.inspection import Finding
from qamx.data.inspection.actions import nearly_constant_actions
from qamx.data.inspection.observations import nearly_constant_observations
from qamx.data.sequences import Transitions
from qamx.data.source import AbstractDataAround, DataSource, jumps_of, validation_of
from qamx.errors import UserError
from qamx.normalisation import Scaling, Vector

Found: TypeAlias = tuple[Finding, ...]


class ScaledData(AbstractDataAround):
    """A data source in a policy's units.

    **Arguments:** `first` is the source's first shard, where it has been loaded already, and
    `findings` came up when the units were found out.
    """

    def __init__(
        self,
        source: DataSource,
        scaling: Scaling,
        first: Transitions | None = None,
        findings: Found = (),
    ):
        super().__init__(source)
        self._scaling, self._first, self.findings = scaling, first, findings

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


def moments(
    where: str, observations: Float[np.ndarray, "size obs"]
) -> tuple[Vector, Vector, Found]:
    """Mean and standard deviation of each entry; a deviation of at least 1 for one that hardly
    varies, which its own would enlarge until any other value is a huge one.

    **Arguments:** `where` is what messages call the data.

    **Returns:** with them, the finding about entries that vary, but hardly.

    **Raises:** `UserError` for a value that is not finite.
    """
    _require_finite(where, "observations", observations)
    mean = observations.mean(axis=0, dtype=np.float64)
    deviation = observations.std(axis=0, dtype=np.float64)
    hardly = nearly_constant(mean, deviation)
    # What varies by rounding alone is constant in a policy's units too, and found there.
    varied = observations.max(axis=0) - observations.min(axis=0) > SMALLEST_DEVIATION
    findings = tuple(nearly_constant_observations(hardly & varied, mean, deviation))
    deviation = np.where(hardly, np.maximum(deviation, 1.0), deviation)
    return mean.astype(np.float32), deviation.astype(np.float32), findings


def extremes(where: str, actions: Float[np.ndarray, "size act"]) -> tuple[Vector, Vector, Found]:
    """The smallest and the largest value of each entry; `where` and findings as above.

    **Raises:** `UserError` for a value that is not finite.
    """
    _require_finite(where, "actions", actions)
    low, high = actions.min(axis=0), actions.max(axis=0)
    found = nearly_constant((low + high) / 2, (high - low) / 2) & (low < high)
    effect = (
        "scaled by their range, they are noise to be learned, and the policy can do nothing else "
        "with them in the environment"
    )
    remedy = 'leave them out of the action, or write data.scale_actions = "space"'
    return low, high, tuple(nearly_constant_actions(found, low, high, effect, remedy))


def _require_finite(where: str, name: str, array: np.ndarray) -> None:
    row = not_finite(array)
    if row is not None:
        raise UserError(f"{where}: {name}: not finite in row {row:,}; mend or drop the episode")
