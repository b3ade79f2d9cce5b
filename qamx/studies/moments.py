"""The moments of a study at which runs are compared, and their success rates then."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from qamx.studies.runs import PHASES, Evaluation, Run, Task

Scores = Mapping[Task, Float[np.ndarray, " runs"]]
"""The success rates of one method's runs, task by task."""

ALL = "all"
"""The name of the group of all tasks."""


@dataclass(frozen=True)
class Moment:
    """Where runs are compared: the end of a phase, or a step.

    `scores` are the success rates of each label, task by task in the tasks' order; `steps` those
    at which they were read; `missing` the runs that were not there yet.
    """

    name: str
    steps: tuple[int, ...]
    scores: Mapping[str, Scores]
    missing: tuple[Run, ...]

    @property
    def title(self) -> str:
        """The name with its steps."""
        steps = " and ".join(f"{step:,}" for step in self.steps)
        word = "steps" if len(self.steps) > 1 else "step"
        return self.name if self.name.startswith("step") else f"{self.name} ({word} {steps})"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Every task that some method has runs on."""
        return tuple(sorted({task for scores in self.scores.values() for task in scores}))

    @property
    def domains(self) -> dict[str, tuple[Task, ...]]:
        """The tasks of each domain."""
        found: dict[str, tuple[Task, ...]] = {}
        for task in self.tasks:
            found[task.domain] = (*found.get(task.domain, ()), task)
        return found

    @property
    def groups(self) -> dict[str, tuple[Task, ...]]:
        """The tasks of each group that has an estimate of its own: tasks, domains, all."""
        return {str(task): (task,) for task in self.tasks} | self.domains | {ALL: self.tasks}


def moments(runs: Sequence[Run], step: int | None) -> list[Moment]:
    """The end of each phase, or one step if it is given; moments without a run are left out."""
    if step is not None:
        found = [_moment(f"step {step:,}", runs, lambda run: _at(run, step))]
    else:
        found = [_end_of(phase, runs) for phase in _phases(runs)]
    return [moment for moment in found if moment.scores]


def _at(run: Run, step: int) -> Evaluation | None:
    return next((row for row in reversed(run.evaluations) if row.step == step), None)


def _phases(runs: Sequence[Run]) -> list[str]:
    seen = {row.phase for run in runs for row in run.evaluations}
    return [*(phase for phase in PHASES if phase in seen), *sorted(seen.difference(PHASES))]


def _end_of(phase: str, runs: Sequence[Run]) -> Moment:
    # RLPD has no offline phase: runs that never enter a phase are not missing there.
    concerned = [run for run in runs if phase in run.ends or not run.ends]
    return _moment(f"end of the {phase} phase", concerned, lambda run: run.at_end_of(phase))


def _moment(name: str, runs: Sequence[Run], read: Callable[[Run], Evaluation | None]) -> Moment:
    rates: dict[str, dict[Task, list[float]]] = defaultdict(lambda: defaultdict(list))
    steps, missing = set(), []
    for run in runs:
        row = read(run)
        if row is None:
            missing.append(run)
            continue
        rates[run.label][run.task].append(row.success)
        steps.add(row.step)
    scores = {
        label: {task: np.array(found) for task, found in tasks.items()}
        for label, tasks in rates.items()
    }
    return Moment(name, tuple(sorted(steps)), scores, tuple(missing))
