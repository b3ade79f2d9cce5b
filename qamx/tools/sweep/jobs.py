"""Jobs of a sweep: runs packed into processes, and their folder."""

import contextlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from qamx._utils.files import TextError, atomic_write, read_text
from qamx.config import Experiment, Suite, SuiteRun
from qamx.config.schedules import phase_steps
from qamx.errors import UserError
from qamx.training.guards import is_locked
from qamx.training.logs import DIVERGED, last_row


@dataclass(frozen=True)
class PlanEntry:
    """A run in `plan.json`: its process, last step, cost class `kind`, and Slurm's job number."""

    process: str
    total: int
    kind: str
    job: str | None = None


@dataclass(frozen=True)
class RunSpec:
    """Run specification passed to a worker process."""

    file: str
    overrides: tuple[str, ...]
    seed: int
    directory: str


class SweepFolder:
    """`plan.json`, the processes' specifications, logs and exit codes, in a sweep's folder."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.own = directory / "_sweep"
        self.journal = self.own / "search.journal"  # of Optuna

    def entries(self) -> dict[str, PlanEntry]:
        """The planned runs, by name.

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
        """Adds or replaces runs of the plan."""
        known = {**self.entries(), **entries}
        _write(self.own / "plan.json", {name: asdict(entry) for name, entry in known.items()})

    def submitted(self, jobs: Mapping[str, str]) -> None:
        """Records the job of each process."""
        entries = self.entries().items()
        sent = {name: entry for name, entry in entries if entry.process in jobs}
        self.plan({name: replace(e, job=jobs[e.process]) for name, e in sent.items()})

    def write_specs(self, process: str, runs: Sequence[RunSpec]) -> None:
        """Writes the runs of a process."""
        _write(self.specs_path(process), [asdict(run) for run in runs])

    def specs_path(self, process: str) -> Path:
        """The file of a process's runs."""
        return self.own / "processes" / f"{process}.json"

    def log_path(self, process: str) -> Path:
        """The log of a process."""
        return self.own / "logs" / f"{process}.log"

    def exit_code_of(self, process: str) -> int | None:
        """The last exit code of a process, negative for a signal; None if it has not ended."""
        try:
            return int(self._code(process).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def clear_exit_code(self, process: str) -> None:
        """Removes the exit code of a process."""
        self._code(process).unlink(missing_ok=True)

    def record_exit_code(self, process: str, code: int) -> None:
        """Records the exit code of a process."""
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
        why = f"cannot be written ({error.strerror}); name another folder with --out"
        raise UserError(f"{path}: {why}") from error


@dataclass(frozen=True)
class RunProgress:
    """The progress of a run.

    **Arguments:** `saved` is the step of the newest checkpoint, `step` the last logged one while
    a process works on it, else `saved`; `rate` is in steps a second since the last start, None if
    unknown.
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
        """True at the run's end, with its last evaluation and checkpoint."""
        return min(self.saved, self.evaluated) >= total


class _StepTime(NamedTuple):
    time: float
    step: int


def progress_of(directory: Path) -> RunProgress:
    """The progress in a run's folder, which may be missing."""
    manifests = []
    for path in (directory / "checkpoints").glob("*/manifest.json"):
        if path.parent.name.isdecimal():
            with contextlib.suppress(FileNotFoundError):  # the run may have removed it meanwhile
                manifests.append(_StepTime(path.stat().st_mtime, int(path.parent.name)))
    saved = max((manifest.step for manifest in manifests), default=0)
    metrics = directory / "metrics.jsonl"
    logged = last_row(metrics).get("step", 0)
    newest = [_StepTime(metrics.stat().st_mtime, logged)] if logged else []
    evaluation = last_row(directory / "evaluations.jsonl")
    working = is_locked(directory)
    return RunProgress(
        step=max(saved, logged) if working else saved,
        saved=saved,
        evaluated=evaluation.get("step", -1),
        success=evaluation.get("success"),
        rate=_rate(manifests, newest, _starts(directory)),
        started=(directory / "config.toml").exists(),
        working=working,
        diverged="" if working else _divergence(directory, logged),
    )


def steps_of(schedule: Mapping[str, Any]) -> int:
    """The last step of a table `[schedule]`."""
    return sum(phase_steps(schedule).values())


def planned_steps(directory: Path) -> int:
    """The last step of a run, by its `config.toml`; 0 if unknown."""
    try:
        table = tomllib.loads(read_text(directory / "config.toml"))
    except (OSError, ValueError, TextError):
        return 0
    return steps_of(table.get("schedule", {}))


def _starts(directory: Path) -> list[float]:
    """The times of the run's starts."""
    try:
        starts = json.loads((directory / "passport.json").read_bytes())["starts"]
        return [datetime.fromisoformat(start["time"]).timestamp() for start in starts]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _rate(saved: list[_StepTime], logged: list[_StepTime], starts: list[float]) -> float | None:
    """Steps a second since the last start, from the times of files.

    The start itself is used only without better data: loading and compilation follow it.
    """
    start = starts[-1] if starts else 0.0
    since = [mark for mark in (*saved, *logged) if mark.time >= start]
    before = [mark.step for mark in saved if mark.time < start]
    rate = _slope(since)
    if rate is None and (before or len(starts) == 1):
        rate = _slope([*since, _StepTime(start, max(before, default=0))])
    return rate


def _slope(marks: list[_StepTime]) -> float | None:
    """Steps a second between the first and the last step."""
    if not marks:
        return None
    first, last = (edge(marks, key=lambda mark: (mark.step, -mark.time)) for edge in (min, max))
    if last.step <= first.step or last.time <= first.time:
        return None
    return (last.step - first.step) / (last.time - first.time)


def _divergence(directory: Path, logged: int) -> str:
    """The reason of a divergence, if a non-finite value ended the run."""
    if (record := directory / DIVERGED).exists():
        return json.loads(record.read_bytes())["why"]
    for path in (directory / "nonfinite").glob("step-*/report.json"):
        # Rows have finite metrics: later ones prove that the run continued.
        if int(path.parent.name.removeprefix("step-")) >= logged:
            return f"not finite; see {path.parent}"
    return ""


@dataclass(frozen=True)
class ScheduledRun:
    """A run with its folder, last step `total` and progress.

    **Arguments:** `experiment` may have another seed of the same overrides.
    """

    run: SuiteRun
    experiment: Experiment
    total: int
    directory: Path
    progress: RunProgress

    @property
    def spec(self) -> RunSpec:
        """The run for a worker process."""
        file, folder = str(self.run.file.resolve()), str(self.directory.resolve())
        return RunSpec(file, self.run.overrides, self.run.seed, folder)

    @property
    def complete(self) -> bool:
        """True if no step is left."""
        return self.progress.complete(self.total)

    @property
    def over(self) -> bool:
        """True if the run is complete or has diverged."""
        return self.complete or bool(self.progress.diverged)

    @property
    def left(self) -> int:
        """The remaining steps."""
        return 0 if self.over else max(self.total - self.progress.saved, 0)

    @property
    def kind(self) -> str:
        """The cost class: method and environment."""
        return f"{self.experiment.agent.method} on {self.experiment.environment.id}"


@dataclass(frozen=True)
class Process:
    """Runs that differ in their seeds alone, trained as one program; or one run."""

    runs: tuple[ScheduledRun, ...]

    @property
    def name(self) -> str:
        """The name of its specification and log."""
        more = f"-and{len(self.runs) - 1}more" if self.runs[1:] else ""
        return f"{self.runs[0].run.name}{more}"

    @property
    def left(self) -> int:
        """The remaining steps."""
        return max(run.left for run in self.runs)

    @property
    def kind(self) -> str:
        """The cost class: that of its runs, and their number."""
        return f"{self.runs[0].kind}, {len(self.runs)} together"


def scheduled_runs(runs: Sequence[SuiteRun], directory: Path) -> list[ScheduledRun]:
    """The runs of a suite with their progress."""
    scheduled = []
    for _, seeds in groupby(runs, key=lambda run: (run.file, run.overrides)):
        same = list(seeds)
        experiment = same[0].load()  # once for all seeds, of which there may be thousands
        total = steps_of(experiment.to_dict()["schedule"])
        for run in same:
            folder = directory / run.name
            scheduled.append(ScheduledRun(run, experiment, total, folder, progress_of(folder)))
    return scheduled


def pack(runs: Sequence[ScheduledRun], seeds: int) -> list[Process]:
    """Processes of up to `seeds` runs that differ in their seeds alone.

    Grouping is deterministic, so resumed groups keep their members; runs whose checkpoints are
    more than one save apart are run separately.
    """
    processes = []
    for _, same in groupby(runs, key=lambda run: (run.run.file, run.run.overrides)):
        members = list(same)
        for first in range(0, len(members), seeds):
            processes += _resumable(members[first : first + seeds])
    return processes


def _resumable(group: Sequence[ScheduledRun]) -> list[Process]:
    """The group, or its members by step if checkpoints are more than one save apart."""
    steps = [run.progress.saved for run in group if not run.progress.diverged] or [0]
    if max(steps) - min(steps) <= group[0].experiment.checkpoint.every:
        return [Process(tuple(group))]
    saved = sorted({run.progress.saved for run in group})
    return [Process(tuple(r for r in group if r.progress.saved == step)) for step in saved]


@dataclass(frozen=True)
class Sweep:
    """A suite's runs in a folder, packed into processes."""

    suite: Suite
    folder: SweepFolder
    runs: list[ScheduledRun]
    processes: list[Process]
    queued: frozenset[str]
    """Runs with an active Slurm job."""

    @classmethod
    def packed(
        cls,
        suite: Suite,
        folder: SweepFolder,
        runs: list[ScheduledRun],
        seeds: int,
        queued: frozenset[str] = frozenset(),
    ) -> "Sweep":
        """The runs in processes of up to `seeds` seeds."""
        return cls(suite, folder, runs, pack(runs, seeds), queued)

    @property
    def waiting(self) -> list[Process]:
        """The processes to start."""
        return [
            process
            for process in self.processes
            if not all(run.over for run in process.runs)
            and not any(r.progress.working or r.run.name in self.queued for r in process.runs)
        ]

    def plan(self) -> None:
        """Writes the plan for `qamx status`, and the specifications of the processes."""
        jobs = {name: entry.job for name, entry in self.folder.entries().items()}
        self.folder.plan(
            {
                run.run.name: PlanEntry(
                    process.name, run.total, process.kind, jobs.get(run.run.name)
                )
                for process in self.processes
                for run in process.runs
            }
        )
        for process in self.waiting:
            self.folder.write_specs(process.name, [run.spec for run in process.runs])

    def refreshed(self) -> "Sweep":
        """The same with the present progress of its runs."""

        def now(run: ScheduledRun) -> ScheduledRun:
            return replace(run, progress=progress_of(run.directory))

        processes = [Process(tuple(map(now, process.runs))) for process in self.processes]
        runs = [run for process in processes for run in process.runs]
        return replace(self, runs=runs, processes=processes)
