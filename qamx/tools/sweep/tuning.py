"""Selecting settings as the paper does: the best of a sweep on tuning tasks, then fresh seeds."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

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
    candidates = list(_candidates(runs))
    best = [max(each, key=lambda candidate: candidate.success) for each in candidates]
    _write(suite, best, file)
    for chosen, each in zip(best, candidates, strict=True):
        choice = " ".join(chosen.choice) or "as the file has it"
        lost = f", {chosen.diverged} diverged" if chosen.diverged else ""
        found = f"success {chosen.success:.1%}{lost}, best of {len(each)}"
        print(f"{chosen.file.stem}: {choice}: {found}")
    print(f"wrote {file}")
    return ExitCode.DONE


def _candidates(runs: Sequence[ScheduledRun]) -> Iterator[list[Candidate]]:
    """The candidates of each experiment."""
    groups: dict[Path, dict[tuple[str, ...], list[ScheduledRun]]] = {}
    for run in runs:
        groups.setdefault(run.run.file, {}).setdefault(run.run.choice, []).append(run)
    for file, choices in groups.items():
        yield [_candidate(file, choice, group) for choice, group in choices.items()]


def _candidate(file: Path, choice: tuple[str, ...], runs: Sequence[ScheduledRun]) -> Candidate:
    tasks: dict[str, list[float]] = {}
    for run in runs:
        success = (run.progress.success or 0.0) if run.complete else 0.0
        tasks.setdefault(run.experiment.environment.label, []).append(success)
    means = [fmean(tasks[task]) for task in sorted(tasks)]
    return Candidate(file, choice, fmean(means), sum(not run.complete for run in runs))


def _write(suite: Suite, best: Sequence[Candidate], file: Path) -> None:
    import tomli_w

    assert suite.selected is not None
    shared = suite.selected.model_dump(mode="json", exclude_defaults=True)
    groups = [
        {
            "experiments": [Path(os.path.relpath(candidate.file, file.parent)).as_posix()],
            "set": list(candidate.choice),
        }
        for candidate in best
    ]
    head = f"# The best settings of {suite.file.name} by mean success over its tuning tasks.\n\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(head + tomli_w.dumps({"suite": shared, "group": groups}), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})") from error
