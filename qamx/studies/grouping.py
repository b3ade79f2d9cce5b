"""The runs of each method on each group of tasks, and which of two sides belong together."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qamx.errors import UserError
from qamx.studies.moments import ALL, Scores
from qamx.studies.reference import DOMAINS, TASKS
from qamx.studies.runs import Run, Task


class Group(NamedTuple):
    """One method's runs on a group of tasks."""

    label: str
    name: str
    tasks: tuple[Task, ...]
    runs: list[Run]


def groups(runs: Sequence[Run], whole: bool = True) -> Iterator[Group]:
    """Each method's tasks, domains, and all, without the runs that have diverged.

    **Arguments:** `whole` asks for all published tasks of a domain, and for all domains.
    """
    for label, every in by_label(runs).items():
        mine = [run for run in every if run.diverged is None]
        tasks = tuple(sorted({run.task for run in mine}))
        found = {str(task): (task,) for task in tasks}
        domains = {
            name: tuple(task for task in tasks if task.domain == name)
            for name in dict.fromkeys(task.domain for task in tasks)
        }
        full = {
            name: own
            for name, own in domains.items()
            if (len(own) == TASKS if whole else len(own) > 1)
        }
        found |= full
        if whole and set(full) >= set(DOMAINS):
            found[ALL] = tuple(task for task in tasks if task.domain in DOMAINS)
        elif not whole and len(domains) > 1:
            found[ALL] = tasks
        for group, own in found.items():
            yield Group(label, group, own, [run for run in mine if run.task in own])


def shared_steps(runs: Sequence[Run]) -> set[int]:
    """The steps at which every one of some runs was evaluated."""
    found = [{row.step for row in run.evaluations} for run in runs]
    return set.intersection(*found) if found else set()


def scores_at(runs: Sequence[Run], step: int) -> Scores:
    """The success rates of one method's runs at a step that all of them reached."""
    rates: dict[Task, list[float]] = {}
    for run in sorted(runs, key=lambda run: (run.task, run.seed)):
        rate = run.at(step)
        assert rate is not None, run.folder
        rates.setdefault(run.task, []).append(rate)
    return {task: np.array(found) for task, found in rates.items()}


def by_label(runs: Sequence[Run]) -> Mapping[str, list[Run]]:
    """The runs of each label."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.label, []).append(run)
    return found


def paired(
    one: Sequence[Run], other: Sequence[Run]
) -> Sequence[tuple[str, Sequence[Run], Sequence[Run]]]:
    """The runs of both sides to be compared: of one method each, or method by method.

    **Raises:** `UserError` if there are several methods and none is on both sides, or no task is.
    """
    mine, theirs = by_label(one), by_label(other)
    if len(mine) == len(theirs) == 1:
        (first, second), (own, others) = (*mine, *theirs), (*mine.values(), *theirs.values())
        name = first if first == second else f"{first} - {second}"
        pairs = [(name, own, others)]
    else:
        pairs = [(label, mine[label], theirs[label]) for label in mine if label in theirs]
    if not pairs:
        raise UserError(
            f"no method is on both sides: {', '.join(mine)} against {', '.join(theirs)}; name "
            "folders with the runs of one method each"
        )
    if not any(
        {run.task for run in own} & {run.task for run in others} for _, own, others in pairs
    ):
        raise UserError(
            f"no task is on both sides: {one[0].task} against {other[0].task}, for example"
        )
    return pairs
