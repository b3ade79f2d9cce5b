"""Which runs of a suite share a process, and which processes a job."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from qamx.config import Experiment, SuiteRun
from qamx.sweep.progress import Progress, progress_of, steps_of


@dataclass(frozen=True)
class Planned:
    """A run with its folder, its last step `total` and how far it is.

    **Arguments:** `experiment` is of any of the seeds that it shares its overrides with.
    """

    run: SuiteRun
    experiment: Experiment
    total: int
    directory: Path
    progress: Progress

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

    runs: tuple[Planned, ...]

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


def planned(runs: Sequence[SuiteRun], directory: Path) -> list[Planned]:
    """The runs of a suite in a sweep's folder, each with its progress."""
    found = []
    for _, seeds in groupby(runs, key=lambda run: (run.file, run.overrides)):
        same = list(seeds)
        experiment = same[0].load()  # once for all seeds, of which there may be thousands
        total = steps_of(experiment.to_dict()["schedule"])
        for run in same:
            folder = directory / run.name
            found.append(Planned(run, experiment, total, folder, progress_of(folder)))
    return found


def pack(runs: Sequence[Planned], seeds: int) -> list[Process]:
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


def _standing_together(group: Sequence[Planned]) -> Iterator[list[Planned]]:
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
