"""Inspection of a data set: the target of `qamx data inspect`, and its report."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from qamx import registry
from qamx._utils.finding import Finding, Level, ranked
from qamx.building import build_data, build_environment, in_policy_units
from qamx.config import DataSettings, EnvironmentSettings, load
from qamx.config.datasets import EpisodicDataSettings, OGBenchDataSettings
from qamx.config.environments import GymnasiumEnvironmentSettings
from qamx.config.experiment import name_of, scheme_of
from qamx.config.messages import ConfigError, ConfigProblem, field_errors
from qamx.data.inspection.episode_checks import ShardHistory, check_leakage
from qamx.data.inspection.statistics import DatasetStatistics, row_hashes
from qamx.data.inspection.summary import (
    CHECKS,
    REWARD_CHECKS,
    DatasetSummary,
    RewardSummary,
    run_checks,
)
from qamx.data.source import DataSource, findings_of, has_teleports, validation_of
from qamx.envs import Environment, opened
from qamx.errors import UserError

DEFAULT_HORIZON = 5
"""Steps of a window, as in most experiments."""

NO_ENVIRONMENT = EnvironmentSettings(id="none:none")
"""Stands for an unknown environment, and is never made."""


@dataclass(frozen=True)
class InspectionTarget:
    """A data source with the settings that it is inspected for.

    **Arguments:**

    - `raw` is the source in its own units, `source` in a policy's.
    - `task` is the one that a run would learn, None for all of them.
    - `make_environment` is None if the environment is not known.
    - `units` describes the actions' units, where they are scaled.
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
    units: str = ""
    from_file: bool = True


def find_target(
    source: str,
    environment: str | None,
    task: int | None,
    horizon: int | None,
    directory: Path | None,
) -> InspectionTarget:
    """The target that a command line names; options that it does not give are None.

    **Raises:** `UserError` if the settings are wrong or the source cannot be opened.
    """
    if source.endswith(".toml"):
        keys = {
            "environment.id": environment,
            "environment.task": task,
            "agent.horizon": horizon,
            "data.directory": directory,
        }
        given = [f"{key}={value}" for key, value in keys.items() if value is not None]
        experiment = load(source, given)
        task = getattr(experiment.environment, "task", None)
        return _target(experiment.data, experiment.environment, experiment.agent.horizon, task)
    data = _data_settings(source, directory)
    settings = _environment_settings(data, environment, task)
    return replace(_target(data, settings, horizon or DEFAULT_HORIZON, task), from_file=False)


def _target(
    data: DataSettings, environment: EnvironmentSettings, horizon: int, task: int | None
) -> InspectionTarget:
    raw = build_data(data, environment)
    if environment is NO_ENVIRONMENT:
        return InspectionTarget(data.source, horizon, raw, raw)
    make, findings, units = build_environment(environment), (), ""
    try:
        source, scaling = in_policy_units(raw, make, data, environment)
        if (low := scaling.action_low).size:
            bounds = f"{low.min():g} to {scaling.action_high.max():g}"
            units = f"{bounds} are scaled to [-1, 1]"
    except UserError as error:
        effect = "the data cannot be brought to [-1, 1]"
        source, findings = raw, (Finding("units-unknown", "refuse", str(error), effect),)
    return InspectionTarget(data.source, horizon, raw, source, task, make, findings, units)


def _data_settings(source: str, directory: Path | None) -> DataSettings:
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
    if directory is not None:
        table["directory"] = str(directory)
    sharded = "-100m-" in source or Path(name_of(source)).is_dir()
    if sharded and "updates_per_shard" in model.model_fields:
        table["updates_per_shard"] = 1000  # required, and used by runs alone
    return _validated(model, table, {"source": "SOURCE", "directory": "--directory"})


def _environment_settings(
    data: DataSettings, name: str | None, task: int | None
) -> EnvironmentSettings:
    if name is None and isinstance(data, OGBenchDataSettings):
        name = data.environment
    if name is None:
        return NO_ENVIRONMENT
    model = registry.environments[scheme_of(name)].load_settings()
    table: dict[str, Any] = {"id": name}
    if task is not None or "task" in model.model_fields:
        table["task"] = 1 if task is None else task
    if "max_episode_steps" in model.model_fields:
        table["max_episode_steps"] = 1  # some environments have no limit, and none is played here
    settings = _validated(model, table, {"id": "--environment", "task": "--task"})
    if objection := settings.objection(data):
        raise UserError(f"--environment: {objection}")
    return settings


def _validated(model: type[BaseModel], table: Mapping[str, Any], options: Mapping[str, str]) -> Any:
    """Settings, or a message that names the options of the keys at fault."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        problems = [
            ConfigProblem(options.get(found.key[0], ".".join(found.key)), "", found.text)
            for found in field_errors(error, model, table)
        ]
        raise ConfigError(problems) from error


SAMPLE_ROWS = 20_000
"""Rows, over all shards, that figures are drawn from."""

FILE_KEYS = (
    *(f"data.{key}" for key in EpisodicDataSettings.model_fields),
    *(f"environment.{key}" for key in GymnasiumEnvironmentSettings.model_fields),
)
"""Keys that a message may ask for, and that only an experiment file can set."""


@dataclass(frozen=True)
class DataReport:
    """Findings about a data source, and its summary.

    **Arguments:** `summary` is None if no shard could be read; `rewards` has an entry a task;
    `shards` are the numbers of inspected and of all shards.
    """

    name: str
    horizon: int
    findings: tuple[Finding, ...]
    summary: DatasetSummary | None
    rewards: dict[str, RewardSummary]
    shards: tuple[int, int]
    validation_rows: int | None
    units: str = ""

    def count(self, level: Level) -> int:
        """The number of findings of a level."""
        return sum(finding.level == level for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.name,
            "horizon": self.horizon,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "shards": {"looked_at": self.shards[0], "of": self.shards[1]},
            "data": self.summary.to_dict() if self.summary else None,
            "tasks": {name: rewards.to_dict() for name, rewards in self.rewards.items()},
            "validation_rows": self.validation_rows,
        }


def inspect(target: InspectionTarget, shards: int | None = None) -> DataReport:
    """Inspects a data source, or its first `shards` shards."""
    total = target.source.shards
    inspection = _Inspection(target, min(shards or total, total))
    for shard in range(inspection.shards):
        inspection.add(shard)
    return inspection.report()


class _Inspection:
    """Findings and summaries of the shards inspected so far."""

    def __init__(self, target: InspectionTarget, shards: int):
        self.target, self.shards = target, shards
        self.tasks = getattr(target.raw, "tasks", None)
        self.every_task = self.tasks is not None and target.task is None
        self.findings: list[Finding] = list(target.findings)
        self.summaries: list[DatasetSummary] = []
        self.rewards: dict[str, list[RewardSummary]] = {}
        self.history = ShardHistory()
        self.sizes: tuple[int, int] | None = None
        try:
            validation = validation_of(target.source)
        except UserError as error:
            validation = None
            self.findings.append(_unreadable(error, "validation"))
        self.validation = None if validation is None else row_hashes(validation)
        self.leaked = np.zeros(0 if validation is None else len(validation), bool)

    def report(self) -> DataReport:
        rewards = {name: RewardSummary.merge(shards) for name, shards in self.rewards.items()}
        self.findings += check_leakage(self.leaked)
        if self.tasks is not None:
            self.findings += _unsolved(rewards)
        return DataReport(
            self.target.name,
            self.target.horizon,
            tuple(ranked(map(self._with_remedy, self.findings))),
            DatasetSummary.merge(self.summaries) if self.summaries else None,
            rewards,
            (self.shards, self.target.source.shards),
            None if self.validation is None else len(self.validation),
            self.target.units,
        )

    def add(self, shard: int) -> None:
        """Inspects a shard."""
        source = self.target.source
        where = f"shard {shard}" if source.shards > 1 else ""
        try:
            transitions = source.load(shard)
        except UserError as error:
            self.findings.append(_unreadable(error, where))
            return
        # With every task inspected, its own rewards are checked, not those of the source.
        checks = [c for c in CHECKS if not (self.every_task and c in REWARD_CHECKS)]
        found, data = run_checks(transitions, self.target.horizon, has_teleports(source), checks)
        findings = [*(findings_of(source) if shard == 0 else ()), *found]
        if data is not None:
            findings += self._compare(shard, data)
        self.findings += (replace(self._without_bounds(f), where=where) for f in findings)
        if data is not None:
            self.findings += self._check_tasks(shard, data, where)

    def _compare(self, shard: int, data: DatasetStatistics) -> Iterator[Finding]:
        """Compares a shard with those before, the validation data and the environment."""
        yield from self.history.compare(shard, data)
        if self.validation is not None:
            self.leaked |= np.isin(self.validation, data.row_hashes)
        sizes = len(data.observations.mean), len(data.actions.mean)
        if self.sizes is None:
            self.sizes = sizes
            if self.target.make_environment is not None:
                with opened(self.target.make_environment) as env:
                    expected = env.observation_size, env.action_size
                if sizes != expected:
                    yield _other_sizes(sizes, expected, "the environment")
        if sizes == self.sizes:
            self.summaries.append(DatasetSummary.of(data, max(SAMPLE_ROWS // self.shards, 100)))
        else:
            yield _other_sizes(sizes, self.sizes, "the first shard")

    def _check_tasks(self, shard: int, data: DatasetStatistics, where: str) -> Iterator[Finding]:
        """Summarises the rewards of every task that the source knows, and checks them if none was
        chosen."""
        if self.tasks is None:
            self.rewards.setdefault("the data's", []).append(RewardSummary.of(data))
            return
        for number, rewards, masks in self.tasks(shard):
            transitions = replace(data.transitions, rewards=rewards, masks=masks)
            task = DatasetStatistics(transitions, data.horizon, data.has_teleports)
            self.rewards.setdefault(f"task {number}", []).append(RewardSummary.of(task))
            if self.every_task:
                place = ", ".join(filter(None, (where, f"task {number}")))
                for check in REWARD_CHECKS:
                    yield from (replace(finding, where=place) for finding in check(task))

    def _without_bounds(self, finding: Finding) -> Finding:
        """Only warns of actions outside [-1, 1] if the environment's bounds are not known; tells
        the units of those that are."""
        if finding.id != "actions-outside" or self.target.make_environment is not None:
            scaled = finding.id == "actions-outside" and self.target.units
            return replace(finding, found=f"{finding.found}; {scaled}") if scaled else finding
        remedy = "name the --environment: a run scales actions by its bounds"
        return replace(finding, level="warn", remedy=remedy)

    def _with_remedy(self, finding: Finding) -> Finding:
        """Adds a remedy to messages that ask for keys which are no options of the command."""
        asks = any(key in finding.found for key in FILE_KEYS)
        if self.target.from_file or finding.remedy or not asks:
            return finding
        remedy = "these keys belong in an experiment file: inspect one in the place of the source"
        return replace(finding, remedy=remedy)


def _unsolved(rewards: dict[str, RewardSummary]) -> Iterator[Finding]:
    """Notes tasks with partial rewards that no episode in the data solves."""
    effect = "a policy has to put the solution together from parts"
    for name, task in rewards.items():
        if task.solved_rows == 0 and task.low < task.high:
            found = f"no row is solved; the best reward is {task.high:g}"
            yield Finding("task-unsolved", "note", found, effect, where=name)


def _unreadable(error: UserError, where: str) -> Finding:
    effect = "training will stop when it reaches this data"
    return Finding("unreadable", "refuse", str(error), effect, where=where)


def _other_sizes(sizes: tuple[int, int], expected: tuple[int, int], owner: str) -> Finding:
    found = f"observations of {sizes[0]} and actions of {sizes[1]} dimensions, and {owner} has "
    found += f"{expected[0]} and {expected[1]}"
    effect = "a policy cannot act with other sizes than it learned with"
    remedy = "name data of this environment in data.source"
    return Finding("sizes", "refuse", found, effect, remedy)
