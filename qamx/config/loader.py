"""Loads an experiment file: an `Experiment`, or an error with all problems of the file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from qamx import registry
from qamx._utils.finding import joined
from qamx.config import experiment as sections
from qamx.config.agents import AgentSettings
from qamx.config.experiment import DEFAULT_SCHEME, Experiment, scheme_of
from qamx.config.messages import ConfigError, ConfigProblem, Key, choice_text, field_errors, show
from qamx.config.toml import ConfigTree, Override, find_experiment, gather
from qamx.errors import suggestion


def load(
    path: str | Path, overrides: Sequence[str] | str = (), seed: int | None = None
) -> Experiment:
    """Read and validate an experiment file.

    **Arguments:**

    - `path`: a TOML file, or the name of an experiment, such as `c4_qam_edit`: one of
      `experiments/` here, or one that comes with qamx.
    - `overrides`: texts `section.key=value`, or a single one, applied in order over the file.
    - `seed`: replaces the file's seed.

    **Raises:** `ConfigError` with every problem of the file, of those it extends, and of the
    overrides.
    """
    overrides = [overrides] if isinstance(overrides, str) else overrides
    return resolve(gather(find_experiment(path), [Override(text) for text in overrides], seed))


def resolve(tree: ConfigTree) -> Experiment:
    """The experiment that a tree of values describes.

    **Raises:** `ConfigError` with every problem of the tree.
    """
    if is_suite(tree.values):
        text = "a suite of experiments, which qamx check validates; name one of its experiments"
        raise ConfigError([ConfigProblem(str(tree.file), "", f"{text} instead")])
    _load_plugins(tree)
    parts = _Reader(tree).parts()
    _join_foreign_keys(tree)
    if tree.problems:
        raise ConfigError(tree.problems)
    return Experiment(**parts)


def is_suite(table: Mapping[str, Any]) -> bool:
    """True if a file's table is a suite, which lists experiments."""
    return not table.keys().isdisjoint(("suite", "group"))


def _load_plugins(tree: ConfigTree) -> None:
    for error in registry.load_installed_plugins():
        tree.complain("", "", str(error))
    modules = tree.values.get("plugins", [])
    for module in modules if isinstance(modules, list) else []:
        try:
            registry.load_plugin(str(module), tree.file.parent)
        except registry.PluginError as error:
            tree.complain(tree.origin(("plugins",)), "plugins", str(error))


@dataclass(frozen=True)
class _Choice:
    """A section whose model is selected by one of its keys.

    `base` validates the common keys if the key selects nothing.
    """

    registry: registry.Registry
    key: str
    base: type[BaseModel]
    default: str | None = None
    by_scheme: bool = False

    def selected(self, table: dict[str, Any]) -> Any:
        """The name in the table, which may not be registered."""
        value = table.get(self.key, self.default)
        if not self.by_scheme:
            return value
        return scheme_of(value) if isinstance(value, str) else DEFAULT_SCHEME


_CHOICES = {
    "environment": _Choice(
        registry.environments, "id", sections.EnvironmentSettings, by_scheme=True
    ),
    "data": _Choice(registry.datasets, "source", sections.DataSettings, by_scheme=True),
    "agent": _Choice(registry.agents, "method", AgentSettings),
    "schedule": _Choice(registry.schedules, "kind", sections.ScheduleSettings, "offline_to_online"),
}
_FIXED: dict[str, type[BaseModel]] = {
    "evaluation": sections.EvaluationSettings,
    "checkpoint": sections.CheckpointSettings,
    "logging": sections.LoggingSettings,
    "compute": sections.ComputeSettings,
}


def _join_foreign_keys(tree: ConfigTree) -> None:
    """Joins complaints about keys of an extended file that do not apply to the file's own choice,
    such as the tasks of a maze where the file names another environment."""
    for section, choice in _CHOICES.items():
        selector, value = (section, choice.key), tree.values.get(section, {})
        if isinstance(value, dict) and choice.selected(value) not in choice.registry:
            continue  # a misspelt choice: the keys may be right
        origin = tree.origin(selector)
        foreign: dict[str, list[ConfigProblem]] = {}
        for problem in tree.problems:
            unknown = problem.text.startswith("unknown") and problem.key.startswith(f"{section}.")
            if unknown and problem.origin in tree.bases and problem.origin != origin:
                foreign.setdefault(problem.origin, []).append(problem)
        for base, problems in foreign.items():
            tree.problems = [problem for problem in tree.problems if problem not in problems]
            keys = joined([problem.key.partition(".")[2] for problem in problems])
            chosen = value.get(choice.key) if isinstance(value, dict) else None
            text = (
                f"its keys {keys} do not apply"
                if len(problems) > 1
                else f"its {keys} does not apply"
            )
            text += f" to {choice.key} = {show(chosen)}" if chosen is not None else " here"
            advice = "leave extends out and copy what you need: qamx show prints all of it"
            tree.complain(origin, section, f"{base} is extended, and {text}; {advice}")


class _Reader:
    """Turns a tree into validated settings, and adds problems to the tree."""

    def __init__(self, tree: ConfigTree):
        self.tree = tree
        self.undecided: set[Key] = set()  # keys that may be missing because of another problem

    def parts(self) -> dict[str, Any]:
        """The arguments of `Experiment`; incomplete if there are problems."""
        general = self._general()
        environment = self._choose("environment", self._table("environment"))
        data = self._choose("data", self._data_table(environment))
        if environment is not None and data is not None and environment.objection(data):
            self._complain(("data", "source"), environment.objection(data))
        parts = {"environment": environment, "data": data}
        for name in ("agent", "schedule"):
            parts[name] = self._choose(name, self._table(name))
        for name, model in _FIXED.items():
            parts[name] = self._validate(model, (name,), self._table(name))
        return {**(dict(general) if general else {}), **parts}

    def _general(self) -> BaseModel | None:
        fields = sections.GeneralSettings.model_fields
        known = (*fields, *_CHOICES, *_FIXED)
        for name in (name for name in self.tree.values if name not in known):
            noun = "table" if isinstance(self.tree.values[name], dict) else "key"
            self._complain((name,), f"unknown {noun}; {suggestion(name, (*known, 'extends'))}")
        given = {name: self.tree.values[name] for name in fields if name in self.tree.values}
        return self._validate(sections.GeneralSettings, (), {"name": self.tree.file.stem, **given})

    def _table(self, section: str) -> dict[str, Any] | None:
        table = self.tree.values.get(section, {})
        if isinstance(table, dict):
            return table
        self._complain((section,), f"found {show(table)}; write a table [{section}]")
        return None

    def _data_table(self, environment: Any) -> dict[str, Any] | None:
        """The data section with the source that belongs to the environment."""
        table = self._table("data")
        if environment is None:
            self.undecided.add(("data", "source"))
        elif table is not None and "source" not in table and environment.default_source():
            return {"source": environment.default_source(), **table}
        return table

    def _choose(self, section: str, table: dict[str, Any] | None) -> Any:
        """A section's settings, of the class that its selecting key names."""
        choice = _CHOICES[section]
        if table is None:
            return None
        name = choice.selected(table)
        if isinstance(name, str) and name in choice.registry:
            return self._validate(choice.registry[name].load_settings(), (section,), table)
        selector = (section, choice.key)
        if name is not None or not self.tree.partial:
            self._complain(selector, choice_text(choice.registry, name))
        self.undecided.add(selector)
        fields = choice.base.model_fields.keys() - {choice.key}
        shared = {key: table[key] for key in table if key in fields}
        self._validate(choice.base, (section,), shared)
        self._check_others(section, choice, table)
        return None

    def _check_others(self, section: str, choice: _Choice, table: dict[str, Any]) -> None:
        """Checks the keys that only settings with a name have, where no name is known: each as
        the first settings that have it do."""
        models = [entry.load_settings() for entry in choice.registry]
        known = {name for model in models for name in model.model_fields}
        for key in (key for key in table if key not in choice.base.model_fields):
            model = next((model for model in models if key in model.model_fields), None)
            if model is None:
                self._complain((section, key), f"unknown key; {suggestion(key, known)}")
                continue
            try:
                model.model_validate({key: table[key]})
            except ValidationError as error:
                for problem in field_errors(error, model, {key: table[key]}):
                    if problem.key[:1] == (key,):
                        self._complain((section, *problem.key), problem.text)

    def _validate(
        self, model: type[BaseModel], section: Key, table: dict[str, Any] | None
    ) -> BaseModel | None:
        if table is None:
            return None
        try:
            return model.model_validate(table)
        except ValidationError as error:
            for problem in field_errors(error, model, table):
                key = (*section, *problem.key)
                unknowable = self.tree.partial or key in self.undecided
                if not (problem.missing and unknowable):
                    self._complain(key, problem.text)
            return None

    def _complain(self, key: Key, text: str) -> None:
        self.tree.complain(self.tree.origin(key), ".".join(key), text)
