"""Pairs of sides that can be compared: runs with published figures, and runs with runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from qamx.studies import agreement, statistics
from qamx.studies.bootstrap import resample
from qamx.studies.grouping import Group, groups, scores_at, shared_steps
from qamx.studies.moments import Scores
from qamx.studies.reference import SEEDS, published, steps
from qamx.studies.runs import Run
from qamx.studies.summary import Estimate

LEVEL = 0.05
"""How likely a comparison with any number of rows is to find a difference where there is none."""


@dataclass(frozen=True)
class Row:
    """One comparison: a method on a group of tasks at a step.

    `p` is the test's, `adjusted` holds for all rows together; `better` is the probability that
    one of our runs beats one of theirs, where theirs are at hand.
    """

    label: str
    group: str
    step: int
    ours: Estimate
    theirs: Estimate
    gap: Estimate
    p: float
    better: Estimate | None = None
    adjusted: float = 1.0

    @property
    def inside(self) -> bool:
        """Whether our mean lies in their interval."""
        return self.theirs.low <= self.ours.value <= self.theirs.high

    @property
    def differs(self) -> bool:
        """Whether the difference is more than chance explains."""
        return self.adjusted < LEVEL


@dataclass(frozen=True)
class Comparison:
    """Rows, and what could not be compared, a line each."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def against_published(runs: Sequence[Run], step: int | None) -> Comparison:
    """Compares runs with the published figures at the same step.

    Tasks, domains with all of their tasks, and all domains together, each at the last step that
    is published and that all of a method's runs on the group have reached, or at `step`.
    """
    rows: list[Row] = []
    missing: dict[tuple[str, str], list[str]] = {}
    for group in groups(runs):
        known, shared = steps(group.label, group.name), shared_steps(group.runs)
        common = [one for one in known if one in shared and step in (None, one)]
        if common:
            rows.append(_published_row(group, common[-1]))
        else:
            reason = (group.label, _why_not(known, shared, step))
            missing.setdefault(reason, []).append(group.name)
    return Comparison(_adjusted(rows), (*_diverged(runs), *_joined(missing)))


def against_runs(
    pairs: Sequence[tuple[str, Sequence[Run], Sequence[Run]]], step: int | None
) -> Comparison:
    """Compares runs with others on the tasks that both have, at the last step that all reached.

    **Arguments:** `pairs` are a name, one side's runs, and the other's.

    **Raises:** `UserError` if neither side of a pair has two seeds on a task.
    """
    rows, notes = [], []
    for name, one, other in pairs:
        notes += _diverged((*one, *other))
        for mine, theirs in _shared_groups(one, other):
            shared = sorted(shared_steps([*mine.runs, *theirs.runs]))
            common = [at for at in shared if step in (None, at)]
            if common:
                rows.append(_row(name, mine, theirs, common[-1]))
            else:
                reached = f"both sides at {_some(shared)}" if shared else "no step on both sides"
                notes.append(f"{name} on {mine.name}: {reached}")
    return Comparison(_adjusted(rows), tuple(notes))


def _joined(missing: Mapping[tuple[str, str], Sequence[str]]) -> Iterator[str]:
    """A line for each reason, with the groups that it holds for."""
    for (label, reason), (first, *others) in missing.items():
        more = f" and {len(others)} more" if others else ""
        yield f"{label} on {first}{more}: {reason}"


def _diverged(runs: Sequence[Run]) -> list[str]:
    return [f"{run.folder}: {run.problem}" for run in runs if run.diverged is not None]


def _shared_groups(one: Sequence[Run], other: Sequence[Run]) -> list[tuple[Group, Group]]:
    """The groups of the tasks that both sides have runs on."""
    both = {run.task for run in one if run.diverged is None}
    both &= {run.task for run in other if run.diverged is None}
    sides = ([run for run in runs if run.task in both] for runs in (one, other))
    mine, theirs = (groups(runs, whole=False) for runs in sides)
    return list(zip(mine, theirs, strict=True))


def _published_row(group: Group, step: int) -> Row:
    label, name, tasks, runs = group
    figures = published()
    figure, scores = figures[label, name, step], scores_at(runs, step)
    single = {
        task: figures[label, str(task), step]
        for task in tasks
        if (label, str(task), step) in figures
    }
    ours = agreement.side_of_runs(scores, tasks, _episodes(runs))
    found = agreement.difference(ours, agreement.side_of_published(figure, single), tasks)
    theirs = Estimate(figure.mean, figure.low, figure.high, SEEDS)
    return Row(label, name, step, _mean(label, scores), theirs, _gap(found), float(found.p))


def _row(name: str, mine: Group, theirs: Group, step: int) -> Row:
    scores = [scores_at(group.runs, step) for group in (mine, theirs)]
    one, other = (
        agreement.side_of_runs(rates, mine.tasks, _episodes(group.runs))
        for rates, group in zip(scores, (mine, theirs), strict=True)
    )
    found = agreement.difference(one, other, mine.tasks)
    # Two sides of one method must not share their resamples: names of their own.
    ours, others = (_mean(side, rates) for side, rates in zip(SIDES, scores, strict=True))
    better = _better(scores)
    return Row(name, mine.name, step, ours, others, _gap(found), float(found.p), better)


SIDES = ("one", "other")


def _better(scores: Sequence[Scores]) -> Estimate:
    draws = [resample(side, rates) for side, rates in zip(SIDES, scores, strict=True)]
    value = statistics.improvement(*(list(rates.values()) for rates in scores))
    count = sum(len(part) for rates in scores for part in rates.values())
    return Estimate.of(float(value), statistics.improvement(*draws), count)


def _mean(name: str, scores: Scores) -> Estimate:
    rates = list(scores.values())
    seeds = min(len(part) for part in rates)
    return Estimate.of(
        float(statistics.mean(rates)), statistics.mean(resample(name, scores)), seeds
    )


def _gap(found: agreement.Difference) -> Estimate:
    gap, half = float(found.gap), float(found.half)
    return Estimate(gap, gap - half, gap + half, 0)


def _episodes(runs: Sequence[Run]) -> int:
    """Episodes of an evaluation; of runs that have different ones, the fewest."""
    return min(run.episodes for run in runs)


def _adjusted(rows: Sequence[Row]) -> tuple[Row, ...]:
    values = agreement.holm([row.p for row in rows])
    return tuple(replace(row, adjusted=p) for row, p in zip(rows, values, strict=True))


def _why_not(known: Sequence[int], shared: set[int], step: int | None) -> str:
    if not known:
        return "no published figure"
    if step is not None and step in shared:
        return f"no published figure at step {step:,}, but at {_some(known)}"
    reached = f"all runs were evaluated at {_some(sorted(shared))}" if shared else "no shared step"
    return f"published at {_some(known)}; {reached}"


def _some(numbers: Sequence[int]) -> str:
    """A few numbers in full, of many the ends."""
    if len(numbers) > 3:
        return f"{len(numbers)} steps from {numbers[0]:,} to {numbers[-1]:,}"
    return " and ".join(f"{number:,}" for number in numbers)
