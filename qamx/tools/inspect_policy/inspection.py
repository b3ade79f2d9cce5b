"""Inspection of a policy: measures of its stages at states, and their report."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from qamx._types import Key
from qamx.agents import AbstractAgent
from qamx.data.transitions import AnyArray
from qamx.flow import matching_residuals, ode_term, path_costs
from qamx.nn import AbstractCritic
from qamx.policies import (
    AbstractDerivedPolicy,
    AbstractFineTunedFlow,
    AbstractPolicy,
    AdjointMatchedFlow,
    BackpropagatedFlow,
    PolicyStage,
)
from qamx.policies.base import clip_action
from qamx.rl import pessimistic_value
from qamx.tools.inspect_policy.states import (
    InspectedRun,
    States,
    Windows,
    calibration,
    select_states,
)
from qamx.training.divergence import broken_arrays

CriticAlongFlow: TypeAlias = Callable[[Array, Array, Array], Float[Array, "ensemble batch"]]
"""The critics' values at observations, states of a flow, and one flow time."""


@dataclass(frozen=True)
class PolicyStages:
    """An agent's policy in stages.

    **Arguments:**

    - `stages`: the last is what acts in evaluations; the first is what it was refined from.
    - `fine_tuned`: the flow that is fine-tuned on its base's SDE, if there is one.
    - `critic`: the slow copy, whose values policies and backups are about; `critic_along_flow`
      gives its values of partly noised actions at a flow time.
    """

    stages: tuple[PolicyStage, ...]
    fine_tuned: AbstractFineTunedFlow | None
    critic: AbstractCritic
    critic_along_flow: CriticAlongFlow

    @property
    def acting(self) -> PolicyStage:
        """The stage that acts in evaluations."""
        return self.stages[-1]

    @property
    def base(self) -> PolicyStage | None:
        """The stage that it was refined from; None where one network does all."""
        return self.stages[0] if len(self.stages) > 1 else None


def policy_stages(agent: AbstractAgent) -> PolicyStages:
    """The stages of the agent's policy as an evaluation samples it."""
    policy, critic = agent.policy.for_evaluation(), agent.critic
    return PolicyStages(
        tuple(policy.stages(critic)), _fine_tuned(policy), critic.target, critic.along_flow
    )


def _fine_tuned(policy: AbstractPolicy) -> AbstractFineTunedFlow | None:
    while isinstance(policy, AbstractDerivedPolicy):
        if isinstance(policy, AbstractFineTunedFlow):
            return policy
        policy = policy.base
    return None


class Adjoints(eqx.Module):
    """The signal of adjoint matching, of the objective at price 1.

    - `norms`: |g_t| at t = 0, h, ..., 1.
    - `targets`: |sigma_t g_t|^2, the squared regression target at t = 0, ..., 1 - h.
    - `residuals`: the squared residuals of the regression.
    - `blocked`: the share of entries with a critic's gradient of 0, as at the end of a path
      outside the box.
    """

    norms: Float[AnyArray, "times rows"]
    targets: Float[AnyArray, "steps rows"]
    residuals: Float[AnyArray, "steps rows"]
    blocked: Float[AnyArray, " rows"]


class Paths(eqx.Module):
    """Paths of the memoryless SDE of a fine-tuned flow.

    `costs` are the steps' parts of the path KL, in nats; `inverse_temperature` is the tau for
    which the flow is the solution, in units of such nats; `adjoints` is None for a method that
    does not use them.
    """

    costs: Float[AnyArray, "steps rows"]
    inverse_temperature: Float[AnyArray, ""]
    adjoints: Adjoints | None


@functools.singledispatch
def sde_diagnostics(
    policy: AbstractFineTunedFlow, critic: AbstractCritic, observation: Array, key: Key
) -> Paths | None:
    """A path for each observation; None for a flow whose objective is unknown."""
    return None


@sde_diagnostics.register
def _(policy: AdjointMatchedFlow, critic: AbstractCritic, observation: Array, key: Key) -> Paths:
    paths = policy.draw_paths(critic, observation, key)
    price = policy.inverse_temperature.control_price()
    adjoints, boundary = paths.adjoints / price, paths.boundary / price
    norms = jnp.linalg.norm(jnp.concatenate([adjoints, boundary[None]]), axis=-1)
    return Paths(
        path_costs(paths.change, paths.sigma, policy.integrator.step_size),
        policy.inverse_temperature.value(),
        Adjoints(
            norms,
            (paths.sigma[:, None] * norms[:-1]) ** 2,
            matching_residuals(paths.change, adjoints, paths.sigma),
            jnp.mean(boundary == 0.0, axis=-1),
        ),
    )


@sde_diagnostics.register
def _(policy: BackpropagatedFlow, critic: AbstractCritic, observation: Array, key: Key) -> Paths:
    states = policy.sample_path(policy.velocity, observation, key)
    change, sigma = policy.change_along(observation, states[:-1])
    h = policy.integrator.step_size
    # Its cost of control has no factor h: divided by 1/h, it is the path KL less h tau Q.
    return Paths(path_costs(change, sigma, h), jnp.asarray(h * policy.inverse_temperature), None)


class StageDiagnostics(eqx.Module):
    """A stage's chunks and their values; `along` are values along its flow at 0, h, ..., 1."""

    actions: Float[AnyArray, "states samples dim"]
    values: Float[AnyArray, "ensemble states samples"]
    along: Float[AnyArray, "ensemble times states samples"] | None


class RawDiagnostics(eqx.Module):
    """Arrays of the compiled call.

    `data_values` are the critics' values of the data's chunks at the same states,
    `window_values` of other windows of the data; `paths` are those of the fine-tuned flow.
    """

    stages: tuple[StageDiagnostics, ...]
    data_values: Float[AnyArray, "ensemble states"] | None
    window_values: Float[AnyArray, "ensemble windows"] | None
    paths: Paths | None


@dataclass(frozen=True)
class Diagnostics:
    """`RawDiagnostics` on the host, with the names of the stages; the last one acts.

    **Arguments:** `pessimism` is the backup's, in deviations of the critics; `broken` names the
    agent's arrays that are not finite.
    """

    names: tuple[str, ...]
    raw: RawDiagnostics
    pessimism: float
    broken: tuple[str, ...]

    @property
    def acting(self) -> StageDiagnostics:
        """The stage that acts in evaluations."""
        return self.raw.stages[-1]

    @property
    def base(self) -> StageDiagnostics | None:
        """The stage that it was refined from, if there are several."""
        return self.raw.stages[0] if len(self.names) > 1 else None

    def lower(self, values: Float[AnyArray, "ensemble *rows"]) -> Float[np.ndarray, "*rows"]:
        """The pessimistic value of an ensemble's."""
        return np.asarray(pessimistic_value(jnp.asarray(values), self.pessimism))


def measure(
    agent: AbstractAgent,
    observations: Float[np.ndarray, "states obs"],
    samples: int,
    key: Key,
    *,
    pessimism: float = 0.0,
    actions: Float[np.ndarray, "states dim"] | None = None,
    windows: tuple[np.ndarray, np.ndarray] | None = None,
) -> Diagnostics:
    """Draws `samples` chunks of every stage at every state, and their paths.

    **Arguments:** `actions` are the data's chunks at the states, `windows` observations and
    chunks of other windows of the data.
    """
    found = jax.device_get(_measure(agent, observations, samples, key, actions, windows))
    names = tuple(stage.name for stage in policy_stages(agent).stages)
    return Diagnostics(names, found, pessimism, tuple(broken_arrays(agent)))


@eqx.filter_jit
def _measure(
    agent: AbstractAgent,
    observations: AnyArray,
    samples: int,
    key: Key,
    actions: AnyArray | None,
    windows: tuple[AnyArray, AnyArray] | None,
) -> RawDiagnostics:
    parts = policy_stages(agent)
    rows = jnp.repeat(jnp.asarray(observations), samples, axis=0)
    flow_key, path_key = jax.random.split(key)
    # Every stage has the same key: flows that follow each other start from the same noise.
    stages = tuple(_stage(parts, stage, rows, samples, flow_key) for stage in parts.stages)
    paths = None
    if parts.fine_tuned is not None:
        paths = _by_state(sde_diagnostics(parts.fine_tuned, parts.critic, rows, path_key), samples)
    return RawDiagnostics(
        stages,
        None if actions is None else _values(parts, observations, actions),
        None if windows is None else _values(parts, *windows),
        paths,
    )


def _values(parts: PolicyStages, observations: AnyArray, actions: AnyArray) -> Array:
    return parts.critic(jnp.asarray(observations), jnp.asarray(actions))


def _stage(
    parts: PolicyStages, stage: PolicyStage, rows: Array, samples: int, key: Key
) -> StageDiagnostics:
    if stage.route is None:
        actions, along = stage.draw(rows, key), None
    else:
        route = stage.route
        times = route.integrator.times
        states = route.integrator.path(
            ode_term(route.velocity, rows), times, route.start(rows, key)
        )
        actions = clip_action(states[-1])
        along = jax.lax.map(lambda now: parts.critic_along_flow(rows, *now), (states, times))
        along = jnp.moveaxis(along, 0, 1)
    values = parts.critic(rows, actions)
    actions = actions.reshape(-1, samples, actions.shape[-1])
    return StageDiagnostics(actions, *_by_state((values, along), samples))


def _by_state(tree: PyTree, samples: int) -> PyTree:
    """Arrays whose last axis is all rows, with an axis of states and one of samples."""
    return jax.tree.map(lambda a: a.reshape(*a.shape[:-1], -1, samples) if a.ndim else a, tree)


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
