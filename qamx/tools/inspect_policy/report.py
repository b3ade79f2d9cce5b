"""The report of `qamx inspect`."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from qamx.tools.inspect_policy.measure import Diagnostics, measure
from qamx.tools.inspect_policy.stages import PolicyStages, policy_stages
from qamx.tools.inspect_policy.states import (
    InspectedRun,
    States,
    Windows,
    calibration,
    select_states,
)


@dataclass(frozen=True)
class PolicyReport:
    """Diagnostics of a run's policy: `samples` chunks at each of `states`."""

    run: InspectedRun
    states: States
    windows: Windows | None
    diagnostics: Diagnostics
    samples: int
    seed: int

    @functools.cached_property
    def stages(self) -> PolicyStages:
        """The stages of the agent's policy."""
        return policy_stages(self.run.agent)

    @property
    def horizon(self) -> int:
        """Environment steps of a chunk."""
        return self.run.experiment.agent.horizon

    @property
    def finite(self) -> bool:
        """True if all parameters and outputs are finite."""
        arrays = jax.tree.leaves(eqx.filter(self.diagnostics.raw, eqx.is_array_like))
        return not self.diagnostics.broken and all(np.isfinite(array).all() for array in arrays)

    @functools.cached_property
    def gains(self) -> Float[np.ndarray, " states"] | None:
        """The pessimistic value of the acting policy less its base's, by state."""
        acting, base, lower = self.diagnostics.acting, self.diagnostics.base, self.diagnostics.lower
        return None if base is None else np.mean(lower(acting.values) - lower(base.values), axis=-1)

    @functools.cached_property
    def path_kls(self) -> Float[np.ndarray, " states"] | None:
        """The path KL of the fine-tuned flow at each state, in nats a chunk."""
        paths = self.diagnostics.raw.paths
        return None if paths is None else np.mean(np.sum(paths.costs, axis=0), axis=-1)

    @property
    def is_unchanged(self) -> bool:
        """True if the fine-tuned flow equals its base bitwise."""
        return self.path_kls is not None and not np.any(self.path_kls)

    @functools.cached_property
    def tau_gain(self) -> Float[np.ndarray, " states"] | None:
        """tau times the mean critic's gain, the bound of the path KL at the solution (Jensen)."""
        paths, stages = self.diagnostics.raw.paths, self.diagnostics.raw.stages
        if paths is None:
            return None
        # A fine-tuned flow is the second stage: it follows its base.
        base, own = (np.mean(stage.values, axis=(0, -1)) for stage in stages[:2])
        return float(paths.inverse_temperature) * (own - base)

    @functools.cached_property
    def attainable(self) -> tuple[float, float] | None:
        """The returns that rewards like the data's can add up to; None without data."""
        data, discount = self.run.data, self.run.experiment.agent.discount
        if data is None or discount >= 1.0:
            return None
        low, high = float(np.min(data.rewards)), float(np.max(data.rewards))
        return min(low, low / (1 - discount)), max(high, high / (1 - discount))


def inspect(
    run: InspectedRun, where: Sequence[str], count: int, samples: int, seed: int
) -> PolicyReport:
    """Measures the policy of a run.

    **Raises:** `UserError` if the states that `where` names cannot be had.
    """
    states = select_states(run, where, count, seed)
    windows = calibration(run, seed)
    diagnostics = measure(
        run.agent,
        states.observations,
        samples,
        jax.random.key(seed),
        pessimism=run.experiment.agent.pessimism,
        actions=states.actions,
        windows=None if windows is None else (windows.observations, windows.actions),
    )
    return PolicyReport(run, states, windows, diagnostics, samples, seed)
