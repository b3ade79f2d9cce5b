"""Suites of experiments: groups, grids, and their runs."""

import glob
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from qamx._utils.defaults import SEEDS
from qamx.config.experiment import Experiment, flat
from qamx.config.fields import (
    FILLED,
    LIST,
    Allowed,
    Count,
    DefaultText,
    Name,
    PositiveInt,
    Seed,
    Settings,
    Text,
)
from qamx.config.loader import is_suite, load, resolve
from qamx.config.messages import ConfigError, ConfigProblem, show, value_problem
from qamx.config.search import SearchSettings, leaves
from qamx.config.toml import (
    SUITES,
    ConfigTree,
    Override,
    find_suite,
    gather,
    library,
    read_toml,
    validated,
)


@dataclass(frozen=True)
class SuiteRun:
    """One run of a suite; its `name`, which is its folder's, is unique in the suite.

    `choice` are those of the overrides that its group, variant and grid point set.
    """

    file: Path
    overrides: tuple[str, ...]
    seed: int
    name: str
    choice: tuple[str, ...] = ()

    def load(self) -> Experiment:
        """The experiment of this run, whose `run_name` is the run's name."""
        return load(self.file, self.overrides, self.seed)


@dataclass(frozen=True)
class RunVariant:
    """The overrides of a group's experiments: a variant at a grid point, on a task.

    `choice` are those that hold for this group, variant and point alone.
    """

    overrides: tuple[Override, ...]
    name: str | None
    choice: tuple[Override, ...] = ()

    def runs(self, file: Path, seeds: tuple[int, ...] | None) -> Iterator[SuiteRun]:
        """The runs of an experiment, which is validated once for all of its seeds."""
        experiment = resolve(gather(file, self.overrides, None))
        overrides = tuple(override.text for override in self.overrides)
        choice = tuple(override.text for override in self.choice)
        if self.name is not None:
            experiment = replace(experiment, name=f"{experiment.name}-{self.name}")
            overrides = (*overrides, f"name={show(experiment.name)}")
        for seed in seeds or (experiment.seed,):
            name = replace(experiment, seed=seed).run_name
            yield SuiteRun(file, overrides, seed, name, choice)

    def title(self, file: Path) -> str:
        """The name of an experiment in the message of a problem."""
        return file.name if self.name is None else f"{file.name}, variant {self.name}"


@dataclass(frozen=True)
class SuiteGroup:
    """Files x variants x seeds; without seeds each experiment has its own.

    `key` is the group's in its file, such as `group.1`.
    """

    key: str
    files: tuple[Path, ...]
    variants: tuple[RunVariant, ...]
    seeds: tuple[int, ...] | None

    def __len__(self) -> int:
        return len(self.files) * len(self.variants) * len(self.seeds or (None,))


@dataclass(frozen=True)
class Suite:
    """A suite whose file is valid; `runs` validates its experiments.

    `seeds_per_process` is the number of seeds trained together, if the file sets it; a tuning suite
    has `selected`. A suite with `search` has one experiment, whose settings trials draw.
    """

    file: Path
    groups: tuple[SuiteGroup, ...]
    seeds_per_process: int | None = None
    selected: "SelectedSettings | None" = None
    search: SearchSettings | None = None

    def __len__(self) -> int:
        """The number of runs; of a search, if no trial is stopped early."""
        return sum(map(len, self.groups)) * (self.search.trials if self.search else 1)

    def trial_runs(self, name: str, values: Mapping[str, Any]) -> tuple[SuiteRun, ...]:
        """The runs of a trial of a search, named after it, with its values by key.

        **Raises:** `ConfigError` as `runs`.
        """
        return self._with_points([(name, self._changes(values))]).runs()

    def _changes(self, values: Mapping[str, Any]) -> tuple[Override, ...]:
        origin = f"{self.file}: search.parameters"
        return tuple(_value(key, value, origin)[1] for key, value in values.items())

    def _with_points(self, points: Sequence["Point"]) -> "Suite":
        """The suite of a search's runs at given points."""
        (group,) = self.groups
        variants = tuple(
            RunVariant((*variant.overrides, *changes), name, (*variant.choice, *changes))
            for variant, (name, changes) in itertools.product(group.variants, points)
        )
        return replace(self, groups=(replace(group, variants=variants),), search=None)

    def _check_search(self, search: SearchSettings) -> None:
        """Validates the experiment at both ends of each range, and at each listed value."""
        first = {key: parameter.ends[0] for key, parameter in search.searched.items()}
        ends = {"first": self._changes(first)}
        for key, parameter in search.searched.items():
            for value in parameter.ends[1:]:
                ends[_value(key.replace(".", "_"), value, "")[0]] = self._changes(
                    first | {key: value}
                )
        self._with_points(list(ends.items())).runs()

    def runs(self) -> tuple[SuiteRun, ...]:
        """Every run, in the order of the file; none of a search, which is checked alone.

        **Raises:** `ConfigError` with every problem of every experiment as it would be run, and
        every name that several runs would have.
        """
        if self.search is not None:
            self._check_search(self.search)
            return ()
        runs: list[tuple[str, SuiteRun]] = []
        titles: dict[ConfigProblem, list[str]] = {}
        for group in self.groups:
            for file, variant in itertools.product(group.files, group.variants):
                try:
                    runs += [(group.key, run) for run in variant.runs(file, group.seeds)]
                except ConfigError as error:
                    for problem in error.problems:
                        titles.setdefault(problem, []).append(variant.title(file))
        problems = [_with_experiments(problem, names) for problem, names in titles.items()]
        problems += _shared_names(self.file, runs)
        if problems:
            raise ConfigError(problems)
        return tuple(run for _, run in runs)


def _with_experiments(problem: ConfigProblem, titles: list[str]) -> ConfigProblem:
    """A problem with the experiments that have it."""
    first, *others = dict.fromkeys(titles)
    more = f" and {len(others)} more" if others else ""
    return replace(problem, text=f"{problem.text} (for {first}{more})")


def _shared_names(suite: Path, runs: list[tuple[str, SuiteRun]]) -> Iterator[ConfigProblem]:
    """A problem for each group that has runs with the names of earlier ones."""
    owners: dict[str, str] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for key, run in runs:
        if run.name in owners:
            shared.setdefault((key, owners[run.name]), []).append(run.name)
        owners.setdefault(run.name, key)
    for (key, owner), names in shared.items():
        more = f" and {len(names) - 1} more" if names[1:] else ""
        text = (
            f"the run {show(names[0])}{more} is in {owner} already; leave it out of one, or put "
            "it under a variant with a name of its own"
        )
        yield ConfigProblem(str(suite), key, text)


Point = tuple[str, tuple[Override, ...]]
"""The name of a grid point, as part of a folder's, and its overrides."""


def points(tree: ConfigTree, grid_key: str, grid: Mapping[str, Any]) -> list[Point]:
    """Every combination of the grid's values, in the order of the file; one empty point without.

    **Arguments:** `grid_key` is the grid's in the tree's file, such as `group.1.grid`. A value that
    is no list is a problem of the tree.
    """
    axes = []
    for key, values in flat(dict(grid)).items():
        if isinstance(values, list) and values:
            axes.append([_value(key, value, f"{tree.file}: {grid_key}") for value in values])
        else:
            text = f"found {show(values)}; write a list of values, e.g. [1.0, 3.0]"
            tree.complain(str(tree.file), f"{grid_key}.{key}", text)
    return [
        ("-".join(name for name, _ in point), tuple(override for _, override in point))
        for point in itertools.product(*axes)
    ]


def _value(key: str, value: Any, origin: str) -> tuple[str, Override]:
    text = to_toml(value)
    shown = re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_")
    return f"{key.rpartition('.')[2]}-{shown}", Override(f"{key}={text}", origin)


def to_toml(value: Any) -> str:
    """A value as written after `key=`, a table in one line."""
    if isinstance(value, Mapping):
        entries = (f"{key} = {to_toml(inner)}" for key, inner in value.items())
        return f"{{ {', '.join(entries)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(to_toml, value))}]"
    return show(value)


Integers = Annotated[tuple[Count, ...], FILLED, Allowed("a list of integers of at least 0")]
Tasks = Annotated[
    Integers | None, DefaultText("each experiment's own"), Field(examples=[[1, 2, 3, 4, 5]])
]
Seeds = Annotated[tuple[Seed, ...], FILLED, Allowed(f"a list of integers from 0 to {SEEDS - 1}")]
Changes = Annotated[tuple[Text, ...], LIST, Allowed('a list such as ["agent.flow_steps=1"]')]
Patterns = Annotated[
    tuple[Text, ...],
    FILLED,
    Allowed('a list of paths from the folder of the suite, such as ["../*_qam.toml"]'),
]
_SET = "texts `section.key=value`, as on the command line; an empty value takes a key out"


class VariantSettings(Settings):
    """`variants` of a group or of `[suite]`: named overrides with which experiments are run."""

    name: Name = Field(examples=["T1"])
    """the variant's name; part of its runs' names"""
    set: Changes = Field(default=(), description=_SET)


class DefaultSettings(Settings):
    """Keys of a group, with defaults from `[suite]`."""

    tasks: Tasks = None
    """sets `environment.task`"""
    seeds: Annotated[Seeds | None, DefaultText("each experiment's own")] = Field(
        default=None, examples=[[10001, 20002]]
    )
    """seeds of each experiment and variant"""
    variants: Annotated[
        tuple[VariantSettings, ...],
        LIST,
        Allowed('a list of tables such as { name = "T1" }'),
        DefaultText("one without a name"),
    ] = ()
    """the variants in which each experiment is run"""
    set: Changes = Field(default=(), description=_SET)


class SharedSettings(DefaultSettings):
    """`[suite]`: defaults of the groups, the kind of suite, and seeds in a process."""

    kind: Literal["runs", "tuning"] = "runs"
    """`tuning`: the suite is to select settings, see [Selecting
    settings](sweeps.md#selecting-settings)"""
    seeds_per_process: Annotated[PositiveInt | None, DefaultText("`1`")] = Field(
        default=None, examples=[4]
    )
    """number of seeds of one experiment on one task trained together, as with `qamx run --seeds`"""


class SelectedSettings(Settings):
    """`[selected]` of a tuning suite: tasks and seeds of the runs with the selected settings."""

    tasks: Tasks = None
    """tasks on which the selected settings are run"""
    seeds: Seeds = Field(examples=[[10001, 20002]])
    """seeds of the selected runs; none of those of the sweep"""
    set: Changes = ()
    """settings of the selected runs, as `set` above"""


class GroupSettings(DefaultSettings):
    """`[[group]]`: experiments that are run on the same tasks and seeds, in the same variants."""

    experiments: Patterns
    """experiment files, from the folder of the suite or else of those that come with qamx; `*` and
    `?` match, and a pattern that matches nothing is an error"""
    grid: Annotated[
        dict[str, Any], Allowed("a table [group.grid] of lists of values"), DefaultText("no grid")
    ] = Field(default={})
    """every combination of the values is run, as a variant: `agent.edit_scale = [0.1, 0.3]`"""


class SuiteSettings(Settings):
    """All tables of a suite's file."""

    suite: Annotated[SharedSettings, Allowed("a table [suite]")] = SharedSettings()
    selected: Annotated[SelectedSettings | None, Allowed("a table [selected]")] = None
    search: Annotated[SearchSettings | None, Allowed("a table [search]")] = None
    group: Annotated[tuple[GroupSettings, ...], LIST, Allowed("at least one table [[group]]")]

    @field_validator("group")
    @classmethod
    def _any(cls, groups: tuple[GroupSettings, ...]) -> tuple[GroupSettings, ...]:
        if not groups:
            raise value_problem("found []; write at least one table [[group]]")
        return groups


def load_suite(path: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """Read and validate a suite's file; its experiments are read by `Suite.runs`.

    **Arguments:** `path` is a TOML file, or a suite's name, such as `table1`; `overrides` are
    texts `section.key=value`, applied last.

    **Raises:** `ConfigError` with every problem of the file.
    """
    tree = ConfigTree(find_suite(path))
    settings = validated(tree, SuiteSettings)
    if settings is None:
        raise ConfigError(tree.problems)
    groups = tuple(_groups(tree, settings, tuple(map(Override, overrides))))
    selected = _selected(tree, settings, groups)
    _check_search(tree, settings.search, groups, overrides)
    if tree.problems:
        raise ConfigError(tree.problems)
    together = settings.suite.seeds_per_process
    return Suite(tree.file, groups, together, selected, settings.search)


def is_suite_file(path: Path) -> bool:
    """True if a file can be read and is a suite."""
    return is_suite(read_toml(ConfigTree(path), path, str(path), ""))


def _groups(
    tree: ConfigTree, settings: SuiteSettings, last: tuple[Override, ...]
) -> Iterator[SuiteGroup]:
    shared = settings.suite
    for number, group in enumerate(settings.group, start=1):
        key = f"group.{number}"
        seeds = shared.seeds if group.seeds is None else group.seeds
        variants = tuple(_variants(tree, key, shared, group, last))
        yield SuiteGroup(key, _files(tree, key, group.experiments), variants, seeds)


def _selected(
    tree: ConfigTree, settings: SuiteSettings, groups: Sequence[SuiteGroup]
) -> SelectedSettings | None:
    """The runs with selected settings of a tuning suite; seeds that it tunes on are a problem."""
    table, file = settings.selected, str(tree.file)
    if settings.suite.kind == "runs":
        if table is not None:
            text = 'belongs to a suite that selects settings; write kind = "tuning" in [suite]'
            tree.complain(file, "selected", text)
        return None
    if table is None:
        text = "missing; write a table [selected] with the seeds that the selected settings are for"
        tree.complain(file, "selected", text)
        return None
    used = {seed for group in groups for seed in group.seeds or ()}
    stale = [seed for seed in table.seeds if seed in used]
    if stale:
        text = f"found {show(stale)}, on which the settings are selected; write fresh seeds"
        tree.complain(file, "selected.seeds", text)
    return table


def _check_search(
    tree: ConfigTree,
    search: SearchSettings | None,
    groups: Sequence[SuiteGroup],
    overrides: Sequence[str],
) -> None:
    """Adds the problems of `[search]` to the tree."""
    if search is None:
        return
    file = str(tree.file)
    for key, text in search.problems():
        tree.complain(file, f"search.parameters.{key}", text)
    settings = {(file, v.name) for group in groups for file in group.files for v in group.variants}
    if len(groups) > 1 or len(settings) > 1:
        text = f"found {len(settings)} experiments and variants; write a suite for each of them"
        tree.complain(file, "search", text)
    fixed = {override.partition("=")[0].strip() for override in overrides}
    for key in sorted(fixed & {key for key, _ in leaves(search.parameters)}):
        tree.complain("--set", key, f"searched by {file}; leave it out")


def _files(tree: ConfigTree, key: str, patterns: tuple[str, ...]) -> tuple[Path, ...]:
    """The files that patterns match in the suite's folder, or else in the library, each once."""
    folder = tree.file.parent
    files: dict[Path, None] = {}
    for pattern in patterns:
        folders = (folder, library(), library() / SUITES)
        matched = next(filter(None, (_matches(parent, pattern) for parent in folders)), [])
        if not matched:
            text = f"found {show(pattern)}, which matches no file in {show(str(folder))}"
            tree.complain(str(tree.file), f"{key}.experiments", text)
        files |= dict.fromkeys(matched)
    return tuple(files)


def _matches(folder: Path, pattern: str) -> list[Path]:
    names = sorted(glob.glob(pattern, root_dir=folder))
    return [Path(os.path.normpath(folder / name)) for name in names]


def _variants(
    tree: ConfigTree,
    key: str,
    shared: DefaultSettings,
    group: GroupSettings,
    last: tuple[Override, ...],
) -> Iterator[RunVariant]:
    """Every variant at every grid point on every task; the more specific overrides come later."""
    file = str(tree.file)
    owner = "suite" if group.tasks is None else key
    tasks = [
        (Override(f"environment.task={task}", f"{file}: {owner}.tasks"),)
        for task in group.tasks or shared.tasks or ()
    ]
    owner, variants = (key, group.variants) if group.variants else ("suite", shared.variants)
    named = [
        (variant.name, _overrides(variant.set, f"{file}: {owner}.variants.{number}"))
        for number, variant in enumerate(variants, start=1)
    ]
    grid = points(tree, f"{key}.grid", group.grid)
    common = _overrides(shared.set, f"{file}: suite")
    own = _overrides(group.set, f"{file}: {key}")
    for (name, changes), (point, values) in itertools.product(named or [("", ())], grid):
        choice = (*own, *changes, *values)
        title = "-".join(filter(None, (name, point))) or None
        for task in tasks or [()]:
            yield RunVariant((*common, *task, *choice, *last), title, choice)


def _overrides(texts: tuple[str, ...], table: str) -> tuple[Override, ...]:
    return tuple(Override(text, f"{table}.set") for text in texts)
