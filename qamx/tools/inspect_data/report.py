"""The report of `qamx data inspect`."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from qamx import registry
from qamx._utils.finding import Finding, ranked
from qamx.building import build_data, build_environment, in_policy_units
from qamx.config import DataSettings, EnvironmentSettings, load
from qamx.config.datasets import EpisodicDataSettings, OGBenchDataSettings
from qamx.config.environments import GymnasiumEnvironmentSettings
from qamx.config.experiment import name_of, scheme_of
from qamx.config.messages import ConfigError, ConfigProblem, field_errors
from qamx.data.inspection.episode_checks import Shards, leakage
from qamx.data.inspection.report import CHECKS, REWARD_CHECKS, Check, Portrait, Rewarding, examine
from qamx.data.inspection.statistics import Facts, row_hashes
from qamx.data.source import DataSource, findings_of, jumps_of, validation_of
from qamx.data.transitions import Transitions
from qamx.envs import Environment, opened
from qamx.errors import UserError

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
        found = field_errors(error, model, table)
        raise ConfigError(
            [
                ConfigProblem(origins.get(one.key[0], ".".join(one.key)), "", one.text)
                for one in found
            ]
        ) from error


SAMPLE_ROWS = 20_000
"""Rows, over all shards, that figures are drawn from."""

KEYS = (
    *(f"data.{key}" for key in EpisodicDataSettings.model_fields),
    *(f"environment.{key}" for key in GymnasiumEnvironmentSettings.model_fields),
)
"""What a message about data of one's own may ask for, and an experiment file alone can say."""


@dataclass(frozen=True)
class Report:
    """What was found in a data source.

    **Arguments:** `portrait` is None if no shard could be read; `rewards` has an entry a task;
    `shards` says how many of how many were read, `validation_rows` what lies beside them.
    """

    name: str
    horizon: int
    findings: tuple[Finding, ...]
    portrait: Portrait | None
    rewards: dict[str, Rewarding]
    shards: tuple[int, int]
    validation_rows: int | None

    def count(self, level: str) -> int:
        """How many findings of a level there are."""
        return sum(finding.level == level for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report for a script."""
        return {
            "source": self.name,
            "horizon": self.horizon,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "shards": {"looked_at": self.shards[0], "of": self.shards[1]},
            "data": self.portrait.summary() if self.portrait else None,
            "tasks": {name: one.summary() for name, one in self.rewards.items()},
            "validation_rows": self.validation_rows,
        }


def inspect(subject: Subject, shards: int | None = None) -> Report:
    """Examines a data source, or its first so many shards."""
    number = min(shards or subject.source.shards, subject.source.shards)
    return _Inspection(subject, number).report()


class _Inspection:
    """What has been seen so far."""

    def __init__(self, subject: Subject, shards: int):
        self.subject, self.shards = subject, shards
        self.tasks = getattr(subject.raw, "tasks", None)
        self.findings: list[Finding] = list(subject.findings)
        self.portraits: list[Portrait] = []
        self.rewards: dict[str, list[Rewarding]] = {}
        self.seen = Shards()
        self.sizes: tuple[int, int] | None = None
        self.validation, self.hashes = self._validation()
        self.leaked = np.zeros(len(self.hashes), bool)

    def report(self) -> Report:
        for shard in range(self.shards):
            self._examine(shard)
        rewards = {name: Rewarding.merged(parts) for name, parts in self.rewards.items()}
        self.findings += leakage(self.leaked)
        if self.tasks is not None:
            self.findings += _unsolved(rewards)
        return Report(
            self.subject.name,
            self.subject.horizon,
            tuple(ranked(map(self._settable, self.findings))),
            Portrait.merged(self.portraits) if self.portraits else None,
            rewards,
            (self.shards, self.subject.source.shards),
            self.validation,
        )

    def _examine(self, shard: int) -> None:
        where = f"shard {shard}" if self.subject.source.shards > 1 else ""
        transitions = self._loaded(shard, where)
        if transitions is None:
            return
        examination = examine(
            transitions, self.subject.horizon, jumps_of(self.subject.source), self._checks
        )
        known = findings_of(self.subject.source) if shard == 0 else ()
        found = [self._placed(finding, where) for finding in (*known, *examination.findings)]
        if examination.facts is not None:
            found += [self._placed(one, where) for one in self._compared(shard, examination.facts)]
            found += self._tasks(shard, examination.facts, where)
        self.findings += found

    @property
    def _checks(self) -> list[Check]:
        """All checks, but not of rewards where those of every task are looked at."""
        every_task = self.subject.task is None and self.tasks is not None
        return [check for check in CHECKS if not (every_task and check in REWARD_CHECKS)]

    def _loaded(self, shard: int, where: str) -> Transitions | None:
        try:
            return self.subject.source.load(shard)
        except UserError as error:
            self.findings.append(_unreadable(error, where))
            return None

    def _placed(self, finding: Finding, where: str) -> Finding:
        """A finding with its place, and as grave as the environment allows to say."""
        if finding.id == "actions-outside" and self.subject.environment is None:
            remedy = "name the --environment: a run scales actions by its bounds"
            finding = dataclasses.replace(finding, level="warn", remedy=remedy)
        return dataclasses.replace(finding, where=where)

    def _settable(self, finding: Finding) -> Finding:
        """A finding that, where it asks for keys that the command cannot take, says what can."""
        asks = any(key in finding.found for key in KEYS)
        if self.subject.from_file or finding.remedy or not asks:
            return finding
        remedy = "keys stand in an experiment file: inspect one in the place of the source"
        return dataclasses.replace(finding, remedy=remedy)

    def _compared(self, shard: int, facts: Facts) -> Iterator[Finding]:
        """What shows beside other data: the shards before, the validation, the environment."""
        yield from self.seen.compare(shard, facts)
        self.leaked |= np.isin(self.hashes, facts.rows)
        found = len(facts.observations.mean), len(facts.actions.mean)
        if self.sizes is None:
            self.sizes = found
            yield from self._beside_environment(found)
        if found != self.sizes:
            yield _other_sizes(found, self.sizes, "the first shard")
            return
        self.portraits.append(Portrait.of(facts, max(SAMPLE_ROWS // self.shards, 100)))

    def _beside_environment(self, found: tuple[int, int]) -> Iterator[Finding]:
        if self.subject.environment is None:
            return
        with opened(self.subject.environment) as env:
            wanted = env.observation_size, env.action_size
        if found != wanted:
            yield _other_sizes(found, wanted, "the environment")

    def _tasks(self, shard: int, facts: Facts, where: str) -> Iterator[Finding]:
        """Rewards of every task that the source knows; findings too, if none was chosen."""
        if self.tasks is None:
            self.rewards.setdefault("the data's", []).append(Rewarding.of(facts))
            return
        for task, rewards, masks in self.tasks(shard):
            other = dataclasses.replace(facts.transitions, rewards=rewards, masks=masks)
            known = Facts(other, facts.horizon, facts.jumps)
            self.rewards.setdefault(f"task {task}", []).append(Rewarding.of(known))
            if self.subject.task is None:
                place = ", ".join(filter(None, (where, f"task {task}")))
                for check in REWARD_CHECKS:
                    yield from (dataclasses.replace(one, where=place) for one in check(known))

    def _validation(self) -> tuple[int | None, np.ndarray]:
        nothing = np.zeros(0, np.uint64)
        try:
            validation = validation_of(self.subject.source)
        except UserError as error:
            self.findings.append(_unreadable(error, "validation"))
            return None, nothing
        return (None, nothing) if validation is None else (len(validation), row_hashes(validation))


def _unsolved(rewards: dict[str, Rewarding]) -> Iterator[Finding]:
    """Tasks that pay for parts of themselves, and that nobody solved in the data."""
    for name, one in rewards.items():
        if one.solved_rows == 0 and one.low < one.high:
            yield Finding(
                "task-unsolved",
                "note",
                f"no row is solved; the best reward is {one.high:g}",
                "a policy has to put the solution together from parts",
                "",
                name,
            )


def _unreadable(error: UserError, where: str) -> Finding:
    return Finding(
        "unreadable", "refuse", str(error), "a run ends when it comes to these data", "", where
    )


def _other_sizes(found: tuple[int, int], wanted: tuple[int, int], whose: str) -> Finding:
    return Finding(
        "sizes",
        "refuse",
        f"observations of {found[0]} and actions of {found[1]} entries, and {whose} has "
        f"{wanted[0]} and {wanted[1]}",
        "a policy cannot act with other sizes than it learned with",
        "name data of this environment in data.source",
    )
