"""What is inspected: a data source by its name, or the one of an experiment file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from qamx import registry
from qamx._utils.finding import Finding
from qamx.config import DataSettings, EnvironmentSettings, load
from qamx.config.experiment import name_of, scheme_of
from qamx.config.messages import ConfigError, Problem, findings
from qamx.config.ogbench import OGBenchDataSettings
from qamx.data.source import DataSource
from qamx.envs import Environment
from qamx.errors import UserError
from qamx.worlds import build_data, build_environment, in_policy_units

HORIZON = 5
"""Steps of a window where nothing else is said: those of most experiments."""

NOWHERE = EnvironmentSettings(id="none:none")
"""An environment that is never made: for data whose own is not known."""


@dataclass(frozen=True)
class Options:
    """What the command line says besides the source; None where it says nothing."""

    environment: str | None = None
    task: int | None = None
    horizon: int | None = None
    directory: Path | None = None


@dataclass(frozen=True)
class Subject:
    """A data source, and what it is inspected for.

    **Arguments:**

    - `raw` is the source in its own units, `source` in those that a policy learns in.
    - `task` is the one that a run would learn, None if all are of interest.
    - `environment` makes the environment, None where it is not known.
    - `findings` came up on the way.
    - `from_file` says that an experiment file described it, which has room for every key.
    """

    name: str
    horizon: int
    raw: DataSource
    source: DataSource
    task: int | None
    environment: Callable[[], Environment] | None
    findings: tuple[Finding, ...] = ()
    from_file: bool = True


def find_subject(source: str, options: Options) -> Subject:
    """The subject that a command line names.

    **Raises:** `UserError` if the settings are wrong or the source cannot be opened.
    """
    if source.endswith(".toml"):
        experiment = load(source, list(_overrides(options)))
        data, environment = experiment.data, experiment.environment
        return _subject(
            data, environment, experiment.agent.horizon, getattr(environment, "task", None)
        )
    data = _data(source, options)
    environment = _environment(data, options)
    subject = _subject(data, environment, options.horizon or HORIZON, options.task)
    return replace(subject, from_file=False)


def _overrides(options: Options) -> Any:
    """What `--set` would say in the place of the options."""
    keys = {
        "environment.id": options.environment,
        "environment.task": options.task,
        "agent.horizon": options.horizon,
        "data.directory": options.directory,
    }
    return (f"{key}={value}" for key, value in keys.items() if value is not None)


def _subject(
    data: DataSettings, environment: EnvironmentSettings, horizon: int, task: int | None
) -> Subject:
    raw = build_data(data, environment)
    if environment is NOWHERE:
        return Subject(data.source, horizon, raw, raw, None, None)
    make = build_environment(environment)
    subject = Subject(data.source, horizon, raw, raw, task, make)
    try:
        source, _ = in_policy_units(raw, make, data, environment)
    except UserError as error:
        problem = Finding(
            "units-unknown", "refuse", str(error), "the data cannot be brought to [-1, 1]"
        )
        return replace(subject, findings=(problem,))
    return replace(subject, source=source)


def _data(source: str, options: Options) -> DataSettings:
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
        table["updates_per_shard"] = 1000  # it must be said, and matters to a run alone
    settings = _validated(model, table, {"source": "SOURCE", "directory": "--directory"})
    assert isinstance(settings, DataSettings)
    return settings


def _environment(data: DataSettings, options: Options) -> EnvironmentSettings:
    name = options.environment
    if name is None and isinstance(data, OGBenchDataSettings):
        name = data.environment
    if name is None:
        return NOWHERE
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
    model: type[BaseModel], table: Mapping[str, Any], origins: Mapping[str, str]
) -> BaseModel:
    """Settings, or a message that names the options they came from."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        found = findings(error, model, table)
        raise ConfigError(
            [Problem(origins.get(one.key[0], ".".join(one.key)), "", one.text) for one in found]
        ) from error
