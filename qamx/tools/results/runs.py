"""Runs on disk: their evaluations, grouped, at the end of a phase."""

import json
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from qamx._utils.files import read_json_lines, read_text
from qamx.config.schedules import phase_steps
from qamx.errors import UserError
from qamx.tools.results.published_results import DOMAINS, TASKS

PHASES = ("cloning", "offline", "online")
"""The phases of the built-in schedules, in their order; `[schedule]` has `PHASE_steps` of each."""


class Task(NamedTuple):
    """A task of a domain; the domain is the name of the data set without `-v0`."""

    domain: str
    number: int

    def __str__(self) -> str:
        return f"{self.domain} task {self.number}"


@dataclass(frozen=True)
class EvaluationRow:
    """A row of a run's evaluations; `columns` are all of its entries."""

    step: int
    phase: str
    success: float
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A run as recorded in its folder.

    `label` is the method with its variant, if there is one; `episodes` is the number of an
    evaluation. `ends` holds the last step of each phase, and is empty for a plugin's schedule;
    `diverged` is the reason of a divergence.
    """

    folder: Path
    label: str
    task: Task
    seed: int
    episodes: int
    ends: dict[str, int]
    evaluations: tuple[EvaluationRow, ...]
    diverged: str | None

    @property
    def problem(self) -> str | None:
        """The reason why the run is incomplete, or None."""
        last = self.evaluations[-1].step if self.evaluations else 0
        if self.diverged is not None:
            return f"diverged after its evaluation at step {last:,}: {self.diverged}"
        end = max(self.ends.values(), default=last)
        return f"incomplete: evaluated up to step {last:,} of {end:,}" if last < end else None

    def at(self, step: int) -> EvaluationRow | None:
        """The evaluation at a step, or None."""
        return next((row for row in reversed(self.evaluations) if row.step == step), None)

    def at_end_of(self, phase: str) -> EvaluationRow | None:
        """The last evaluation of a phase, or None if the phase is not over."""
        rows = [row for row in self.evaluations if row.phase == phase]
        return rows[-1] if rows and rows[-1].step >= self.ends.get(phase, 0) else None


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Every run at any depth under the folders, by label, task and seed.

    **Raises:** `UserError` if there is none, a file is damaged, or two runs cannot be told apart.
    """
    directories = dict.fromkeys(run for folder in folders for run in _run_folders(folder))
    runs = [read_run(directory) for directory in directories]
    runs.sort(key=_identity)
    for one, other in pairwise(runs):
        if _identity(one) == _identity(other):
            raise UserError(
                f"{one.folder} and {other.folder} are both {one.label} on {one.task} with seed "
                f"{one.seed}; leave one out, or name the variant in the config.toml of one "
                '(name = "NAME-VARIANT")'
            )
    return runs


def _identity(run: Run) -> tuple[str, Task, int]:
    return run.label, run.task, run.seed


def read_run(folder: Path) -> Run:
    """The run of a folder.

    **Raises:** `UserError` with the file and what is wrong with it.
    """
    path = folder / "config.toml"
    try:
        config = tomllib.loads(read_text(path))
        method, environment = config["agent"]["method"], config["environment"]
        diverged = folder / "diverged.json"
        domain = _domain(environment["id"], config.get("data", {}).get("source", ""))
        return Run(
            folder=folder,
            label=_label(method, config["name"], domain),
            task=Task(domain, environment.get("task", 1)),
            seed=config["seed"],
            episodes=config["evaluation"]["episodes"],
            ends=_ends(config["schedule"]),
            evaluations=tuple(_evaluations(folder / "evaluations.jsonl")),
            diverged=json.loads(read_text(diverged))["why"] if diverged.exists() else None,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore it, or leave it out") from error
    except KeyError as error:
        raise UserError(
            f"{path}: found no key {error}; only the config.toml that a run wrote will do"
        ) from error


def _run_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; name the folder of a run, or one with runs in it")
    configs = sorted(folder.rglob("config.toml"))
    found = [path.parent for path in configs if (path.parent / "evaluations.jsonl").exists()]
    if not found:
        raise UserError(
            f"{folder}: found no run in it (config.toml beside evaluations.jsonl, at any depth)"
        )
    return found


def _domain(environment: str, source: str) -> str:
    """The environment's name, or that of another OGBench data set."""
    environment = environment.removeprefix("ogbench:")
    if not source.startswith("ogbench:"):
        return environment
    return source.removeprefix("ogbench:").removesuffix("-v0").removesuffix("-100m")


def _label(method: str, name: str, domain: str) -> str:
    """The method, and the variant that the experiment's name ends with (`c2_qam_edit-T1`)."""
    variant = name.partition("-")[2]
    redundant = not variant or variant == method or domain.endswith(f"-{variant}")
    return method if redundant else f"{method}-{variant}"


def _ends(schedule: Mapping[str, Any]) -> dict[str, int]:
    steps = phase_steps(schedule)
    phases = [phase for phase in PHASES if phase in steps]
    return dict(zip(phases, accumulate(steps[phase] for phase in phases), strict=True))


def _evaluations(path: Path) -> Iterator[EvaluationRow]:
    for number, row in enumerate(read_json_lines(path), start=1):
        try:
            yield EvaluationRow(row["step"], row["phase"], float(row["success"]), row)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: line {number}: found {json.dumps(row)}, not an evaluation with step, "
                "phase and success; remove the line, or leave the run out"
            ) from error


Scores = Mapping[Task, Float[np.ndarray, " runs"]]
"""The success rates of one method's runs, task by task."""

ALL = "all"
"""The name of the group of all tasks."""


@dataclass(frozen=True)
class PhaseEnd:
    """The success rates at the end of a phase, or at a step.

    `scores` are the rates of each label, task by task in the tasks' order; `steps` those of the
    evaluations; `missing` the runs without one; `episodes` the fewest of an evaluation.
    """

    name: str
    steps: tuple[int, ...]
    scores: Mapping[str, Scores]
    missing: tuple[Run, ...]
    episodes: int = 0

    @property
    def title(self) -> str:
        """The name with its steps."""
        steps = " and ".join(f"{step:,}" for step in self.steps)
        word = "steps" if len(self.steps) > 1 else "step"
        return self.name if self.name.startswith("step") else f"{self.name} ({word} {steps})"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks with runs."""
        return tuple(sorted({task for scores in self.scores.values() for task in scores}))

    @property
    def domains(self) -> dict[str, tuple[Task, ...]]:
        """The tasks of each domain."""
        return _by_domain(self.tasks)

    @property
    def groups(self) -> dict[str, tuple[Task, ...]]:
        """The tasks of each group with an estimate: tasks, domains, all."""
        return {str(task): (task,) for task in self.tasks} | self.domains | {ALL: self.tasks}


def phase_ends(runs: Sequence[Run], step: int | None) -> list[PhaseEnd]:
    """The end of each phase, or `step`; those without a run are left out."""
    if step is not None:
        ends = [_phase_end(f"step {step:,}", [(run, run.at(step)) for run in runs])]
    else:
        seen, ends = {row.phase for run in runs for row in run.evaluations}, []
        known = [phase for phase in PHASES if phase in seen]
        for phase in (*known, *sorted(seen.difference(PHASES))):
            # RLPD has no offline phase: runs that never enter a phase are not missing there.
            entering = [run for run in runs if phase in run.ends or not run.ends]
            rows = [(run, run.at_end_of(phase)) for run in entering]
            ends.append(_phase_end(f"end of the {phase} phase", rows))
    return [phase_end for phase_end in ends if phase_end.scores]


def _phase_end(name: str, rows: Sequence[tuple[Run, EvaluationRow | None]]) -> PhaseEnd:
    found = [(run, row) for run, row in rows if row is not None]
    labels = dict.fromkeys(run.label for run, _ in found)
    scores = {
        label: _rates((run, row) for run, row in found if run.label == label) for label in labels
    }
    missing = tuple(run for run, row in rows if row is None)
    steps = tuple(sorted({row.step for _, row in found}))
    episodes = min((run.episodes for run, _ in found), default=0)
    return PhaseEnd(name, steps, scores, missing, episodes)


def _rates(rows: Iterable[tuple[Run, EvaluationRow]]) -> Scores:
    rates: dict[Task, list[float]] = defaultdict(list)
    for run, row in rows:
        rates[run.task].append(row.success)
    return {task: np.array(values) for task, values in rates.items()}


def _by_domain(tasks: Sequence[Task]) -> dict[str, tuple[Task, ...]]:
    return {name: tuple(group) for name, group in groupby(tasks, key=lambda task: task.domain)}


class TaskGroup(NamedTuple):
    """One method's runs on a group of tasks."""

    label: str
    name: str
    tasks: tuple[Task, ...]
    runs: list[Run]


def task_groups(runs: Sequence[Run], whole: bool = True) -> Iterator[TaskGroup]:
    """Each method's tasks, domains, and all, without the runs that have diverged.

    **Arguments:** `whole` requires all published tasks of a domain, and all domains.
    """
    for label, every in by_label(runs).items():
        valid = [run for run in every if run.diverged is None]
        tasks = tuple(sorted({run.task for run in valid}))
        domains, least = _by_domain(tasks), TASKS if whole else 2
        full = {name: group for name, group in domains.items() if len(group) >= least}
        groups = {str(task): (task,) for task in tasks} | full
        if whole and set(full) >= set(DOMAINS):
            groups[ALL] = tuple(task for task in tasks if task.domain in DOMAINS)
        elif not whole and len(domains) > 1:
            groups[ALL] = tasks
        for name, group in groups.items():
            yield TaskGroup(label, name, group, [run for run in valid if run.task in group])


def shared_steps(runs: Sequence[Run]) -> list[int]:
    """The steps at which all of the runs were evaluated, in order."""
    return sorted(set.intersection(*({row.step for row in run.evaluations} for run in runs)))


def scores_at(runs: Sequence[Run], step: int) -> Scores:
    """The success rates of a method's runs at a step of all of them."""
    ordered = sorted(runs, key=_identity)
    return _rates((run, row) for run in ordered if (row := run.at(step)) is not None)


def by_label(runs: Sequence[Run]) -> Mapping[str, list[Run]]:
    """The runs of each label."""
    labels = dict.fromkeys(run.label for run in runs)
    return {label: [run for run in runs if run.label == label] for label in labels}


def pair_runs(
    ours: Sequence[Run], others: Sequence[Run]
) -> Sequence[tuple[str, Sequence[Run], Sequence[Run]]]:
    """The runs of both sides to be compared: of one method each, or method by method.

    **Raises:** `UserError` if there are several methods and none is on both sides, or no task is.
    """
    mine, theirs = by_label(ours), by_label(others)
    if len(mine) == len(theirs) == 1:
        first, second = (*mine, *theirs)
        pairs = [(first if first == second else f"{first} - {second}", ours, others)]
    else:
        pairs = [(label, mine[label], theirs[label]) for label in mine if label in theirs]
    if not pairs:
        raise UserError(
            f"no method is on both sides: {', '.join(mine)} against {', '.join(theirs)}; name "
            "folders with the runs of one method each"
        )
    if not any({run.task for run in a} & {run.task for run in b} for _, a, b in pairs):
        one, other = ours[0].task, others[0].task
        raise UserError(f"no task is on both sides: {one} against {other}, for example")
    return pairs
