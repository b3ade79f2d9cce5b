"""Suites: files that list runs as experiments x variants x grids x tasks x seeds."""

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, field_validator

from qamx._utils.seeds import SEEDS
from qamx.config.fields import Absent, Allowed, Count, Name, PositiveInt, Seed, Settings, Text
from qamx.config.grid import points
from qamx.config.library import SUITES, find_suite, library
from qamx.config.loader import is_suite
from qamx.config.problems import ConfigError, show, value_problem
from qamx.config.sources import Override, Tree, read_toml, validated
from qamx.config.suite_runs import Form, Group, Selected, Suite

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

    tasks: Annotated[Integers | None, Absent("each experiment's own")] = Field(
        default=None, examples=[[1, 2, 3, 4, 5]], description="sets `environment.task`"
    )
    seeds: Annotated[Seeds | None, Absent("each experiment's own")] = Field(
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
    seeds_per_process: Annotated[PositiveInt | None, Absent("`1`")] = Field(
        default=None,
        examples=[4],
        description="so many seeds of one experiment on one task are trained together, as with "
        "`qamx run --seeds`",
    )


class SelectedSettings(Settings):
    """`[selected]` of a tuning suite: on what the settings that it selects are run then."""

    tasks: Annotated[Integers | None, Absent("each experiment's own")] = Field(
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
        Absent("one form without a name"),
    ] = Field(default=(), description="the forms in which each experiment of the group is run")
    grid: Annotated[
        dict[str, Any],
        Allowed("a table [group.grid] of lists of values"),
        Absent("no grid"),
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
    tree = Tree(find_suite(path))
    settings = validated(tree, SuiteSettings)
    groups: tuple[Group, ...] = ()
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
    return is_suite(read_toml(Tree(path), path, str(path), ""))


def _groups(tree: Tree, settings: SuiteSettings, last: tuple[Override, ...]) -> Iterator[Group]:
    shared = settings.suite
    for number, group in enumerate(settings.group, start=1):
        key = f"group.{number}"
        seeds = shared.seeds if group.seeds is None else group.seeds
        forms = tuple(_forms(tree, key, shared, group, last))
        yield Group(key, _files(tree, key, group.experiments), forms, seeds)


def _selected(tree: Tree, settings: SuiteSettings, groups: Sequence[Group]) -> Selected | None:
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


def _files(tree: Tree, key: str, patterns: tuple[str, ...]) -> tuple[Path, ...]:
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
    tree: Tree,
    key: str,
    shared: DefaultSettings,
    group: GroupSettings,
    last: tuple[Override, ...],
) -> Iterator[Form]:
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
        yield Form((*common, *task, *choice, *last), title, choice)


def _overrides(texts: tuple[str, ...], place: str) -> tuple[Override, ...]:
    return tuple(Override(text, f"{place}.set") for text in texts)
