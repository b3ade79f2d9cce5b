"""From the settings of an environment and of its data to the objects, in a policy's units."""

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qamx import registry
from qamx._utils.finding import Finding
from qamx.config import DataSettings, EnvironmentSettings
from qamx.config.datasets import (
    EpisodicDataSettings,
    HDF5DataSettings,
    LeRobotDataSettings,
    MinariDataSettings,
    NpzDataSettings,
)
from qamx.config.environments import (
    GymnasiumEnvironmentSettings,
    WalkDataSettings,
    WalkEnvironmentSettings,
)
from qamx.config.experiment import scheme_of
from qamx.config.ogbench import OGBenchDataSettings, OGBenchEnvironmentSettings
from qamx.data.formats import hdf5, lerobot, minari, npz
from qamx.data.formats.episodes import EpisodeReader
from qamx.data.formats.source import EpisodicData
from qamx.data.ogbench.dataset import OGBenchData, find_files
from qamx.data.source import (
    DataSource,
    NormalisedData,
    RandomSteps,
    ValidatedData,
    mean_std,
    min_max,
)
from qamx.data.transitions import Transitions
from qamx.envs import Environment, OGBenchEnvironment, WalkEnvironment, opened
from qamx.envs.gymnasium import GymnasiumEnvironment
from qamx.envs.worker import AfterPlugins, RegisteredHere, is_registered
from qamx.errors import UserError
from qamx.normalisation import ScaledEnvironment, Scaling, Vector

MakeEnvironment = Callable[[], Environment]


@dataclass(frozen=True)
class World:
    """Data and environment in the policy's units, and how those come of their own."""

    data: ValidatedData
    make_environment: MakeEnvironment
    scaling: Scaling


def build_world(
    data: DataSettings,
    environment: EnvironmentSettings,
    horizon: int,
    scaling: Scaling | None = None,
) -> World:
    """The data and the environment of an experiment.

    **Arguments:** `horizon` is the length of the windows that will be drawn; `scaling`, where
    given, is that of a run that goes on.

    **Raises:** `UserError` if the data cannot be had, or its units cannot be found out.
    """
    source, make = build_data(data, environment), build_environment(environment)
    if scaling is None:
        source, scaling = in_policy_units(source, make, data, environment)
    elif not scaling.is_identity:
        source = NormalisedData(source, scaling)
    return World(
        ValidatedData(source, data.source, horizon), scaled_environment(make, scaling), scaling
    )


def in_policy_units(
    source: DataSource,
    make: MakeEnvironment,
    data: DataSettings,
    environment: EnvironmentSettings,
) -> tuple[DataSource, Scaling]:
    """The data in the units that a new run learns in, and how those come of its own.

    **Raises:** `UserError` if the units cannot be found out.
    """
    scaling, first, found = _fit(source, make, data, environment)
    return (
        source if scaling.is_identity else NormalisedData(source, scaling, first, found)
    ), scaling


def build_environment(settings: EnvironmentSettings) -> MakeEnvironment:
    """What makes the environment, in its own units, in this process or another."""
    make = registry.environments[scheme_of(settings.id)].load_builder()(settings)
    return AfterPlugins(plugins, make) if (plugins := registry.plugins()) else make


def scaled_environment(make: MakeEnvironment, scaling: Scaling) -> MakeEnvironment:
    """What makes the same environment in a policy's units."""
    return make if scaling.is_identity else functools.partial(ScaledEnvironment, make, scaling)


def build_data(settings: DataSettings, environment: EnvironmentSettings) -> DataSource:
    """The data source, in its own units; rewards and masks are those of the environment's task."""
    return registry.datasets[scheme_of(settings.source)].load_builder()(settings, environment)


def _fit(
    source: DataSource,
    make: MakeEnvironment,
    data: DataSettings,
    environment: EnvironmentSettings,
) -> tuple[Scaling, Transitions | None, tuple[Finding, ...]]:
    """The scaling that the settings ask for; the first shard if that took one, and what was found
    in it.

    Of data in shards the first decides.
    """
    first: Transitions | None = None
    mean = deviation = low = high = np.zeros(0, np.float32)
    seen = acted = ()
    if data.normalise_observations or data.scale_actions == "data":
        first = source.load(0)
    if first is not None and data.normalise_observations:
        mean, deviation, seen = mean_std(data.source, np.asarray(first.observations))
    if first is not None and data.scale_actions == "data":
        low, high, acted = min_max(data.source, np.asarray(first.actions))
    elif data.scale_actions == "space" and not environment.unit_actions:
        low, high = _bounds(make, environment)
    return (
        Scaling(mean, deviation, low, high, environment.reward_scale, environment.reward_shift),
        first,
        (*seen, *acted),
    )


def _bounds(make: MakeEnvironment, settings: EnvironmentSettings) -> tuple[Vector, Vector]:
    """The bounds of an environment's actions, none where they are -1 and 1."""
    with opened(make) as env:
        low, high = (
            np.asarray(getattr(env, name), np.float32) for name in ("action_low", "action_high")
        )
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


# --- what the registry's built-in names stand for ---


def ogbench_environment(settings: OGBenchEnvironmentSettings) -> MakeEnvironment:
    """An OGBench task."""
    return functools.partial(OGBenchEnvironment, settings.name, settings.task, settings.reward)


def ogbench_data(
    settings: OGBenchDataSettings, environment: OGBenchEnvironmentSettings
) -> OGBenchData:
    """An OGBench data set, found, generated or downloaded."""
    files = find_files(
        settings.name,
        None if settings.directory is None else Path(settings.directory),
        shards=settings.shards,
        generate_episodes=settings.generate_episodes,
        generate_seed=settings.generate_seed or 0,
    )
    return OGBenchData(
        environment.name,
        environment.task,
        environment.reward,
        files,
        settings.updates_per_shard,
        cached=settings.cache is not False and len(files) > 1,
    )


def gymnasium_environment(settings: GymnasiumEnvironmentSettings) -> MakeEnvironment:
    """An environment with Gymnasium's interface, from an id or an entry point."""
    here = os.getcwd()
    if here not in sys.path:  # where a module of the user's own is looked for, as plugins are
        sys.path.append(here)
    make = functools.partial(
        GymnasiumEnvironment,
        settings.name,
        arguments=settings.arguments,
        max_episode_steps=settings.max_episode_steps,
        observation_keys=settings.observation_keys,
        success_key=settings.success_key,
        success_return=settings.success_return,
        sparse=settings.sparse,
        ends_at_success=settings.terminate_at_success,
    )
    return RegisteredHere(settings.name, make) if is_registered(settings.name) else make


def reading(settings: EpisodicDataSettings, environment: EnvironmentSettings) -> EpisodeReader:
    """How the episodes of a format of one's own become transitions for an environment."""
    default = "success" if environment.stops_at_success else "data"
    return EpisodeReader(
        observation_keys=settings.observation_keys,
        environment_keys=environment.observation_order,
        solved_at_last=settings.success == "last",
        sparse=environment.sparse,
        terminal=settings.terminal or default,
    )


def npz_data(settings: NpzDataSettings, environment: EnvironmentSettings) -> EpisodicData:
    """NumPy archives: a file, or a folder of shards."""
    return npz.npz_data(
        settings.name,
        settings.success,
        reading(settings, environment),
        settings.updates_per_shard,
    )


def hdf5_data(settings: HDF5DataSettings, environment: EnvironmentSettings) -> EpisodicData:
    """An HDF5 file in robomimic's layout or D4RL's."""
    return hdf5.hdf5_data(
        settings.name, settings.success, reading(settings, environment), settings.filter
    )


def minari_data(settings: MinariDataSettings, environment: EnvironmentSettings) -> EpisodicData:
    """A data set of Minari's."""
    return minari.minari_data(settings.name, settings.success, reading(settings, environment))


def lerobot_data(settings: LeRobotDataSettings, environment: EnvironmentSettings) -> EpisodicData:
    """A LeRobot data set."""
    return lerobot.lerobot_data(settings.name, settings.success, reading(settings, environment))


def walk_environment(settings: WalkEnvironmentSettings) -> MakeEnvironment:
    """A walker that is told where to go."""
    return functools.partial(WalkEnvironment, settings.walker)


def walk_data(settings: WalkDataSettings, environment: WalkEnvironmentSettings) -> RandomSteps:
    """Random steps of the environment's walker."""
    return RandomSteps(environment.walker, settings.steps)
