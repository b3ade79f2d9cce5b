"""Selecting settings as the paper does: the best of a sweep on tuning tasks, then fresh seeds."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from qamx.config import Suite
from qamx.errors import ExitCode, UserError
from qamx.tools.sweep.jobs import ScheduledRun


@dataclass(frozen=True)
class Candidate:
    """A setting of an experiment, and its mean success over the tuning tasks.

    **Arguments:** `choice` are the suite's overrides, `diverged` is the number of diverged runs,
    which count as no success.
    """

    file: Path
    choice: tuple[str, ...]
    success: float
    diverged: int


def select_best(suite: Suite, runs: Sequence[ScheduledRun], file: Path) -> int:
    """Writes the suite of the best setting of each experiment, on fresh seeds.

    The best has the highest success at the end of its runs, as the mean over the tuning tasks of
    the mean over the seeds; of equal ones the first in the suite.

    **Raises:** `UserError` if the suite is none for tuning, or runs are not complete.
    """
    if suite.selected is None:
        raise UserError(
            f'{suite.file}: suite.kind: selects nothing; write kind = "tuning" in [suite]'
        )
    unfinished = [run for run in runs if not run.over]
    if unfinished:
        raise UserError(
            f"{len(unfinished):,} of {len(runs):,} runs are not complete, such as "
            f"{unfinished[0].run.name}; qamx sweep {suite.file} continues them"
        )
    best = list(_best(runs))
    _write(suite, best, file)
    for candidate, count in best:
        choice = " ".join(candidate.choice) or "as the file has it"
        lost = f", {candidate.diverged} diverged" if candidate.diverged else ""
        print(
            f"{candidate.file.stem}: {choice}: success {candidate.success:.1%}{lost}, "
            f"best of {count}"
        )
    print(f"wrote {file}")
    return ExitCode.DONE


def _best(runs: Sequence[ScheduledRun]) -> Iterator[tuple[Candidate, int]]:
    """The best candidate of each experiment, with the number of candidates."""
    by_file: dict[Path, list[ScheduledRun]] = {}
    for run in runs:
        by_file.setdefault(run.run.file, []).append(run)
    for file_runs in by_file.values():
        by_choice: dict[tuple[str, ...], list[ScheduledRun]] = {}
        for run in file_runs:
            by_choice.setdefault(run.run.choice, []).append(run)
        candidates = [_candidate(choice, group) for choice, group in by_choice.items()]
        yield max(candidates, key=lambda candidate: candidate.success), len(candidates)


def _candidate(choice: tuple[str, ...], runs: Sequence[ScheduledRun]) -> Candidate:
    ordered = sorted(runs, key=_task)
    tasks = [fmean(map(_success, group)) for _, group in groupby(ordered, key=_task)]
    diverged = sum(not run.complete for run in runs)
    return Candidate(runs[0].run.file, choice, fmean(tasks), diverged)


def _task(run: ScheduledRun) -> str:
    return run.experiment.environment.label


def _success(run: ScheduledRun) -> float:
    return (run.progress.success or 0.0) if run.complete else 0.0


def _write(suite: Suite, best: Sequence[tuple[Candidate, int]], file: Path) -> None:
    import tomli_w

    assert suite.selected is not None
    shared: dict[str, Any] = {"seeds": list(suite.selected.seeds)}
    if suite.selected.tasks is not None:
        shared["tasks"] = list(suite.selected.tasks)
    if suite.selected.set:
        shared["set"] = list(suite.selected.set)
    groups = [
        {
            "experiments": [Path(os.path.relpath(candidate.file, file.parent)).as_posix()],
            "set": list(candidate.choice),
        }
        for candidate, _ in best
    ]
    head = f"# The best settings of {suite.file.name} by mean success over its tuning tasks.\n\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(head + tomli_w.dumps({"suite": shared, "group": groups}), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})") from error
