r"""Test of the hypothesis that two sets of seeds come from one law, for `qamx compare`.

Compared is the mean over a group's \(K\) tasks. A seed's success rate on a task is the mean
of \(E\) episodes, each won with the seed's own probability \(\theta\). With \(p\) and \(B\) the
mean and the variance of \(\theta\) over seeds, the rate has the variance

$$V=B+\frac{p(1-p)-B}{E},$$

since \(\mathbb E[\theta(1-\theta)]=p(1-p)-B\). Under the hypothesis of one law both sides share
\(p\) and \(B\), and differ in their numbers of seeds \(n\) and of episodes. \(B\) is pooled over
the sides by their degrees of freedom, and is at least 0. Then

$$t=\frac{\bar x_1-\bar x_2}{\sqrt{V_1/n_1+V_2/n_2}}$$

has Student's law with the degrees of freedom of both sides together. One seed has no degree of
freedom, and is judged by the variance of the other side: the test compares it with the prediction
interval for one more seed. Where a few seeds fail altogether and the rest do not, Student's tails
are too light: for one seed on one task the p-value is at least that of the other side's beta law of
\(\theta\) and the binomial law of the episodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from qamx.errors import UserError
from qamx.tools.results.published_results import EPISODES, SEEDS, Published
from qamx.tools.results.runs import Scores, Task

LEVEL = 0.05
"""The two-sided level of the test, the probability of a false difference."""

WIDTH = 2 * 1.959964
"""The width of a normal 95% interval, in standard errors."""

Number = float | Float[np.ndarray, "..."]
"""A number, or an array with one for each of many comparisons."""


@dataclass(frozen=True)
class SampleSummary:
    """Statistics of one side on a group of tasks.

    `mean` is over tasks and seeds; `variance` is that of one seed's mean over the tasks,
    estimated with `freedom` degrees of freedom (0: unknown); `seeds` and `episodes` are numbers;
    `won` holds the episodes won and played on each task, where known.
    """

    mean: Number
    variance: Number
    freedom: Number
    seeds: float
    episodes: int
    won: Mapping[Task, tuple[Number, int]]


def sample_of_runs(scores: Scores, tasks: Sequence[Task], episodes: int) -> SampleSummary:
    """The statistics of runs; `scores` has rates of every task, runs on the last axis."""
    rates = [scores[task] for task in tasks]
    runs = np.array([part.shape[-1] for part in rates])
    known = bool((runs > 1).all())
    variance, freedom = _seed_variance(rates) if known else (0.0, 0.0)
    return SampleSummary(
        mean=np.mean([part.mean(axis=-1) for part in rates], axis=0),
        variance=variance,
        freedom=freedom,
        seeds=float(len(runs) / np.sum(1 / runs)),
        episodes=episodes,
        won={
            task: (part.sum(axis=-1) * episodes, part.shape[-1] * episodes)
            for task, part in zip(tasks, rates, strict=True)
        },
    )


def sample_of_published(figure: Published, single: Mapping[Task, Published]) -> SampleSummary:
    """The statistics of published figures; `single` are those of the group's tasks."""
    won = {task: published.mean for task, published in single.items()}
    return sample_of_interval(figure.mean, figure.low, figure.high, won, figure.seeds)


def sample_of_interval(
    mean: Number, low: Number, high: Number, single: Mapping[Task, Number], seeds: int = SEEDS
) -> SampleSummary:
    r"""The statistics behind a mean and its bootstrap interval over seeds.

    The interval is as wide as a normal one with the deviation that divides by \(n\), which gives
    the variance between seeds.

    **Arguments:** `single` are the means of the group's tasks, where known.
    """
    error = (np.asarray(high) - np.asarray(low)) / WIDTH
    episodes = seeds * EPISODES
    return SampleSummary(
        mean=mean,
        variance=seeds * error**2 * seeds / (seeds - 1),
        freedom=seeds - 1,
        seeds=seeds,
        episodes=EPISODES,
        won={task: (rate * episodes, episodes) for task, rate in single.items()},
    )


@dataclass(frozen=True)
class Difference:
    """The first mean less the second, half the width of its 95% interval, and the p-value."""

    gap: Number
    half: Number
    p: Number


def difference(first: SampleSummary, second: SampleSummary, tasks: Sequence[Task]) -> Difference:
    """The difference of two sides, with the probability of one at least as large by chance.

    **Raises:** `UserError` if neither side has two seeds.
    """
    from scipy.stats import t

    freedom = np.asarray(first.freedom) + np.asarray(second.freedom)
    if not np.all(freedom > 0):
        raise UserError(
            f"{tasks[0]}: one seed on either side, which does not show how much seeds differ; "
            "add runs with other seeds to one of them"
        )
    rates = [_rate((first, second), task) for task in tasks]
    chance = sum(rate * (1 - rate) for rate in rates) / len(tasks) ** 2
    weighted = sum(_between(side, chance) * side.freedom for side in (first, second))
    between = np.maximum(weighted / freedom, 0)
    square = sum(
        (between + (chance - between) / side.episodes) / side.seeds for side in (first, second)
    )
    gap, error = np.asarray(first.mean) - np.asarray(second.mean), np.sqrt(square)
    half, p = t.ppf(1 - LEVEL / 2, freedom) * error, 2 * t.sf(np.abs(gap) / error, freedom)
    for side, many in ((first, second), (second, first)):
        if side.seeds == 1 and len(tasks) == 1 and tasks[0] in many.won:
            p = np.maximum(p, _tail(side, many, tasks[0]))
    return Difference(gap, half, p)


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for the number of tests (Holm, 1979)."""
    order = np.argsort(values)
    scaled = np.array(values)[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted.tolist()


def _seed_variance(rates: Sequence[Float[np.ndarray, "... runs"]]) -> tuple[Number, Number]:
    """The variance of one seed's mean over tasks, and its degrees of freedom (Satterthwaite)."""
    parts = np.array([part.var(axis=-1, ddof=1) for part in rates]) / len(rates) ** 2
    each = np.array([part.shape[-1] - 1 for part in rates]).reshape(-1, *[1] * (parts.ndim - 1))
    total, squares = parts.sum(axis=0), (parts**2 / each).sum(axis=0)
    freedom = np.where(squares > 0, total**2 / np.where(squares > 0, squares, 1), each.sum(axis=0))
    return total, freedom


def _rate(sides: Sequence[SampleSummary], task: Task) -> Number:
    r"""\(p_k\), from the episodes of all sides with the task.

    One won and one lost are added, so that sides that won all or none have a variance.
    """
    episodes = [side.won[task] for side in sides if task in side.won]
    return (sum(won for won, _ in episodes) + 1) / (sum(played for _, played in episodes) + 2)


def _tail(side: SampleSummary, other: SampleSummary, task: Task) -> Number:
    """The two-sided p-value of one seed on one task under the other side's beta-binomial law."""
    from scipy.stats import betabinom

    rate = np.asarray(_rate([other], task))
    most = rate * (1 - rate)
    between = _between(other, most)
    weight = most / np.clip(between, 1e-6, 0.98 * most) - 1  # where the beta law is defined
    a, b = (rate * weight)[..., None], ((1 - rate) * weight)[..., None]
    support = np.arange(side.episodes + 1)
    mass = betabinom.pmf(support, side.episodes, a, b)
    won = np.rint(np.asarray(side.mean) * side.episodes)[..., None]
    ends = ((mass * (support <= won)).sum(axis=-1), (mass * (support >= won)).sum(axis=-1))
    return np.minimum(2 * np.minimum(*ends), 1)


def _between(side: SampleSummary, chance: Number) -> Number:
    """A side's variance without the chance of its episodes."""
    return (side.variance - chance / side.episodes) / (1 - 1 / side.episodes)
