"""The data source that `qamx data inspect` is asked for, and the settings it is inspected with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from qamx import registry
from qamx._utils.finding import Finding
from qamx.building import build_data, build_environment, in_policy_units
from qamx.config import DataSettings, EnvironmentSettings, load
from qamx.config.datasets import OGBenchDataSettings
from qamx.config.experiment import name_of, scheme_of
from qamx.config.messages import ConfigError, ConfigProblem, field_errors
from qamx.data.source import DataSource
from qamx.envs import Environment
from qamx.errors import UserError

DEFAULT_HORIZON = 5
"""Steps of a window, as in most experiments."""

NO_ENVIRONMENT = EnvironmentSettings(id="none:none")
"""Stands for an unknown environment, and is never made."""


@dataclass(frozen=True)
class SourceOptions:
    """Options of the command line; None where they are not given."""

    environment: str | None = None
    task: int | None = None
    horizon: int | None = None
    directory: Path | None = None


@dataclass(frozen=True)
class InspectionTarget:
    """A data source with the settings that it is inspected for.

    **Arguments:**

    - `raw` is the source in its own units, `source` in a policy's.
    - `task` is the one that a run would learn, None for all of them.
    - `make_environment` is None if the environment is not known.
    - `findings` were made on the way.
    - `from_file`: an experiment file describes it, which has room for every key.
    """

    name: str
    horizon: int
    raw: DataSource
    source: DataSource
    task: int | None = None
    make_environment: Callable[[], Environment] | None = None
    findings: tuple[Finding, ...] = ()
    from_file: bool = True


def find_target(source: str, options: SourceOptions) -> InspectionTarget:
    """The target that a command line names.

    **Raises:** `UserError` if the settings are wrong or the source cannot be opened.
    """
    if source.endswith(".toml"):
        keys = {
            "environment.id": options.environment,
            "environment.task": options.task,
            "agent.horizon": options.horizon,
            "data.directory": options.directory,
        }
        overrides = [f"{key}={value}" for key, value in keys.items() if value is not None]
        experiment = load(source, overrides)
        task = getattr(experiment.environment, "task", None)
        return _target(experiment.data, experiment.environment, experiment.agent.horizon, task)
    data = _data_settings(source, options)
    environment = _environment_settings(data, options)
    target = _target(data, environment, options.horizon or DEFAULT_HORIZON, options.task)
    return replace(target, from_file=False)


def _target(
    data: DataSettings, environment: EnvironmentSettings, horizon: int, task: int | None
) -> InspectionTarget:
    raw = build_data(data, environment)
    if environment is NO_ENVIRONMENT:
        return InspectionTarget(data.source, horizon, raw, raw)
    make = build_environment(environment)
    target = InspectionTarget(data.source, horizon, raw, raw, task, make)
    try:
        source, _ = in_policy_units(raw, make, data, environment)
    except UserError as error:
        problem = Finding(
            "units-unknown", "refuse", str(error), "the data cannot be brought to [-1, 1]"
        )
        return replace(target, findings=(problem,))
    return replace(target, source=source)


def _data_settings(source: str, options: SourceOptions) -> DataSettings:
    registry.load_installed_plugins()
    if not source:
        raise UserError(
            'SOURCE: found ""; write a format and a place, e.g. npz:mine.npz, an OGBench set, e.g. '
            "ogbench:cube-double-play-v0, or an experiment's file"
        )
    if ":" not in source and Path(source).exists():
        raise UserError(
            f"SOURCE: found {source}, a path; write its format before it, as in npz:{source}"
        )
    model = registry.datasets[scheme_of(source)].load_settings()
    table: dict[str, Any] = {"source": source}
    if options.directory is not None:
        table["directory"] = str(options.directory)
    sharded = "-100m-" in source or Path(name_of(source)).is_dir()
    if sharded and "updates_per_shard" in model.model_fields:
        table["updates_per_shard"] = 1000  # required, and used by runs alone
    settings = _validated(model, table, {"source": "SOURCE", "directory": "--directory"})
    assert isinstance(settings, DataSettings)
    return settings


def _environment_settings(data: DataSettings, options: SourceOptions) -> EnvironmentSettings:
    name = options.environment
    if name is None and isinstance(data, OGBenchDataSettings):
        name = data.environment
    if name is None:
        return NO_ENVIRONMENT
    model = registry.environments[scheme_of(name)].load_settings()
    table: dict[str, Any] = {"id": name}
    if "task" in model.model_fields:
        table["task"] = options.task or 1
    elif options.task is not None:
        table["task"] = options.task
    if "max_episode_steps" in model.model_fields:
        table["max_episode_steps"] = 1  # some environments have no limit, and none is played here
    settings = _validated(model, table, {"id": "--environment", "task": "--task"})
    assert isinstance(settings, EnvironmentSettings)
    objection = settings.objection(data)
    if objection:
        raise UserError(f"--environment: {objection}")
    return settings


def _validated(
    model: type[BaseModel], table: Mapping[str, Any], options: Mapping[str, str]
) -> BaseModel:
    """Settings, or a message that names the options of the keys at fault."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        problems = [
            ConfigProblem(options.get(found.key[0], ".".join(found.key)), "", found.text)
            for found in field_errors(error, model, table)
        ]
        raise ConfigError(problems) from error
