"""Inspection of a policy: measures of its stages at states, and their report."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

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
from qamx.policies.base import Critic, clip_action
from qamx.rl import pessimistic_value
from qamx.tools.inspect_policy.states import (
    InspectedRun,
    States,
    Windows,
    calibration,
    select_states,
)
from qamx.training.divergence import broken_arrays


def policy_stages(agent: AbstractAgent) -> list[PolicyStage]:
    """The stages of the agent's policy as an evaluation samples it.

    The last one acts; the first one is what it was refined from.
    """
    return agent.policy.for_evaluation().stages(agent.critic)


def _fine_tuned(policy: AbstractPolicy) -> AbstractFineTunedFlow | None:
    """The flow that is fine-tuned on its base's SDE, if there is one."""
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


def sde_diagnostics(
    policy: AbstractFineTunedFlow, critic: AbstractCritic, observation: Array, key: Key
) -> Paths | None:
    """A path for each observation; None for a flow whose objective is unknown."""
    h = policy.integrator.step_size
    if isinstance(policy, BackpropagatedFlow):
        states = policy.sample_path(policy.velocity, observation, key)
        costs = path_costs(*policy.change_along(observation, states[:-1]), h)
        # Its cost of control has no factor h: divided by 1/h, it is the path KL less h tau Q.
        return Paths(costs, jnp.asarray(h * policy.inverse_temperature), None)
    if not isinstance(policy, AdjointMatchedFlow):
        return None
    paths = policy.draw_paths(critic, observation, key)
    price = policy.inverse_temperature.control_price()
    adjoints, boundary = paths.adjoints / price, paths.boundary / price
    norms = jnp.linalg.norm(jnp.concatenate([adjoints, boundary[None]]), axis=-1)
    costs, tau = path_costs(paths.change, paths.sigma, h), policy.inverse_temperature.value()
    targets = (paths.sigma[:, None] * norms[:-1]) ** 2
    residuals = matching_residuals(paths.change, adjoints, paths.sigma)
    return Paths(
        costs, tau, Adjoints(norms, targets, residuals, jnp.mean(boundary == 0.0, axis=-1))
    )


class StageDiagnostics(eqx.Module):
    """A stage's chunks and their values; `along` are values along its flow at 0, h, ..., 1."""

    actions: Float[AnyArray, "states samples dim"]
    values: Float[AnyArray, "ensemble states samples"]
    along: Float[AnyArray, "ensemble times states samples"] | None


class Diagnostics(eqx.Module):
    """Samples of every stage at every state, and what the critics say of the data.

    `data_values` are the critics' values of the data's chunks at the same states,
    `window_values` of other windows of the data; `paths` are those of the fine-tuned flow.
    """

    stages: tuple[StageDiagnostics, ...]
    data_values: Float[AnyArray, "ensemble states"] | None
    window_values: Float[AnyArray, "ensemble windows"] | None
    paths: Paths | None


@eqx.filter_jit
def measure(
    agent: AbstractAgent,
    observations: Float[AnyArray, "states obs"],
    samples: int,
    key: Key,
    actions: Float[AnyArray, "states dim"] | None = None,
    windows: tuple[AnyArray, AnyArray] | None = None,
) -> Diagnostics:
    """Draws `samples` chunks of every stage at every state, and their paths.

    **Arguments:** `actions` are the data's chunks at the states, `windows` observations and
    chunks of other windows of the data.
    """
    policy, critic = agent.policy.for_evaluation(), agent.critic
    rows = jnp.repeat(jnp.asarray(observations), samples, axis=0)
    flow_key, path_key = jax.random.split(key)
    # Every stage has the same key: flows that follow each other start from the same noise.
    stages = tuple(_stage(critic, s, rows, samples, flow_key) for s in policy.stages(critic))
    paths = None
    if (fine_tuned := _fine_tuned(policy)) is not None:
        paths = _by_state(sde_diagnostics(fine_tuned, critic.target, rows, path_key), samples)

    def values(observations: AnyArray, actions: AnyArray) -> Array:
        return critic.target(jnp.asarray(observations), jnp.asarray(actions))

    return Diagnostics(
        stages,
        None if actions is None else values(observations, actions),
        None if windows is None else values(*windows),
        paths,
    )


def _stage(
    critic: Critic, stage: PolicyStage, rows: Array, samples: int, key: Key
) -> StageDiagnostics:
    along = None
    if (route := stage.route) is None:
        actions = stage.draw(rows, key)
    else:
        times, start = route.integrator.times, route.start(rows, key)
        states = route.integrator.path(ode_term(route.velocity, rows), times, start)
        actions = clip_action(states[-1])
        along = jax.lax.map(lambda now: critic.along_flow(rows, *now), (states, times))
        along = jnp.moveaxis(along, 0, 1)
    values = critic.target(rows, actions)
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
    found: Diagnostics
    samples: int
    seed: int

    @functools.cached_property
    def names(self) -> list[str]:
        """The names of the stages."""
        return [stage.name for stage in policy_stages(self.run.agent)]

    @property
    def acting(self) -> StageDiagnostics:
        """The stage that acts in evaluations."""
        return self.found.stages[-1]

    @property
    def base(self) -> StageDiagnostics | None:
        """The stage that it was refined from; None where one network does all."""
        return self.found.stages[0] if len(self.found.stages) > 1 else None

    @property
    def horizon(self) -> int:
        """Environment steps of a chunk."""
        return self.run.experiment.agent.horizon

    @functools.cached_property
    def broken(self) -> list[str]:
        """The agent's arrays that are not finite."""
        return broken_arrays(self.run.agent)

    @property
    def finite(self) -> bool:
        """True if all parameters and outputs are finite."""
        arrays = jax.tree.leaves(eqx.filter(self.found, eqx.is_array_like))
        return not self.broken and all(np.isfinite(array).all() for array in arrays)

    def lower(self, values: Float[AnyArray, "ensemble *rows"]) -> Float[np.ndarray, "*rows"]:
        """The pessimistic value of an ensemble's, with the pessimism of the backup."""
        pessimism = self.run.experiment.agent.pessimism
        return np.asarray(pessimistic_value(jnp.asarray(values), pessimism))

    @functools.cached_property
    def gains(self) -> Float[np.ndarray, " states"] | None:
        """The pessimistic value of the acting policy less its base's, by state."""
        if self.base is None:
            return None
        return np.mean(self.lower(self.acting.values) - self.lower(self.base.values), axis=-1)

    @functools.cached_property
    def path_kls(self) -> Float[np.ndarray, " states"] | None:
        """The path KL of the fine-tuned flow at each state, in nats a chunk."""
        paths = self.found.paths
        return None if paths is None else np.mean(np.sum(paths.costs, axis=0), axis=-1)

    @property
    def is_unchanged(self) -> bool:
        """True if the fine-tuned flow equals its base bitwise."""
        return self.path_kls is not None and not np.any(self.path_kls)

    @functools.cached_property
    def tau_gain(self) -> Float[np.ndarray, " states"] | None:
        """tau times the mean critic's gain, the bound of the path KL at the solution (Jensen)."""
        if self.found.paths is None:
            return None
        # A fine-tuned flow is the second stage: it follows its base.
        base, own = (np.mean(stage.values, axis=(0, -1)) for stage in self.found.stages[:2])
        return float(self.found.paths.inverse_temperature) * (own - base)

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
    states, windows = select_states(run, where, count, seed), calibration(run, seed)
    pairs = None if windows is None else (windows.observations, windows.actions)
    key = jax.random.key(seed)
    found = measure(run.agent, states.observations, samples, key, states.actions, pairs)
    return PolicyReport(run, states, windows, jax.device_get(found), samples, seed)
