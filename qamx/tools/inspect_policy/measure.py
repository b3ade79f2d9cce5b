"""Measures of a policy at states: samples, values, flows, SDE paths."""

import functools
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
    AbstractFineTunedFlow,
    AdjointMatchedFlow,
    BackpropagatedFlow,
    PolicyStage,
)
from qamx.policies.base import clip_action
from qamx.rl import pessimistic_value
from qamx.tools.inspect_policy.stages import PolicyStages, policy_stages
from qamx.training.divergence import broken_arrays


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
