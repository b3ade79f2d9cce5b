"""Jobs of a sweep: runs packed into processes, and their folder."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from qamx._utils.files import TextError, atomic_write, read_text
from qamx.config import Experiment, SuiteRun
from qamx.errors import UserError
from qamx.training.guards import is_locked
from qamx.training.logs import FROZEN, last_row


@dataclass(frozen=True)
class PlanEntry:
    """What the sweep knows of a run: its process, its last step, the job that it is in.

    **Arguments:** `kind` is what runs that cost the same have in common, `job` Slurm's number.
    """

    process: str
    total: int
    kind: str
    job: str | None = None


@dataclass(frozen=True)
class RunSpec:
    """A run as its process is told of it."""

    file: str
    overrides: tuple[str, ...]
    seed: int
    directory: str


class SweepFolder:
    """`plan.json`, the orders of processes, their logs and their exit codes.

    **Arguments:** `directory` is the folder of the sweep, in which its runs have theirs.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.own = directory / "_sweep"

    def entries(self) -> dict[str, PlanEntry]:
        """The runs that were planned here, by name.

        **Raises:** `UserError` if the plan cannot be read.
        """
        path = self.own / "plan.json"
        try:
            table = json.loads(path.read_bytes())
            return {name: PlanEntry(**entry) for name, entry in table.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: cannot be read ({error}); remove it: qamx sweep writes a new one"
            ) from error

    def plan(self, entries: Mapping[str, PlanEntry]) -> None:
        """Adds runs to the plan, or renews what it says of them."""
        _write(
            self.own / "plan.json",
            {name: asdict(entry) for name, entry in {**self.entries(), **entries}.items()},
        )

    def submitted(self, jobs: Mapping[str, str]) -> None:
        """Notes the job that each process is in."""
        entries = self.entries().items()
        self.plan(
            {
                name: replace(entry, job=jobs[entry.process])
                for name, entry in entries
                if entry.process in jobs
            }
        )

    def order(self, process: str, runs: Sequence[RunSpec]) -> None:
        """Writes down what a process is to carry out."""
        _write(self.specs_path(process), [asdict(run) for run in runs])

    def specs_path(self, process: str) -> Path:
        """The file of a process's order."""
        return self.own / "processes" / f"{process}.json"

    def log_path(self, process: str) -> Path:
        """The file of what a process prints."""
        return self.own / "logs" / f"{process}.log"

    def exit_code_of(self, process: str) -> int | None:
        """What the process last ended with: an exit code, or less a signal; None without an end."""
        try:
            return int(self._code(process).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def clear_exit_code(self, process: str) -> None:
        """Forgets how the process ended before."""
        self._code(process).unlink(missing_ok=True)

    def record_exit_code(self, process: str, code: int) -> None:
        """Notes how a process ended."""
        self._code(process).write_text(f"{code}\n")

    def _code(self, process: str) -> Path:
        return self.specs_path(process).with_suffix(".code")


def read_specs(path: Path) -> list[RunSpec]:
    """The runs of a process.

    **Raises:** `UserError` if the file cannot be read.
    """
    try:
        return [RunSpec(**run) for run in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); start the sweep again") from error


def _write(path: Path, content: object) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(content, indent=1))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); name another folder with --out"
        ) from error


@dataclass(frozen=True)
class RunProgress:
    """Where a run stands.

    **Arguments:** `saved` is the step of the newest checkpoint, `step` the last that was logged
    if a process works on it, else the one that it goes on from; `rate` is in steps a second over
    the time since the run was last started, None where the files do not tell.
    """

    step: int
    saved: int
    evaluated: int
    success: float | None
    rate: float | None
    started: bool
    working: bool
    diverged: str

    def complete(self, total: int) -> bool:
        """Whether the run has reached its end, with its last evaluation and checkpoint."""
        return min(self.saved, self.evaluated) >= total


@dataclass(frozen=True)
class _StepTime:
    time: float
    step: int


def progress_of(directory: Path) -> RunProgress:
    """Reads a run's folder, which need not be there."""
    if not directory.is_dir():
        return RunProgress(0, 0, -1, None, None, False, False, "")
    marks = _checkpoints(directory)
    saved = max((mark.step for mark in marks), default=0)
    logged = last_row(directory / "metrics.jsonl").get("step", 0)
    evaluation = last_row(directory / "evaluations.jsonl")
    working = is_locked(directory)
    return RunProgress(
        step=max(saved, logged) if working else saved,
        saved=saved,
        evaluated=evaluation.get("step", -1),
        success=evaluation.get("success"),
        rate=_rate(marks, _logged(directory, logged), _starts(directory)),
        started=(directory / "config.toml").exists(),
        working=working,
        diverged="" if working else _divergence(directory, logged),
    )


def steps_of(schedule: Mapping[str, Any]) -> int:
    """The last step that a table `[schedule]` asks for: its keys that end in `_steps`, summed."""
    return sum(
        value
        for key, value in schedule.items()
        if key.endswith("_steps") and isinstance(value, int)
    )


def planned_steps(directory: Path) -> int:
    """The last step of a run that has been started, by its `config.toml`; 0 if unknown."""
    import tomli

    try:
        table = tomli.loads(read_text(directory / "config.toml"))
    except (OSError, ValueError, TextError):
        return 0
    return steps_of(table.get("schedule", {}))


def _checkpoints(directory: Path) -> list[_StepTime]:
    """Every whole checkpoint, with the time of its manifest, in the order of the steps."""
    found = []
    for path in (directory / "checkpoints").glob("*/manifest.json"):
        if path.parent.name.isdecimal():
            found.append(_StepTime(path.stat().st_mtime, int(path.parent.name)))
    return sorted(found, key=lambda mark: mark.step)


def _logged(directory: Path, step: int) -> list[_StepTime]:
    path = directory / "metrics.jsonl"
    return [_StepTime(path.stat().st_mtime, step)] if step else []


def _starts(directory: Path) -> list[float]:
    """When the run was started and continued."""
    try:
        starts = json.loads((directory / "passport.json").read_bytes())["starts"]
        return [datetime.fromisoformat(start["time"]).timestamp() for start in starts]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _rate(
    checkpoints: list[_StepTime], logged: list[_StepTime], starts: list[float]
) -> float | None:
    """Steps a second since the last start, from the times at which files were written.

    The start itself counts only where less is known: data and compilation come after it.
    """
    start = starts[-1] if starts else 0.0
    since = [mark for mark in (*checkpoints, *logged) if mark.time >= start]
    before = [mark.step for mark in checkpoints if mark.time < start]
    rate = _slope(since)
    if rate is None and (before or len(starts) == 1):
        rate = _slope([*since, _StepTime(start, max(before, default=0))])
    return rate


def _slope(marks: list[_StepTime]) -> float | None:
    """Steps a second between the first step of the marks and the last."""
    if not marks:
        return None
    first, last = (edge(marks, key=lambda mark: (mark.step, -mark.time)) for edge in (min, max))
    if last.step <= first.step or last.time <= first.time:
        return None
    return (last.step - first.step) / (last.time - first.time)


def _divergence(directory: Path, logged: int) -> str:
    """Why the run does not go on, if a value that is not finite ended it."""
    mark = directory / FROZEN
    if mark.exists():
        return json.loads(mark.read_bytes())["why"]
    for path in (directory / "nonfinite").glob("step-*/report.json"):
        # A row is logged once its metrics are found finite: later rows prove that it went on.
        if int(path.parent.name.removeprefix("step-")) >= logged:
            return f"not finite; see {path.parent}"
    return ""


@dataclass(frozen=True)
class ScheduledRun:
    """A run with its folder, its last step `total` and how far it is.

    **Arguments:** `experiment` is of any of the seeds that it shares its overrides with.
    """

    run: SuiteRun
    experiment: Experiment
    total: int
    directory: Path
    progress: RunProgress

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.progress.complete(self.total)

    @property
    def over(self) -> bool:
        """Whether the run goes no further: it is complete, or has diverged."""
        return self.complete or bool(self.progress.diverged)

    @property
    def left(self) -> int:
        """The steps that are still to be taken."""
        return 0 if self.over else max(self.total - self.progress.saved, 0)

    @property
    def kind(self) -> str:
        """What runs that cost the same have in common."""
        return f"{self.experiment.agent.method} on {self.experiment.environment.id}"


@dataclass(frozen=True)
class Process:
    """Runs that differ in their seeds alone, trained as one program; or one run."""

    runs: tuple[ScheduledRun, ...]

    @property
    def name(self) -> str:
        """What its order and its log are called."""
        more = f"-and{len(self.runs) - 1}more" if self.runs[1:] else ""
        return f"{self.runs[0].run.name}{more}"

    @property
    def left(self) -> int:
        """The steps that are still to be taken."""
        return max(run.left for run in self.runs)

    @property
    def kind(self) -> str:
        """What processes that cost the same have in common."""
        return f"{self.runs[0].kind}, {len(self.runs)} together"


def scheduled_runs(runs: Sequence[SuiteRun], directory: Path) -> list[ScheduledRun]:
    """The runs of a suite in a sweep's folder, each with its progress."""
    found = []
    for _, seeds in groupby(runs, key=lambda run: (run.file, run.overrides)):
        same = list(seeds)
        experiment = same[0].load()  # once for all seeds, of which there may be thousands
        total = steps_of(experiment.to_dict()["schedule"])
        for run in same:
            folder = directory / run.name
            found.append(ScheduledRun(run, experiment, total, folder, progress_of(folder)))
    return found


def pack(runs: Sequence[ScheduledRun], seeds: int) -> list[Process]:
    """Processes of up to `seeds` runs that differ in their seeds alone.

    The same runs share a process each time: a group goes on as the group that it was. Runs that
    stand so far apart that they cannot have been one get processes of their own.
    """
    processes = []
    for _, same in groupby(runs, key=lambda one: (one.run.file, one.run.overrides)):
        members = list(same)
        for first in range(0, len(members), seeds):
            group = members[first : first + seeds]
            processes += [Process(tuple(together)) for together in _standing_together(group)]
    return processes


def _standing_together(group: Sequence[ScheduledRun]) -> Iterator[list[ScheduledRun]]:
    """The group, or those of it at each step where no kill of the group explains the distance."""
    going = [run for run in group if not run.progress.diverged]
    steps = [run.progress.saved for run in going]
    apart = bool(steps) and max(steps) - min(steps) > group[0].experiment.checkpoint.every
    if not apart:
        yield list(group)
        return
    ordered = sorted(group, key=lambda run: run.progress.saved)
    for _, same in groupby(ordered, key=lambda run: run.progress.saved):
        yield list(same)
