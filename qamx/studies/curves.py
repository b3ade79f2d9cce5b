"""Learning curves: success over steps, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from qamx.studies import statistics
from qamx.studies.bootstrap import interval, resample
from qamx.studies.moments import ALL
from qamx.studies.runs import Run, Task


@dataclass(frozen=True)
class Curve:
    """The mean success rate of a method on a group of tasks at each step, and its interval."""

    steps: Int[np.ndarray, " steps"]
    mean: Float[np.ndarray, " steps"]
    low: Float[np.ndarray, " steps"]
    high: Float[np.ndarray, " steps"]


def curves(runs: Sequence[Run]) -> dict[str, dict[str, Curve]]:
    """The curves of each group (domains, and all tasks if there are several domains), by label.

    A curve is of the runs that are complete or, where a label has none on a task, of all that
    have not diverged. It has the steps at which all of these were evaluated, so that no step is a
    mean over fewer runs than another.
    """
    domains = sorted({run.task.domain for run in runs})
    groups = {domain: [run for run in runs if run.task.domain == domain] for domain in domains}
    if len(domains) > 1:
        groups[ALL] = list(runs)
    return {name: _of_group(group) for name, group in groups.items()}


def _of_group(runs: Sequence[Run]) -> dict[str, Curve]:
    tasks = {run.task for run in runs}
    found: dict[str, Curve] = {}
    for label in dict.fromkeys(run.label for run in runs):
        own = [run for run in runs if run.label == label and run.diverged is None]
        whole = [run for run in own if run.problem is None]
        shown = next((some for some in (whole, own) if {run.task for run in some} == tasks), None)
        if shown is not None:
            found[label] = curve(label, shown)
    return found


def curve(label: str, runs: Sequence[Run]) -> Curve:
    """The curve of one label's runs."""
    rates = [{row.step: row.success for row in run.evaluations} for run in runs]
    steps = sorted(set.intersection(*(set(one) for one in rates)))
    stacked: dict[Task, Float[np.ndarray, "runs steps"]] = {}
    for task in sorted({run.task for run in runs}):
        own = [one for one, run in zip(rates, runs, strict=True) if run.task == task]
        stacked[task] = np.array([[one[step] for step in steps] for one in own])
    mean = np.mean([table.mean(axis=0) for table in stacked.values()], axis=0)
    low, high = _band(label, stacked, len(steps))
    return Curve(np.array(steps, int), mean, low, high)


def _band(
    label: str, stacked: Mapping[Task, Float[np.ndarray, "runs steps"]], count: int
) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """The interval at each step by itself, from the same resamples as the tables'."""
    ends = [
        interval(statistics.mean(resample(label, {k: table[:, i] for k, table in stacked.items()})))
        for i in range(count)
    ]
    low, high = np.array(ends, float).reshape(count, 2).T
    return low, high
