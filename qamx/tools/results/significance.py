r"""Whether two sets of seeds can come from one law: the test of `qamx compare`.

What is compared is the mean over a group's \(K\) tasks. A seed's success rate on a task is the mean
of \(E\) episodes, each won with the seed's own probability \(\theta\). With \(p\) and \(B\) the
mean and the variance of \(\theta\) over seeds, the rate has the variance

$$V=B+\frac{p(1-p)-B}{E},$$

since \(\mathbb E[\theta(1-\theta)]=p(1-p)-B\). Under the hypothesis of one law both sides share
\(p\) and \(B\), and differ in their numbers of seeds \(n\) and of episodes. \(B\) is pooled from
what each side shows, by its degrees of freedom, and is 0 at least. Then

$$t=\frac{\bar x_1-\bar x_2}{\sqrt{V_1/n_1+V_2/n_2}}$$

has Student's law with the degrees of freedom of both sides together. One seed has none of its own,
and is judged by the spread of the other side: the test is then whether it lies in the prediction
interval for one more seed. Where a few seeds fail altogether and the rest do not, Student's tails
are too light, and one seed averages nothing: for one seed on one task the p-value is never below
that of the other side's beta law of \(\theta\) and the binomial law of the episodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from qamx.errors import UserError
from qamx.tools.results.published_results import EPISODES, SEEDS, Published
from qamx.tools.results.runs import Scores, Task

WIDTH = 2 * 1.959964
"""The width of a normal 95% interval, in standard errors."""

Number = float | Float[np.ndarray, "..."]
"""A number, or one for each of many comparisons of a kind."""


@dataclass(frozen=True)
class SampleSummary:
    """What one side shows of a group of tasks.

    `mean` is over tasks and seeds; `variance` of one seed's mean over the tasks, estimated with
    `freedom` degrees of freedom (0: not at all); `seeds` and `episodes` their numbers; `won` the
    episodes won on each task, and of how many, as far as that is known.
    """

    mean: Number
    variance: Number
    freedom: Number
    seeds: float
    episodes: int
    won: Mapping[Task, tuple[Number, int]]


def sample_of_runs(scores: Scores, tasks: Sequence[Task], episodes: int) -> SampleSummary:
    """A side whose runs are at hand; `scores` has rates of every task, runs on the last axis."""
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
    """The published side of a group; `single` are the figures of its tasks, where published."""
    won = {task: one.mean for task, one in single.items()}
    return sample_of_interval(figure.mean, figure.low, figure.high, won)


def sample_of_interval(
    mean: Number, low: Number, high: Number, single: Mapping[Task, Number]
) -> SampleSummary:
    r"""A side that is known by its mean and its bootstrap interval over `SEEDS` seeds.

    The interval is as wide as a normal one with the deviation that divides by \(n\), so that it
    gives the variance between the seeds back.

    **Arguments:** `single` are the means of the group's tasks, as far as they are known.
    """
    error = (np.asarray(high) - np.asarray(low)) / WIDTH
    episodes = SEEDS * EPISODES
    return SampleSummary(
        mean=mean,
        variance=SEEDS * error**2 * SEEDS / (SEEDS - 1),
        freedom=SEEDS - 1,
        seeds=SEEDS,
        episodes=EPISODES,
        won={task: (rate * episodes, episodes) for task, rate in single.items()},
    )


@dataclass(frozen=True)
class Difference:
    """The first mean less the second, half the width of its 95% interval, and the p-value."""

    gap: Number
    half: Number
    p: Number


def difference(one: SampleSummary, other: SampleSummary, tasks: Sequence[Task]) -> Difference:
    """How far apart two sides are, and how likely a difference at least as large is by chance.

    **Raises:** `UserError` if neither side has two seeds.
    """
    from scipy.stats import t

    freedom = np.asarray(one.freedom) + np.asarray(other.freedom)
    if not np.all(freedom > 0):
        raise UserError(
            f"{tasks[0]}: one seed on either side, which says nothing of how much seeds differ; "
            "add runs with other seeds to one of them"
        )
    rates = [_rate((one, other), task) for task in tasks]
    chance = sum(rate * (1 - rate) for rate in rates) / len(tasks) ** 2
    weighted = sum(_between(side, chance) * side.freedom for side in (one, other))
    between = np.maximum(weighted / freedom, 0)
    square = sum(
        (between + (chance - between) / side.episodes) / side.seeds for side in (one, other)
    )
    gap, error = np.asarray(one.mean) - np.asarray(other.mean), np.sqrt(square)
    half, p = t.ppf(0.975, freedom) * error, 2 * t.sf(np.abs(gap) / error, freedom)
    for side, many in ((one, other), (other, one)):
        if side.seeds == 1 and len(tasks) == 1 and tasks[0] in many.won:
            p = np.maximum(p, _tail(side, many, tasks[0]))
    return Difference(gap, half, p)


def holm(values: Sequence[float]) -> list[float]:
    """p-values that hold for all of several tests together (Holm, 1979)."""
    order = np.argsort(values)
    scaled = np.array(values)[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted.tolist()


def _seed_variance(rates: Sequence[Float[np.ndarray, "... runs"]]) -> tuple[Number, Number]:
    """The variance of one seed's mean over tasks, and its degrees of freedom (Satterthwaite)."""
    parts = np.array([part.var(axis=-1, ddof=1) for part in rates]) / len(rates) ** 2
    own = np.array([part.shape[-1] - 1 for part in rates]).reshape(-1, *[1] * (parts.ndim - 1))
    total, squares = parts.sum(axis=0), (parts**2 / own).sum(axis=0)
    freedom = np.where(squares > 0, total**2 / np.where(squares > 0, squares, 1), own.sum(axis=0))
    return total, freedom


def _rate(sides: Sequence[SampleSummary], task: Task) -> Number:
    r"""\(p_k\), from the episodes of all sides that know of the task.

    One won and one lost are added, without which sides that have won all or none would leave
    nothing to chance.
    """
    found = [side.won[task] for side in sides if task in side.won]
    return (sum(won for won, _ in found) + 1) / (sum(played for _, played in found) + 2)


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
    """What is left of a side's variance when the chance of its episodes is taken off."""
    return (side.variance - chance / side.episodes) / (1 - 1 / side.episodes)
