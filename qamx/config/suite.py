"""Suites of experiments: groups, grids, and their runs."""

import glob
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, field_validator

from qamx._utils.seeds import SEEDS
from qamx.config.experiment import Experiment, flat
from qamx.config.fields import Allowed, Count, DefaultText, Name, PositiveInt, Seed, Settings, Text
from qamx.config.library import SUITES, find_suite, library
from qamx.config.loader import is_suite, load, resolve
from qamx.config.messages import ConfigError, ConfigProblem, show, value_problem
from qamx.config.toml import ConfigTree, Override, gather, read_toml, validated


@dataclass(frozen=True)
class SuiteRun:
    """One run of a suite; no other one of the suite has its `name`, which is its folder's.

    `choice` is what its group, its variant and its point of the grid set; `overrides` has it too.
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
    """What a group makes of each of its experiments: a variant at a point of the grid, on a task.

    `choice` are those of the overrides that hold for this group, variant and point alone.
    """

    overrides: tuple[Override, ...]
    variant: str | None
    choice: tuple[Override, ...] = ()

    def resolve(self, file: Path) -> Experiment:
        """The experiment of a file in this form, with the variant in its name."""
        experiment = resolve(gather(file, self.overrides, None))
        if self.variant is None:
            return experiment
        return replace(experiment, name=f"{experiment.name}-{self.variant}")

    def title(self, file: Path) -> str:
        """What a problem says of the experiment that has it."""
        return file.name if self.variant is None else f"{file.name}, variant {self.variant}"


@dataclass(frozen=True)
class SuiteGroup:
    """Files x forms x seeds; without seeds each experiment has its own.

    `key` is where the group stands in its file, such as `group.1`.
    """

    key: str
    files: tuple[Path, ...]
    forms: tuple[RunVariant, ...]
    seeds: tuple[int, ...] | None

    def __len__(self) -> int:
        return len(self.files) * len(self.forms) * len(self.seeds or (None,))


@dataclass(frozen=True)
class Selected:
    """On what the settings that a tuning suite selects are run; without tasks on the file's own."""

    tasks: tuple[int, ...] | None
    seeds: tuple[int, ...]
    set: tuple[str, ...]


@dataclass(frozen=True)
class Suite:
    """A suite whose file is sound; `runs` looks at its experiments.

    `seeds_per_process` says how many seeds are trained together, where the file does; a suite for
    tuning has `selected`.
    """

    file: Path
    groups: tuple[SuiteGroup, ...]
    seeds_per_process: int | None = None
    selected: Selected | None = None

    def __len__(self) -> int:
        """How many runs there are."""
        return sum(map(len, self.groups))

    def runs(self) -> tuple[SuiteRun, ...]:
        """Every run, in the order of the file.

        **Raises:** `ConfigError` with every problem of every experiment as it would be run, or
        with the names that runs would share.
        """
        runs: list[tuple[str, SuiteRun]] = []
        found: dict[ConfigProblem, list[str]] = {}
        for group, file, form in self._experiments():
            try:
                runs += [(group.key, run) for run in _runs_of(form, file, group.seeds)]
            except ConfigError as error:
                for problem in error.problems:
                    found.setdefault(problem, []).append(form.title(file))
        problems = [_attributed(*finding) for finding in found.items()]
        problems += _shared_names(self.file, runs)
        if problems:
            raise ConfigError(problems)
        return tuple(run for _, run in runs)

    def _experiments(self) -> Iterator[tuple[SuiteGroup, Path, RunVariant]]:
        for group in self.groups:
            for file in group.files:
                for form in group.forms:
                    yield group, file, form


def _runs_of(form: RunVariant, file: Path, seeds: tuple[int, ...] | None) -> Iterator[SuiteRun]:
    """The runs of one experiment, which is validated once for all of its seeds."""
    experiment = form.resolve(file)
    overrides = tuple(override.text for override in form.overrides)
    choice = tuple(override.text for override in form.choice)
    if form.variant is not None:
        overrides = (*overrides, f"name={show(experiment.name)}")
    for seed in seeds or (experiment.seed,):
        name = replace(experiment, seed=seed).run_name
        yield SuiteRun(file, overrides, seed, name, choice)


def _attributed(problem: ConfigProblem, titles: list[str]) -> ConfigProblem:
    """A problem with the experiments that have it."""
    first, *others = dict.fromkeys(titles)
    more = f" and {len(others)} more" if others else ""
    return replace(problem, text=f"{problem.text} (for {first}{more})")


def _shared_names(suite: Path, runs: list[tuple[str, SuiteRun]]) -> Iterator[ConfigProblem]:
    """A problem for each group with runs that are named like earlier ones."""
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
"""A name that a folder can have, and what the point sets."""


def points(tree: ConfigTree, place: str, grid: Mapping[str, Any]) -> list[Point]:
    """Every combination of the grid's values, in the order of the file; one empty point without.

    **Arguments:** `place` is where the grid stands in the tree's file, such as `group.1.grid`. Of
    what is no list of values the tree gets a complaint.
    """
    axes = []
    for key, values in flat(dict(grid)).items():
        if isinstance(values, list) and values:
            axes.append([_value(key, value, f"{tree.file}: {place}") for value in values])
        else:
            text = f"found {show(values)}; write a list of values, e.g. [1.0, 3.0]"
            tree.complain(str(tree.file), f"{place}.{key}", text)
    return [
        ("-".join(name for name, _ in point), tuple(override for _, override in point))
        for point in itertools.product(*axes)
    ]


def _value(key: str, value: Any, origin: str) -> tuple[str, Override]:
    text = to_toml(value)
    shown = re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_")
    return f"{key.rpartition('.')[2]}-{shown}", Override(f"{key}={text}", origin)


def to_toml(value: Any) -> str:
    """A value as it is written behind `key=`, a table in one line."""
    if isinstance(value, Mapping):
        entries = (f"{key} = {to_toml(inner)}" for key, inner in value.items())
        return f"{{ {', '.join(entries)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(to_toml, value))}]"
    return show(value)


Integers = Annotated[
    tuple[Count, ...],
    Strict(False),
    Field(min_length=1),
    Allowed("a list of integers of at least 0"),
]
Seeds = Annotated[
    tuple[Seed, ...],
    Strict(False),
    Field(min_length=1),
    Allowed(f"a list of integers from 0 to {SEEDS - 1}"),
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
_SET = "texts `section.key=value`, as on the command line; an empty value takes a key out"


class VariantSettings(Settings):
    """One of the forms in which the experiments of a group are run."""

    name: Name = Field(examples=["T1"], description="of the variant; part of its runs' names")
    set: Changes = Field(default=(), description=_SET)


class DefaultSettings(Settings):
    """What holds for every group that does not say otherwise."""

    tasks: Annotated[Integers | None, DefaultText("each experiment's own")] = Field(
        default=None, examples=[[1, 2, 3, 4, 5]], description="sets `environment.task`"
    )
    seeds: Annotated[Seeds | None, DefaultText("each experiment's own")] = Field(
        default=None, examples=[[10001, 20002]], description="the seeds of each experiment and form"
    )
    set: Changes = Field(default=(), description=_SET)


class SharedSettings(DefaultSettings):
    """`[suite]`: what holds for all, what the suite is for, and how its runs share processes."""

    kind: Literal["runs", "tuning"] = Field(
        default="runs",
        description="`tuning`: the suite is to select settings, see "
        "[Selecting settings](sweeps.md#selecting-settings)",
    )
    seeds_per_process: Annotated[PositiveInt | None, DefaultText("`1`")] = Field(
        default=None,
        examples=[4],
        description="so many seeds of one experiment on one task are trained together, as with "
        "`qamx run --seeds`",
    )


class SelectedSettings(Settings):
    """`[selected]` of a tuning suite: on what the settings that it selects are run then."""

    tasks: Annotated[Integers | None, DefaultText("each experiment's own")] = Field(
        default=None,
        examples=[[1, 2, 3, 4, 5]],
        description="on which the selected settings are run",
    )
    seeds: Seeds = Field(
        examples=[[10001, 20002]], description="fresh ones: none of those of the sweep"
    )
    set: Changes = Field(default=(), description="what is set then")


class GroupSettings(DefaultSettings):
    """Experiments that are run on the same tasks and seeds, in the same forms."""

    experiments: Patterns = Field(
        description="experiment files, from the folder of the suite or else of those that come "
        "with qamx; `*` and `?` match, and a pattern that matches nothing is an error"
    )
    variants: Annotated[
        tuple[VariantSettings, ...],
        Strict(False),
        Allowed("tables [[group.variants]]"),
        DefaultText("one form without a name"),
    ] = Field(default=(), description="the forms in which each experiment of the group is run")
    grid: Annotated[
        dict[str, Any],
        Allowed("a table [group.grid] of lists of values"),
        DefaultText("no grid"),
    ] = Field(
        default={},
        description="every combination of the values is run, as a variant: "
        "`agent.edit_scale = [0.1, 0.3]`",
    )


class SuiteSettings(Settings):
    """A suite's file."""

    suite: Annotated[SharedSettings, Allowed("a table [suite]")] = SharedSettings()
    selected: Annotated[SelectedSettings | None, Allowed("a table [selected]")] = None
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


def load_suite(path: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """Reads and validates a suite's file; its experiments are read by `Suite.runs`.

    **Arguments:** `path` is a TOML file, or a suite's name, such as `table1`; `overrides` are
    texts `section.key=value` that go over all that the suite sets.

    **Raises:** `ConfigError` with every problem of the file.
    """
    tree = ConfigTree(find_suite(path))
    settings = validated(tree, SuiteSettings)
    groups: tuple[SuiteGroup, ...] = ()
    selected = None
    if settings is not None:
        last = tuple(Override(text) for text in overrides)
        groups = tuple(_groups(tree, settings, last))
        selected = _selected(tree, settings, groups)
    if settings is None or tree.problems:
        raise ConfigError(tree.problems)
    return Suite(tree.file, groups, settings.suite.seeds_per_process, selected)


def is_suite_file(path: Path) -> bool:
    """Whether a file can be read and is a suite."""
    return is_suite(read_toml(ConfigTree(path), path, str(path), ""))


def _groups(
    tree: ConfigTree, settings: SuiteSettings, last: tuple[Override, ...]
) -> Iterator[SuiteGroup]:
    shared = settings.suite
    for number, group in enumerate(settings.group, start=1):
        key = f"group.{number}"
        seeds = shared.seeds if group.seeds is None else group.seeds
        forms = tuple(_forms(tree, key, shared, group, last))
        yield SuiteGroup(key, _files(tree, key, group.experiments), forms, seeds)


def _selected(
    tree: ConfigTree, settings: SuiteSettings, groups: Sequence[SuiteGroup]
) -> Selected | None:
    """What a tuning suite is for, with the complaint if its seeds are not fresh."""
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
    return Selected(table.tasks, table.seeds, table.set)


def _files(tree: ConfigTree, key: str, patterns: tuple[str, ...]) -> tuple[Path, ...]:
    """The files that patterns match beside the suite, or else in the library, each once."""
    folder = tree.file.parent
    found: dict[Path, None] = {}
    for pattern in patterns:
        places = (folder, library(), library() / SUITES)
        matched = next(filter(None, (_matches(place, pattern) for place in places)), [])
        if not matched:
            text = f"found {show(pattern)}, which matches no file in {show(str(folder))}"
            tree.complain(str(tree.file), f"{key}.experiments", text)
        found |= dict.fromkeys(matched)
    return tuple(found)


def _matches(folder: Path, pattern: str) -> list[Path]:
    names = sorted(glob.glob(pattern, root_dir=folder))
    return [Path(os.path.normpath(folder / name)) for name in names]


def _forms(
    tree: ConfigTree,
    key: str,
    shared: DefaultSettings,
    group: GroupSettings,
    last: tuple[Override, ...],
) -> Iterator[RunVariant]:
    """Every variant and point of the grid on every task; what is nearer to the run comes later."""
    file = str(tree.file)
    owner = "suite" if group.tasks is None else key
    tasks = [
        (Override(f"environment.task={task}", f"{file}: {owner}.tasks"),)
        for task in group.tasks or shared.tasks or ()
    ]
    variants = [
        (variant.name, _overrides(variant.set, f"{file}: {key}.variants.{number}"))
        for number, variant in enumerate(group.variants, start=1)
    ]
    grid = points(tree, f"{key}.grid", group.grid)
    common = _overrides(shared.set, f"{file}: suite")
    own = _overrides(group.set, f"{file}: {key}")
    choices = itertools.product(variants or [("", ())], grid, tasks or [()])
    for (name, changes), (place, values), task in choices:
        choice = (*own, *changes, *values)
        title = "-".join(filter(None, (name, place))) or None
        yield RunVariant((*common, *task, *choice, *last), title, choice)


def _overrides(texts: tuple[str, ...], place: str) -> tuple[Override, ...]:
    return tuple(Override(text, f"{place}.set") for text in texts)
