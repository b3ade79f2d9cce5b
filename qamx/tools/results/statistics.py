"""Statistics over runs: bootstrap intervals, IQM, profiles, improvement."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from qamx.tools.results.runs import ALL, PhaseEnd, Scores, Task

RESAMPLES = 5_000
"""Bootstrap resamples; the paper's number."""

CONFIDENCE = 0.95
"""The coverage of intervals."""

Parts = Sequence[Float[np.ndarray, "... runs"]]
"""The success rates of each task, one entry a run; axes before the last are resamples."""


def indices(name: str, runs: int) -> Int[np.ndarray, "resamples runs"]:
    """The runs of each resample, for a method on a task.

    **Arguments:** `name` seeds the draw, so that the intervals of a method on a task are the same
    in every report.
    """
    generator = np.random.default_rng(tuple(name.encode()))
    return generator.integers(runs, size=(RESAMPLES, runs))


def resample(label: str, scores: Mapping[Any, Float[np.ndarray, " runs"]]) -> Parts:
    """The resamples of a method's success rates, task by task, in the order of `scores`."""
    return [rates[indices(f"{label}/{task}", len(rates))] for task, rates in scores.items()]


def interval(
    draws: Float[np.ndarray, "resamples ..."],
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """The percentile interval of a statistic."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(draws, (tail, 100 - tail), axis=0)
    return low, high


THRESHOLDS = np.linspace(0.0, 1.0, 51)
"""Thresholds of a performance profile, the success rates of 50 episodes."""


def mean(parts: Parts) -> Float[np.ndarray, "..."]:
    r"""The mean over tasks of the mean over runs, \(\frac1K\sum_k\frac1{n_k}\sum_i x_{ki}\)."""
    return np.mean([rates.mean(axis=-1) for rates in parts], axis=0)


def interquartile_mean(parts: Parts) -> Float[np.ndarray, "..."]:
    r"""The mean of the middle half of all runs on all tasks.

    Of \(n\) rates the \(\lfloor n/4\rfloor\) smallest and as many of the largest are left out.
    """
    pooled = np.concatenate(parts, axis=-1)
    count = pooled.shape[-1]
    cut = count // 4
    pooled = np.partition(pooled, (cut, count - cut - 1), axis=-1)
    return pooled[..., cut : count - cut].mean(axis=-1)


def improvement(first: Parts, second: Parts) -> Float[np.ndarray, "..."]:
    r"""The probability that a run of the first method beats one of the second on the same task.

    \(\frac1K\sum_k P(X_k>Y_k)+\frac12P(X_k=Y_k)\) over all pairs of runs of a task.
    """
    signs = (np.sign(x[..., :, None] - y[..., None, :]) for x, y in zip(first, second, strict=True))
    return np.mean([0.5 + 0.5 * sign.mean(axis=(-1, -2)) for sign in signs], axis=0)


def profile(parts: Parts) -> Float[np.ndarray, "... thresholds"]:
    """The share of runs above each of `THRESHOLDS`, the mean over tasks."""
    # By threshold: all at once would hold 51 copies of the resamples.
    above = [[(rates > least).mean(axis=-1) for least in THRESHOLDS] for rates in parts]
    return np.mean([np.stack(shares, axis=-1) for shares in above], axis=0)


def points(rate: float, form: str = ".0f") -> str:
    """A rate in per cent; `form` is a format without the sign of zero."""
    return format(100 * rate, f"z{form}" if form[0] == "." else f"{form[0]}z{form[1:]}")


@dataclass(frozen=True)
class Estimate:
    """A number with its interval and its number of runs.

    `low` and `high` are NaN where every task has a single run, which does not show how much runs
    differ; `episodes` are those of each run's evaluation, 0 if that is not known.
    """

    value: float
    low: float
    high: float
    runs: int
    episodes: int = 0

    @classmethod
    def of(
        cls,
        value: Float[np.ndarray, ""],
        draws: Float[np.ndarray, " resamples"],
        parts: Parts,
        episodes: int = 0,
    ) -> "Estimate":
        """An estimate from the rates of each task, with the interval of its resamples."""
        counts = [len(rates) for rates in parts]
        low, high = interval(draws) if max(counts) > 1 else (np.nan, np.nan)
        return cls(float(value), float(low), float(high), sum(counts), episodes)


@dataclass(frozen=True)
class Profile:
    """A performance profile with its band, at `THRESHOLDS`."""

    values: Float[np.ndarray, " thresholds"]
    low: Float[np.ndarray, " thresholds"]
    high: Float[np.ndarray, " thresholds"]


@dataclass(frozen=True)
class Summary:
    """The estimates of a report at the end of a phase.

    `means` and `interquartile` have an entry for each label and group whose tasks the label has
    runs on. The others are over all tasks, for labels with runs on all of them: `profiles`;
    `improvement` of the first label over each other; `wins` of each over each, without intervals.
    `labels` are sorted by their mean over all tasks.
    """

    phase_end: PhaseEnd
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


def summarise(phase_end: PhaseEnd) -> Summary:
    """Computes every estimate at the end of a phase."""
    means: dict[tuple[str, str], Estimate] = {}
    interquartile: dict[tuple[str, str], Estimate] = {}
    profiles: dict[str, Profile] = {}
    for label, scores in phase_end.scores.items():
        draws = dict(zip(scores, resample(label, scores), strict=True))
        for name, tasks in phase_end.groups.items():
            if not all(task in scores for task in tasks):
                continue
            known = scores, draws, tasks, phase_end.episodes
            means[label, name] = _estimate(mean, *known)
            if name in (*phase_end.domains, ALL):
                interquartile[label, name] = _estimate(interquartile_mean, *known)
        if (label, ALL) in means:
            bands = interval(profile(list(draws.values())))
            profiles[label] = Profile(profile(list(scores.values())), *bands)
    whole = {label: means[label, ALL].value for label in profiles}
    labels = sorted(phase_end.scores, key=lambda k: (k not in whole, -whole.get(k, 0.0), k))
    tasks, complete = phase_end.tasks, [label for label in labels if label in whole]
    sides = {k: {task: phase_end.scores[k][task] for task in tasks} for k in complete}
    first = {
        label: improvement_estimate((labels[0], label), (sides[labels[0]], sides[label]))
        for label in complete[1:]
    }
    parts = {label: list(scores.values()) for label, scores in sides.items()}
    wins = {(a, b): float(improvement(parts[a], parts[b])) for a in parts for b in parts}
    return Summary(phase_end, tuple(labels), means, interquartile, profiles, first, wins)


def improvement_estimate(names: Sequence[str], sides: Sequence[Scores]) -> Estimate:
    """The probability of improvement of one side over another on the same tasks, in one order.

    **Arguments:** `names` seed the resamples of the sides.
    """
    parts = [list(scores.values()) for scores in sides]
    draws = [resample(name, scores) for name, scores in zip(names, sides, strict=True)]
    return Estimate.of(improvement(*parts), improvement(*draws), [*parts[0], *parts[1]])


Draws = Mapping[Task, Float[np.ndarray, "... runs"]]
"""Success rates by task, or resamples of them."""


def _estimate(
    statistic: Callable[[Parts], Float[np.ndarray, "..."]],
    scores: Draws,
    draws: Draws,
    tasks: Sequence[Task],
    episodes: int,
) -> Estimate:
    parts, drawn = ([rates[task] for task in tasks] for rates in (scores, draws))
    return Estimate.of(statistic(parts), statistic(drawn), parts, episodes)
