"""Finding runs under folders, and reading from their files what a study needs of them."""

import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from qamx._utils.files import read_text
from qamx.errors import UserError

PHASES = ("cloning", "offline", "online")
"""The phases of the built-in schedules, in their order; `[schedule]` has `PHASE_steps` of each."""


class Task(NamedTuple):
    """A task of a domain; the domain is the name of the data set without `-v0`."""

    domain: str
    number: int

    def __str__(self) -> str:
        return f"{self.domain} task {self.number}"


@dataclass(frozen=True)
class Evaluation:
    """A row of a run's evaluations."""

    step: int
    phase: str
    success: float


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it.

    `label` is the method with the variant of it, if there is one; `episodes` is how many an
    evaluation has. `ends` holds the last step of each phase, and is empty for a schedule that is
    not built in. `diverged` says why the run left its group.
    """

    folder: Path
    label: str
    task: Task
    seed: int
    episodes: int
    ends: dict[str, int]
    evaluations: tuple[Evaluation, ...]
    diverged: str | None

    @property
    def problem(self) -> str | None:
        """Why the run's end is not known, or None for a run that is complete."""
        last = self.evaluations[-1].step if self.evaluations else 0
        if self.diverged is not None:
            return f"diverged after its evaluation at step {last:,}: {self.diverged}"
        end = max(self.ends.values(), default=last)
        if last < end:
            return f"incomplete: evaluated up to step {last:,} of {end:,}"
        return None

    def at(self, step: int) -> float | None:
        """The success rate at a step, or None if there was no evaluation."""
        rows = [row for row in self.evaluations if row.step == step]
        return rows[-1].success if rows else None

    def at_end_of(self, phase: str) -> Evaluation | None:
        """The last evaluation of a phase, or None if the phase is not over."""
        rows = [row for row in self.evaluations if row.phase == phase]
        if not rows or rows[-1].step < self.ends.get(phase, 0):
            return None
        return rows[-1]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Every run at any depth under the folders, by label, task and seed.

    **Raises:** `UserError` if there is none, a file is damaged, or two runs cannot be told apart.
    """
    places = dict.fromkeys(place for folder in folders for place in _run_folders(folder))
    runs = [read_run(place) for place in places]
    runs.sort(key=lambda run: (run.label, run.task, run.seed))
    _check_distinct(runs)
    return runs


def read_run(folder: Path) -> Run:
    """The run of a folder.

    **Raises:** `UserError` with the file and what is wrong with it.
    """
    path = folder / "config.toml"
    try:
        config = tomllib.loads(read_text(path))
        method = config["agent"]["method"]
        environment, schedule = config["environment"], config["schedule"]
        domain = _domain(environment["id"], config.get("data", {}).get("source", ""))
        return Run(
            folder=folder,
            label=_label(method, config["name"], domain),
            task=Task(domain, environment.get("task", 1)),
            seed=config["seed"],
            episodes=config["evaluation"]["episodes"],
            ends=_ends(schedule),
            evaluations=tuple(_evaluations(folder / "evaluations.jsonl")),
            diverged=_diverged(folder / "diverged.json"),
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
    found = sorted(
        path.parent
        for path in folder.rglob("config.toml")
        if (path.parent / "evaluations.jsonl").exists()
    )
    if not found:
        raise UserError(
            f"{folder}: found no run in it (config.toml beside evaluations.jsonl, at any depth)"
        )
    return found


def _domain(environment: str, source: str) -> str:
    """Names the data where it is another OGBench set than the environment's own."""
    environment = environment.removeprefix("ogbench:")
    if not source.startswith("ogbench:"):
        return environment
    return source.removeprefix("ogbench:").removesuffix("-v0").removesuffix("-100m")


def _label(method: str, name: str, domain: str) -> str:
    """The method, and the variant that the experiment's name ends with (`c2_qam_edit-T1`)."""
    variant = name.partition("-")[2]
    told = not variant or variant == method or domain.endswith(f"-{variant}")
    return method if told else f"{method}-{variant}"


def _ends(schedule: dict[str, Any]) -> dict[str, int]:
    step, ends = 0, {}
    for phase in PHASES:
        if f"{phase}_steps" in schedule:
            step += schedule[f"{phase}_steps"]
            ends[phase] = step
    return ends


def _evaluations(path: Path) -> Iterator[Evaluation]:
    for number, line in enumerate(StringIO(read_text(path)), start=1):
        try:
            row = json.loads(line)
            yield Evaluation(row["step"], row["phase"], float(row["success"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: line {number}: found {line.strip()!r}, not an evaluation with step, "
                "phase and success; remove the line, or leave the run out"
            ) from error


def _diverged(path: Path) -> str | None:
    return json.loads(path.read_text(encoding="utf-8"))["why"] if path.exists() else None


def _check_distinct(runs: Sequence[Run]) -> None:
    places: dict[tuple[str, Task, int], Path] = {}
    for run in runs:
        key = (run.label, run.task, run.seed)
        if key in places:
            raise UserError(
                f"{places[key]} and {run.folder} are both {run.label} on {run.task} with "
                f"seed {run.seed}; leave one out, or name the variant in the config.toml of one "
                f'(name = "NAME-VARIANT")'
            )
        places[key] = run.folder
