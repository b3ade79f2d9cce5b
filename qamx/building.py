"""Builds objects from settings: a function for each section of an experiment.

The settings build their own objects (`settings.build`); a plugin's registered builder takes the
place of that method. Its signatures:

- agent: `(settings, parts, key) -> AbstractAgent`, or an agent class, whose keyword arguments are
  then the settings of the same names
- schedule: `(settings) -> Schedule`
- environment: `(settings) -> Callable[[], Environment]`
- data set: `(settings, environment_settings) -> DataSource`
- inverse temperature: `(settings) -> AbstractInverseTemperature`
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import numpy as np
import optax

from qamx import registry
from qamx._types import Key
from qamx._utils.backend import compiler_options
from qamx._utils.machine import usable_cores
from qamx.agents import AbstractAgent, Parts, adam
from qamx.config import DataSettings, EnvironmentSettings
from qamx.config.agents import AgentSettings
from qamx.config.experiment import EvaluationSettings, ScheduleSettings, scheme_of
from qamx.data.replay import BalancedSampling, Sampling, UniformSampling
from qamx.data.source import DataSource, NormalisedData, ValidatedData, mean_std, min_max
from qamx.data.transitions import Transitions
from qamx.envs import Environment, opened
from qamx.envs.vector import make_after_plugins
from qamx.errors import UserError
from qamx.flow import SOLVERS, Integrator
from qamx.nn import Networks
from qamx.normalisation import Normalisation, NormalisedEnvironment, Vector
from qamx.rl import Backup
from qamx.schedules import Schedule
from qamx.training.plan import Evaluation

MakeEnvironment = Callable[[], Environment]

# --- [agent] ---


def build_agent(
    settings: AgentSettings, observation_size: int, action_size: int, key: Key
) -> AbstractAgent:
    """A fresh agent of the registered method, in the sizes of a problem."""
    parts = build_parts(settings, observation_size, action_size)
    entry = registry.agents[settings.method]
    builder = entry.load_builder()
    if not isinstance(builder, type):
        return settings.with_best_of_n(entry.build(settings, parts, key))
    # The class of a plugin: each argument is the value of the key of its name.
    names = inspect.signature(builder).parameters.keys() - {"parts", "key"}
    agent = builder(parts, **settings.arguments(names), key=key)
    return agent if "best_of_n" in names else settings.with_best_of_n(agent)


def initialise_agent(
    settings: AgentSettings, observation_size: int, action_size: int, key: Key
) -> AbstractAgent:
    """The agent of `build_agent` from one compiled program, which takes less time than a program
    for each of its operations; a plugin's builder is called as it is."""
    build: Any = functools.partial(build_agent, settings, observation_size, action_size)
    if registry.agents[settings.method].builder is None:
        compiled: Any = eqx.filter_jit  # takes the options of `jax.jit`
        build = compiled(build, compiler_options=compiler_options(once=True))
    return build(key)


def build_parts(settings: AgentSettings, observation_size: int, action_size: int) -> Parts:
    """The parts that the common keys of `[agent]` describe."""
    networks = Networks(
        observation_size=observation_size,
        action_dim=settings.horizon * action_size,
        actor_hidden=tuple(settings.actor_hidden),
        critic_hidden=tuple(settings.critic_hidden),
        ensemble_size=settings.ensemble_size,
        actor_layer_norm=settings.actor_layer_norm,
        critic_layer_norm=settings.critic_layer_norm,
    )
    backup = Backup(settings.discount, settings.horizon, settings.pessimism)
    integrator = Integrator(settings.flow_steps, SOLVERS[settings.solver]())
    return Parts(networks, backup, integrator, settings.target_rate)


def build_optimiser(settings: AgentSettings) -> optax.GradientTransformation:
    """Adam with the learning rate and the clipping of `[agent]`."""
    clip = None if settings.gradient_clip == "none" else float(settings.gradient_clip)
    return adam(settings.learning_rate, clip)


def build_sampling(settings: AgentSettings) -> Sampling:
    """The sampling of batches that `[agent]` names."""
    sampling = {"uniform": UniformSampling, "balanced": BalancedSampling}[settings.sampling]
    return sampling(settings.batch_size, settings.horizon, settings.discount)


# --- [schedule] and [evaluation] ---


def build_schedule(settings: ScheduleSettings) -> Schedule:
    """The phases that `[schedule]` describes."""
    return registry.schedules.build(settings.kind, settings)


def build_evaluation(settings: EvaluationSettings) -> Evaluation:
    """The evaluations that `[evaluation]` describes; `auto` is one process a core."""
    workers = settings.workers
    if workers == "auto":
        workers = min(usable_cores(), settings.environments, settings.episodes)
    return Evaluation(settings.episodes, settings.environments, settings.behaviour, workers)


# --- [environment] and [data] ---


def build_environment(settings: EnvironmentSettings) -> MakeEnvironment:
    """A function that makes the environment in its own units, in this process or another."""
    make = registry.environments.build(scheme_of(settings.id), settings)
    plugins = registry.plugins()
    return functools.partial(make_after_plugins, plugins, make) if plugins else make


def scaled_environment(make: MakeEnvironment, scaling: Normalisation) -> MakeEnvironment:
    """A function that makes the same environment in a policy's units."""
    return make if scaling.is_identity else functools.partial(NormalisedEnvironment, make, scaling)


def build_data(settings: DataSettings, environment: EnvironmentSettings) -> DataSource:
    """The data source, in its own units; rewards and masks are those of the environment's task."""
    return registry.datasets.build(scheme_of(settings.source), settings, environment)


@dataclass(frozen=True)
class LearningTask:
    """Data set and environment in the policy's units, with the normalisation."""

    data: ValidatedData
    make_environment: MakeEnvironment
    scaling: Normalisation


def build_task(
    data: DataSettings,
    environment: EnvironmentSettings,
    horizon: int,
    scaling: Normalisation | None = None,
) -> LearningTask:
    """The data and the environment of an experiment.

    **Arguments:** `horizon` is the length of the windows that will be drawn; `scaling`, where
    given, is that of a run that is resumed.

    **Raises:** `UserError` if the data cannot be had, or its units cannot be determined.
    """
    source, make = build_data(data, environment), build_environment(environment)
    if scaling is None:
        source, scaling = in_policy_units(source, make, data, environment)
    elif not scaling.is_identity:
        source = NormalisedData(source, scaling)
    checked = ValidatedData(source, data.source, horizon)
    return LearningTask(checked, scaled_environment(make, scaling), scaling)


def in_policy_units(
    source: DataSource, make: MakeEnvironment, data: DataSettings, environment: EnvironmentSettings
) -> tuple[DataSource, Normalisation]:
    """The data in the units that a new run learns in, and the normalisation.

    **Raises:** `UserError` if the units cannot be determined.
    """
    mean = deviation = low = high = np.zeros(0, np.float32)
    first: Transitions | None = None
    seen = acted = ()
    if data.normalise_observations or data.scale_actions == "data":
        first = source.load(0)
    if first is not None and data.normalise_observations:
        mean, deviation, seen = mean_std(data.source, np.asarray(first.observations))
    if first is not None and data.scale_actions == "data":
        low, high, acted = min_max(data.source, np.asarray(first.actions))
    elif data.scale_actions == "space" and not environment.unit_actions:
        low, high = _bounds(make, environment)
    reward = environment.reward_scale, environment.reward_shift
    scaling = Normalisation(mean, deviation, low, high, *reward)
    if scaling.is_identity:
        return source, scaling
    return NormalisedData(source, scaling, first, (*seen, *acted)), scaling


def _bounds(make: MakeEnvironment, settings: EnvironmentSettings) -> tuple[Vector, Vector]:
    """The bounds of an environment's actions, none where they are -1 and 1."""
    with opened(make) as env:
        names = ("action_low", "action_high")
        low, high = (np.asarray(getattr(env, name), np.float32) for name in names)
    with np.errstate(over="ignore", invalid="ignore"):
        bounded = np.isfinite(high - low).all()
    if not bounded:
        raise UserError(
            f'data.scale_actions: found "space", and the actions of {settings.id} have no bounds '
            f'({low.min():g} to {high.max():g}); write "data" for the range of the data'
        )
    if (low == -1).all() and (high == 1).all():
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    return low, high
