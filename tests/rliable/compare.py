"""Our estimates and intervals against rliable's, on the same resamples; `nox -s rliable`.

It runs in an environment with the versions that rliable works with, where qamx itself cannot be
installed: what is compared needs NumPy alone.
"""

import importlib
from collections.abc import Callable
from itertools import count

import numpy as np

from qamx.tools.results import statistics
from qamx.tools.results.statistics import interval

library = importlib.import_module("rliable.library")
metrics = importlib.import_module("rliable.metrics")

RUNS, OTHERS, TASKS, RESAMPLES = 12, 7, 5, 400
TOLERANCE = 1e-6


def main() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.binomial(50, rng.beta(2, 2, (runs, TASKS))) / 50 for runs in (RUNS, OTHERS))
    draws = [rng.integers(len(scores), size=(RESAMPLES, *scores.shape)) for scores in (one, other)]
    worst = max(
        single("mean", one, draws[0], statistics.mean, metrics.aggregate_mean),
        single(
            "interquartile mean",
            one,
            draws[0],
            statistics.interquartile_mean,
            metrics.aggregate_iqm,
        ),
        profile(one, draws[0]),
        pair(one, other, draws),
    )
    assert worst < TOLERANCE, f"largest difference {worst:.2e}"
    print(f"agree: largest difference {worst:.1e} over {RESAMPLES} resamples")


def single(
    name: str,
    scores: np.ndarray,
    drawn: np.ndarray,
    ours: Callable[[list[np.ndarray]], np.ndarray],
    theirs: Callable[[np.ndarray], np.ndarray],
) -> float:
    """A statistic of one method."""
    use(drawn)
    values, intervals = library.get_interval_estimates(
        {"a": scores}, lambda x: np.array([theirs(x)]), reps=RESAMPLES
    )
    mine = [float(ours(list(scores.T))), *interval(ours(resampled(scores, drawn)))]
    return difference(name, mine, [*values["a"], *intervals["a"][:, 0]])


def profile(scores: np.ndarray, drawn: np.ndarray) -> float:
    """The performance profile and its band."""
    use(drawn)
    values, bands = library.create_performance_profile(
        {"a": scores}, statistics.THRESHOLDS, reps=RESAMPLES
    )
    low, high = interval(statistics.profile(resampled(scores, drawn)))
    mine = np.stack([statistics.profile(list(scores.T)), low, high])
    return difference("profile", mine, np.stack([values["a"], *bands["a"]]))


def pair(one: np.ndarray, other: np.ndarray, drawn: list[np.ndarray]) -> float:
    """The probability of improvement."""
    turn = count()

    def update(bootstrap: object) -> tuple[list[tuple[np.ndarray, np.ndarray]], dict]:
        index = next(turn)
        return [(draws[index], np.arange(TASKS)[None]) for draws in drawn], {}

    library.StratifiedIndependentBootstrap.update_indices = update
    values, intervals = library.get_interval_estimates(
        {"a": [one, other]},
        lambda x, y: np.array([metrics.probability_of_improvement(x, y)]),
        reps=RESAMPLES,
    )
    again = resampled(one, drawn[0]), resampled(other, drawn[1])
    mine = [
        float(statistics.improvement(list(one.T), list(other.T))),
        *interval(statistics.improvement(*again)),
    ]
    return difference("P(better)", mine, [*values["a"], *intervals["a"][:, 0]])


def use(drawn: np.ndarray) -> None:
    """Makes rliable take these runs, one resample after the other."""
    turn = count()

    def update(bootstrap: object) -> tuple[np.ndarray, np.ndarray]:
        return drawn[next(turn)], np.arange(TASKS)[None]

    library.StratifiedBootstrap.update_indices = update


def resampled(scores: np.ndarray, drawn: np.ndarray) -> list[np.ndarray]:
    """The same resamples as ours: an array a task, resamples before runs."""
    return [scores[:, task][drawn[:, :, task]] for task in range(TASKS)]


def difference(name: str, mine: object, theirs: object) -> float:
    worst = float(np.abs(np.asarray(mine) - np.asarray(theirs)).max())
    print(f"{name}: {worst:.1e}")
    return worst


if __name__ == "__main__":
    main()
