"""The report of `qamx inspect`."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from qamx.tools.inspect_policy.measure import Measures, measure
from qamx.tools.inspect_policy.stages import PolicyStages, policy_stages
from qamx.tools.inspect_policy.states import States, Subject, Windows, calibration, choose


@dataclass(frozen=True)
class Report:
    """What was measured of a run; `samples` chunks at each of `states`, of seed `seed`."""

    subject: Subject
    states: States
    windows: Windows | None
    measures: Measures
    samples: int
    seed: int

    @functools.cached_property
    def anatomy(self) -> PolicyStages:
        """The agent taken apart."""
        return policy_stages(self.subject.agent)

    @property
    def horizon(self) -> int:
        """Environment steps of a chunk."""
        return self.subject.experiment.agent.horizon

    @property
    def finite(self) -> bool:
        """Whether all numbers are."""
        arrays = jax.tree.leaves(eqx.filter(self.measures.found, eqx.is_array_like))
        return not self.measures.broken and all(np.isfinite(array).all() for array in arrays)

    @functools.cached_property
    def gains(self) -> Float[np.ndarray, " states"] | None:
        """The pessimistic value of what acts less that of what it was refined from."""
        one, other = self.measures.acting, self.measures.base
        if other is None:
            return None
        lower = self.measures.lower
        return np.mean(lower(one.values) - lower(other.values), axis=-1)

    @functools.cached_property
    def path_kls(self) -> Float[np.ndarray, " states"] | None:
        """The path KL of the fine-tuned flow at each state, in nats a chunk."""
        paths = self.measures.found.paths
        return None if paths is None else np.mean(np.sum(paths.costs, axis=0), axis=-1)

    @property
    def is_unchanged(self) -> bool:
        """Whether the fine-tuned flow is its base, bit by bit."""
        return self.path_kls is not None and not np.any(self.path_kls)

    @functools.cached_property
    def worth(self) -> Float[np.ndarray, " states"] | None:
        """tau times what the mean critic gains from the fine-tuning: the most that the path KL is
        at the solution, by Jensen's inequality."""
        paths, stages = self.measures.found.paths, self.measures.found.stages
        if paths is None:
            return None
        # A fine-tuned flow is the second stage: it follows its base.
        base, own = (np.mean(stage.values, axis=(0, -1)) for stage in stages[:2])
        return float(paths.inverse_temperature) * (own - base)

    @functools.cached_property
    def attainable(self) -> tuple[float, float] | None:
        """The returns that rewards like the data's can add up to; None without data."""
        data, discount = self.subject.data, self.subject.experiment.agent.discount
        if data is None or discount >= 1.0:
            return None
        rewards = np.asarray(data.rewards)
        bounds = [float(edge(rewards)) for edge in (np.min, np.max)]
        return min(bounds[0], bounds[0] / (1 - discount)), max(
            bounds[1], bounds[1] / (1 - discount)
        )


def inspect(subject: Subject, where: Sequence[str], count: int, samples: int, seed: int) -> Report:
    """Measures the policy of a run.

    **Raises:** `UserError` if the states that `where` names cannot be had.
    """
    states = choose(subject, where, count, seed)
    windows = calibration(subject, seed)
    measures = measure(
        subject.agent,
        states.observations,
        samples,
        jax.random.key(seed),
        pessimism=subject.experiment.agent.pessimism,
        actions=states.actions,
        windows=None if windows is None else (windows.observations, windows.actions),
    )
    return Report(subject, states, windows, measures, samples, seed)
