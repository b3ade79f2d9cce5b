"""`qamx status`: the progress of runs, from their folders and Slurm."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from qamx._utils.terminal import duration, print_table
from qamx.errors import ExitCode, UserError
from qamx.tools.sweep.jobs import PlanEntry, RunProgress, SweepFolder, planned_steps, progress_of
from qamx.tools.sweep.slurm import active_jobs
from qamx.training.logs import read_rate

State = Literal["queued", "running", "stopped", "failed", "complete", "diverged", "pruned"]

LINES = 5
"""Lines of a failed run's log."""

TAIL = 2**14
"""Bytes of a log that are read for them."""

HEADER = ("run", "state", "step", "of", "rate", "left", "success", "job")
"""The header of `row_of`."""

DEPTH = 2
"""The depth of the search for runs in a folder."""


@dataclass(frozen=True)
class RunStatus:
    """A run: steps and the last step, steps a second, seconds left, the last success rate.

    **Arguments:** `job` is Slurm's number and state, `why` the reason of a divergence, `lines` the
    end of a failed run's log.
    """

    run: str
    state: State
    step: int
    total: int
    rate: float | None
    left: float | None
    success: float | None
    job: str | None
    why: str
    log: str | None
    lines: tuple[str, ...]


def status(directory: Path, as_json: bool) -> None:
    """Prints the progress of every run under a folder.

    **Raises:** `UserError` if there are none.
    """
    runs = list(statuses(directory.absolute()))
    if not runs:
        raise UserError(f"{directory}: no runs here; name the folder of a run or of a sweep")
    if as_json:
        print(json.dumps([asdict(run) for run in runs], indent=1))
        return
    print_table(str(directory), HEADER, [row_of(run) for run in runs])
    for folder in _folders(directory.absolute(), DEPTH):
        if SweepFolder(folder).journal.exists():
            from qamx.tools.sweep.search import print_trials, trial_statuses

            print_trials(f"{folder}: trials of a search", trial_statuses(SweepFolder(folder)))
    for run in runs:
        if run.state == "diverged":
            print(f"{run.run}: {run.why}")
        elif run.state == "failed":
            print(f"{run.run}: the end of {run.log}:", *run.lines, sep="\n    ")
    counts = Counter(run.state for run in runs)
    print(", ".join(f"{count:,} {state}" for state, count in counts.items()))


def statuses(directory: Path) -> Iterator[RunStatus]:
    """The status of every run under a folder, with those that a sweep has planned."""
    folders = list(_folders(directory, DEPTH))
    plans = {folder: SweepFolder(folder) for folder in {*folders, directory.parent}}
    entries = {folder: plan.entries() for folder, plan in plans.items()}
    submitted = any(entry.job for known in entries.values() for entry in known.values())
    jobs = active_jobs() if submitted else {}
    pruned = {path for plan in plans.values() for path in _pruned_runs(plan)}
    for folder in folders:
        if _is_run(folder):
            known = entries.get(folder.parent, {}).get(folder.name)
            found = _status(folder, known, plans.get(folder.parent), jobs)
            yield replace(found, state="pruned") if folder in pruned else found
    for folder in folders:
        for name, entry in entries[folder].items():
            if not _is_run(folder / name):
                yield _status(folder / name, entry, plans[folder], jobs)


def runs_under(directory: Path) -> list[Path]:
    """The folders of runs in a folder, or the folder itself."""
    return [folder for folder in _folders(directory, DEPTH) if _is_run(folder)]


def _pruned_runs(plan: SweepFolder) -> set[Path]:
    """The folders of the runs of a search's pruned trials."""
    if not plan.journal.exists():
        return set()
    from qamx.tools.sweep.search import trial_statuses

    trials = [trial for trial in trial_statuses(plan) if trial.state == "pruned"]
    return {plan.directory / name for trial in trials for name in trial.runs}


def _folders(directory: Path, depth: int) -> Iterator[Path]:
    """The folder and its subfolders, without those inside runs."""
    yield directory
    if depth and directory.is_dir() and not _is_run(directory):
        for inner in sorted(directory.iterdir()):
            if inner.is_dir() and not inner.name.startswith(("_", ".")):
                yield from _folders(inner, depth - 1)


def _is_run(directory: Path) -> bool:
    return (directory / "config.toml").exists()


def _status(
    directory: Path, entry: PlanEntry | None, plan: SweepFolder | None, jobs: dict[str, str]
) -> RunStatus:
    progress, job = progress_of(directory), entry.job if entry else None
    total = planned_steps(directory) or (entry.total if entry else 0)
    word = jobs.get(job) if job else None
    code = plan.exit_code_of(entry.process) if entry and plan else None
    state = _state(progress, total, code, word)
    log = plan.log_path(entry.process) if entry and plan else None
    rate = (read_rate(directory) or progress.rate) if state == "running" else None
    return RunStatus(
        run=directory.name,
        state=state,
        step=progress.step,
        total=total,
        rate=rate,
        left=(total - progress.step) / rate if rate else None,
        success=progress.success,
        job=f"{job} {word or ''}".rstrip() if job else None,
        why=progress.diverged if state == "diverged" else "",
        log=str(log) if log is not None and log.exists() else None,
        lines=last_lines(log) if log is not None and state == "failed" else (),
    )


def _state(progress: RunProgress, total: int, code: int | None, word: str | None) -> State:
    """The state of a run, by its folder, then Slurm, then its process's exit code."""
    if progress.working:
        return "running"
    if total and progress.complete(total):
        return "complete"
    if progress.diverged:
        return "diverged"
    if word is not None:
        return "running" if word == "RUNNING" else "queued"
    if code not in (None, ExitCode.DONE, ExitCode.INTERRUPTED):
        return "failed"
    return "stopped" if progress.started else "queued"


def last_lines(log: Path) -> tuple[str, ...]:
    """The last lines of a log; none without a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(line for line in text.splitlines() if line.strip())[-LINES:]


def row_of(status: RunStatus) -> tuple[str, ...]:
    """A run's entries in a table."""
    return (
        status.run,
        status.state,
        f"{status.step:,}",
        f"{status.total:,}",
        "" if status.rate is None else f"{status.rate:,.1f}/s",
        "" if status.left is None else duration(status.left),
        "" if status.success is None else f"{status.success:.0%}",
        status.job or "",
    )
