"""Suites: files that list runs as experiments x variants x tasks x seeds."""

import glob
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field, Strict, ValidationError, field_validator

from qamx.config.fields import Allowed, Count, Name, Settings, Text
from qamx.config.loader import is_suite
from qamx.config.problems import ConfigError, findings, show, value_problem
from qamx.config.sources import Override, Tree, read_toml
from qamx.config.suite_runs import Form, Group, Suite

Integers = Annotated[
    tuple[Count, ...],
    Strict(False),
    Field(min_length=1),
    Allowed("a list of integers of at least 0"),
]
Changes = Annotated[
    tuple[Text, ...], Strict(False), Allowed('a list such as ["agent.flow_steps=1"]')
]
Patterns = Annotated[
    tuple[Text, ...],
    Strict(False),
    Field(min_length=1),
    Allowed('a list of paths from the folder of the suite, such as ["../*_qam.toml"]'),
]


class VariantSettings(Settings):
    """One of the forms in which the experiments of a group are run."""

    name: Name = Field(examples=["T1"])
    set: Changes = ()


class DefaultSettings(Settings):
    """What holds for every group that does not say otherwise."""

    tasks: Integers | None = Field(default=None, examples=[[1, 2, 3, 4, 5]])
    seeds: Integers | None = Field(default=None, examples=[[10001, 20002]])
    set: Changes = ()


class GroupSettings(DefaultSettings):
    """Experiments that are run on the same tasks and seeds, in the same forms."""

    experiments: Patterns
    variants: Annotated[
        tuple[VariantSettings, ...],
        Strict(False),
        Allowed("tables [[group.variants]]"),
    ] = ()


class SuiteSettings(Settings):
    """A suite's file."""

    suite: Annotated[DefaultSettings, Allowed("a table [suite]")] = DefaultSettings()
    group: Annotated[
        tuple[GroupSettings, ...],
        Strict(False),
        Allowed("at least one table [[group]]"),
    ]

    @field_validator("group")
    @classmethod
    def _any(cls, groups: tuple[GroupSettings, ...]) -> tuple[GroupSettings, ...]:
        if not groups:
            raise value_problem("found []; write at least one table [[group]]")
        return groups


def load_suite(path: str | Path) -> Suite:
    """Reads and validates a suite's file; its experiments are read by `Suite.runs`.

    **Raises:** `ConfigError` with every problem of the file.
    """
    tree = Tree(Path(path))
    groups = tuple(_groups(tree))
    if tree.problems:
        raise ConfigError(tree.problems)
    return Suite(tree.file, groups)


def is_suite_file(path: Path) -> bool:
    """Whether a file can be read and is a suite."""
    return is_suite(read_toml(Tree(path), path, str(path), ""))


def _groups(tree: Tree) -> Iterator[Group]:
    settings = _settings(tree)
    if settings is None:
        return
    shared = settings.suite
    for number, group in enumerate(settings.group, start=1):
        key = f"group.{number}"
        seeds = shared.seeds if group.seeds is None else group.seeds
        forms = tuple(_forms(str(tree.file), key, shared, group))
        yield Group(key, _files(tree, key, group.experiments), forms, seeds)


def _settings(tree: Tree) -> SuiteSettings | None:
    table = read_toml(tree, tree.file, str(tree.file), "")
    if tree.problems:
        return None
    try:
        return SuiteSettings.model_validate(table)
    except ValidationError as error:
        for finding in findings(error, SuiteSettings, table):
            tree.complain(str(tree.file), ".".join(finding.key), finding.text)
        return None


def _files(tree: Tree, key: str, patterns: tuple[str, ...]) -> tuple[Path, ...]:
    """The files that patterns match, each once."""
    folder = tree.file.parent
    found: dict[Path, None] = {}
    for pattern in patterns:
        names = sorted(glob.glob(pattern, root_dir=folder))
        if not names:
            text = f"found {show(pattern)}, which matches no file in {show(str(folder))}"
            tree.complain(str(tree.file), f"{key}.experiments", text)
        found |= dict.fromkeys(Path(os.path.normpath(folder / name)) for name in names)
    return tuple(found)


def _forms(file: str, key: str, shared: DefaultSettings, group: GroupSettings) -> Iterator[Form]:
    """Every variant of a group on every task; what stands nearer to the run is applied later."""
    owner = "suite" if group.tasks is None else key
    tasks = [
        (Override(f"environment.task={task}", f"{file}: {owner}.tasks"),)
        for task in group.tasks or shared.tasks or ()
    ]
    variants = [
        (variant.name, _overrides(variant.set, f"{file}: {key}.variants.{number}"))
        for number, variant in enumerate(group.variants, start=1)
    ]
    common = _overrides(shared.set, f"{file}: suite")
    own = _overrides(group.set, f"{file}: {key}")
    for (name, changes), task in itertools.product(variants or [(None, ())], tasks or [()]):
        yield Form((*common, *task, *own, *changes), name)


def _overrides(texts: tuple[str, ...], place: str) -> tuple[Override, ...]:
    return tuple(Override(text, f"{place}.set") for text in texts)
