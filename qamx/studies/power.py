r"""How many seeds and episodes tell two methods apart, from the published variances.

A published interval gives the variance \(V_k\) of one seed's success rate on task \(k\), over 50
episodes (`agreement.side_of_published`). It is split by the law of total variance,

$$V_k=B_k+\frac{p_k(1-p_k)-B_k}{50},$$

into what differs between seeds, \(B_k\) (0 at least), and the chance of the episodes, so that the
variance with any other number of episodes is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from qamx.studies.agreement import side_of_published
from qamx.studies.reference import EPISODES, Published

LEVEL = 0.05
"""The two-sided level of the test whose power is asked for."""

MOST = 10_000
"""Seeds beyond which nobody goes."""


@dataclass(frozen=True)
class Spread:
    """A method on a group of tasks, as published: what one seed's mean over the tasks would be.

    `between` and `chance` hold, for each task, its share \\(B_k/K^2\\) and
    \\((p_k(1-p_k)-B_k)/K^2\\) of the variance; the second is divided by the number of episodes.
    """

    mean: float
    between: Float[np.ndarray, " tasks"]
    chance: Float[np.ndarray, " tasks"]

    def variances(self, episodes: int) -> Float[np.ndarray, " tasks"]:
        """Each task's share of the variance of one seed's mean."""
        return self.between + self.chance / episodes


def spread(figures: Sequence[Published]) -> Spread:
    """What the published figures of a group's tasks say of one seed."""
    means = np.array([figure.mean for figure in figures])
    total = np.array([side_of_published(figure, {}).variance for figure in figures])
    bernoulli = means * (1 - means)
    between = (total - bernoulli / EPISODES) / (1 - 1 / EPISODES)
    between = np.clip(between, 0, bernoulli)
    square = len(figures) ** 2
    return Spread(float(means.mean()), between / square, (bernoulli - between) / square)


def power(one: Spread, other: Spread, gap: float, seeds: int, episodes: int) -> float:
    """How likely a two-sided t-test finds a difference, with its right sign.

    **Arguments:** `gap` is the true difference of the means, `seeds` and `episodes` are those of
    each method on each task.
    """
    from scipy.stats import nct, t

    shares = np.concatenate([side.variances(episodes) for side in (one, other)])
    if not shares.any():  # all won or lost by every seed
        return float(gap != 0)
    freedom = (seeds - 1) * shares.sum() ** 2 / (shares**2).sum()
    shift = abs(gap) / np.sqrt(shares.sum() / seeds)
    bound = t.ppf(1 - LEVEL / 2, freedom)
    return float(nct.sf(bound, freedom, shift))


def seeds_needed(
    one: Spread, other: Spread, gap: float, wanted: float, episodes: int
) -> int | None:
    """The fewest seeds, two at least, with the power that is wanted; None if `MOST` are too few."""
    low, high = 1, 2
    while power(one, other, gap, high, episodes) < wanted:
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(one, other, gap, middle, episodes) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high


def gap_found(one: Spread, other: Spread, seeds: int, wanted: float, episodes: int) -> float:
    """The smallest difference that so many seeds find with the power that is wanted."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        enough = power(one, other, middle, seeds, episodes) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high
