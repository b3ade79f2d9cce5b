"""Every estimate of a moment, with its interval."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from qamx.studies import statistics
from qamx.studies.bootstrap import Parts, interval, resample
from qamx.studies.moments import ALL, Moment, Scores
from qamx.studies.runs import Task


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, and from how many runs it comes."""

    value: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, value: float, draws: Float[np.ndarray, " resamples"], runs: int) -> "Estimate":
        """An estimate with the interval of its resamples."""
        low, high = interval(draws)
        return cls(float(value), float(low), float(high), runs)


@dataclass(frozen=True)
class Profile:
    """A performance profile and the ends of its band, at `statistics.THRESHOLDS`."""

    values: Float[np.ndarray, " thresholds"]
    low: Float[np.ndarray, " thresholds"]
    high: Float[np.ndarray, " thresholds"]


@dataclass(frozen=True)
class Summary:
    """What a report says of a moment.

    `means` and `interquartile` hold an estimate for each label and group in which the label has
    runs on every task. The others are over all tasks, for the labels that have runs on all of
    them: `profiles`; `improvement`, of the first of them over each other; `wins`, of each over
    each, without intervals. `labels` are sorted by their mean over all tasks.
    """

    moment: Moment
    labels: tuple[str, ...]
    means: Mapping[tuple[str, str], Estimate]
    interquartile: Mapping[tuple[str, str], Estimate]
    profiles: Mapping[str, Profile]
    improvement: Mapping[str, Estimate]
    wins: Mapping[tuple[str, str], float]

    @property
    def complete(self) -> tuple[str, ...]:
        """The labels with runs on every task."""
        return tuple(label for label in self.labels if (label, ALL) in self.means)


def summarise(moment: Moment) -> Summary:
    """Computes every estimate of a moment."""
    means: dict[tuple[str, str], Estimate] = {}
    interquartile: dict[tuple[str, str], Estimate] = {}
    profiles: dict[str, Profile] = {}
    for label, scores in moment.scores.items():
        draws = dict(zip(scores, resample(label, scores), strict=True))
        for name, tasks in moment.groups.items():
            if not all(task in scores for task in tasks):
                continue
            means[label, name] = _estimate(statistics.mean, scores, draws, tasks)
            if name in (*moment.domains, ALL):
                found = _estimate(statistics.interquartile_mean, scores, draws, tasks)
                interquartile[label, name] = found
        if (label, ALL) in means:
            profiles[label] = _profile(scores, draws)
    labels = _by_mean(moment, means)
    complete = [label for label in labels if (label, ALL) in means]
    beaten = {other: improvement(moment, complete[0], other) for other in complete[1:]}
    wins = _wins(moment, complete)
    return Summary(moment, labels, means, interquartile, profiles, beaten, wins)


def improvement(moment: Moment, one: str, other: str) -> Estimate:
    """How likely a run of one label beats one of another, over all tasks."""
    pair = [(label, moment.scores[label]) for label in (one, other)]
    parts = [_of(scores, moment.tasks) for _, scores in pair]
    again = [resample(label, {t: scores[t] for t in moment.tasks}) for label, scores in pair]
    count = sum(len(rates) for rates in (*parts[0], *parts[1]))
    value, draws = statistics.improvement(*parts), statistics.improvement(*again)
    return Estimate.of(float(value), draws, count)


Draws = Mapping[Task, Float[np.ndarray, "... runs"]]
"""Success rates by task, or resamples of them."""


def _estimate(
    statistic: Callable[[Parts], Float[np.ndarray, "..."]],
    scores: Draws,
    draws: Draws,
    tasks: Sequence[Task],
) -> Estimate:
    parts = _of(scores, tasks)
    count = sum(len(rates) for rates in parts)
    return Estimate.of(float(statistic(parts)), statistic(_of(draws, tasks)), count)


def _profile(scores: Draws, draws: Draws) -> Profile:
    bands = interval(statistics.profile(list(draws.values())))
    return Profile(statistics.profile(list(scores.values())), *bands)


def _of(scores: Draws, tasks: Sequence[Task]) -> list[Float[np.ndarray, "... runs"]]:
    return [scores[task] for task in tasks]


def _by_mean(moment: Moment, means: Mapping[tuple[str, str], Estimate]) -> tuple[str, ...]:
    """Those that have all tasks first, by their mean; the others behind them, by name."""

    def order(label: str) -> tuple[bool, float, str]:
        whole = means.get((label, ALL))
        return whole is None, 0.0 if whole is None else -whole.value, label

    return tuple(sorted(moment.scores, key=order))


def _wins(moment: Moment, labels: Sequence[str]) -> dict[tuple[str, str], float]:
    """The probability of improvement of each over each."""
    parts: dict[str, Scores] = {label: moment.scores[label] for label in labels}
    return {
        (one, other): float(
            statistics.improvement(_of(parts[one], moment.tasks), _of(parts[other], moment.tasks))
        )
        for one in labels
        for other in labels
    }
