"""What a suite stands for: every run that it lists, each under a name of its own."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from qamx.config.experiment import Experiment
from qamx.config.loader import load, resolve
from qamx.config.problems import ConfigError, Problem, show
from qamx.config.sources import Override, gather


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
class Form:
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
class Group:
    """Files x forms x seeds; without seeds each experiment has its own.

    `key` is where the group stands in its file, such as `group.1`.
    """

    key: str
    files: tuple[Path, ...]
    forms: tuple[Form, ...]
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
    groups: tuple[Group, ...]
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
        found: dict[Problem, list[str]] = {}
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

    def _experiments(self) -> Iterator[tuple[Group, Path, Form]]:
        for group in self.groups:
            for file in group.files:
                for form in group.forms:
                    yield group, file, form


def _runs_of(form: Form, file: Path, seeds: tuple[int, ...] | None) -> Iterator[SuiteRun]:
    """The runs of one experiment, which is validated once for all of its seeds."""
    experiment = form.resolve(file)
    overrides = tuple(override.text for override in form.overrides)
    choice = tuple(override.text for override in form.choice)
    if form.variant is not None:
        overrides = (*overrides, f"name={show(experiment.name)}")
    for seed in seeds or (experiment.seed,):
        name = replace(experiment, seed=seed).run_name
        yield SuiteRun(file, overrides, seed, name, choice)


def _attributed(problem: Problem, titles: list[str]) -> Problem:
    """A problem with the experiments that have it."""
    first, *others = dict.fromkeys(titles)
    more = f" and {len(others)} more" if others else ""
    return replace(problem, text=f"{problem.text} (for {first}{more})")


def _shared_names(suite: Path, runs: list[tuple[str, SuiteRun]]) -> Iterator[Problem]:
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
        yield Problem(str(suite), key, text)
