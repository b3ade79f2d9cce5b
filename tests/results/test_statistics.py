"""Intervals and aggregates: against numbers worked out by hand, and how often they hold."""

import numpy as np
import pytest

from qamx.tools.results import statistics
from qamx.tools.results.runs import Task
from qamx.tools.results.statistics import RESAMPLES, indices, interval, resample


def test_means_weigh_tasks_alike():
    parts = [np.array([0.0, 1.0]), np.array([0.6, 0.6, 0.9])]
    assert statistics.mean(parts) == pytest.approx((0.5 + 0.7) / 2)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([[0.0, 0.2, 0.4, 1.0]], 0.3),
        ([[0.0, 0.9], [0.1, 0.2], [1.0, 0.3], [0.4, 0.5]], (0.2 + 0.3 + 0.4 + 0.5) / 4),
        ([[0.1, 0.4, 0.7]], 0.4),  # three runs have no quarter to leave out
        ([[0.1, 0.2, 0.3, 0.4, 1.0]], 0.3),  # of five, one at each end
    ],
)
def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end(rates, expected):
    parts = [np.array(row) for row in rates]
    assert statistics.interquartile_mean(parts) == pytest.approx(expected)


def test_improvement_counts_pairs_and_halves_of_ties():
    one = [np.array([0.5, 1.0]), np.array([0.0, 0.0])]
    other = [np.array([0.5, 0.2, 0.7]), np.array([0.0])]
    first = (0.5 + 1 + 0 + 3) / 6
    assert statistics.improvement(one, other) == pytest.approx((first + 0.5) / 2)
    assert statistics.improvement(other, one) == pytest.approx(1 - (first + 0.5) / 2)


def test_a_profile_is_the_share_of_runs_strictly_above():
    found = statistics.profile([np.array([0.0, 0.5, 1.0, 1.0]), np.array([0.5])])
    at = dict(zip(statistics.THRESHOLDS.round(2).tolist(), found, strict=True))
    assert at[0.0] == pytest.approx((0.75 + 1) / 2)
    assert at[0.48] == pytest.approx((0.75 + 1) / 2)
    assert at[0.5] == pytest.approx((0.5 + 0) / 2)
    assert at[1.0] == 0


def test_resamples_are_those_of_the_method_and_the_task():
    assert (indices("qam/a", 12) == indices("qam/a", 12)).all()
    assert (indices("qam/a", 12) != indices("qam/b", 12)).any()
    rates = {Task("a", 1): np.arange(3) / 10, Task("a", 2): np.arange(4) / 10}
    first, second = resample("qam", rates)
    assert [first.shape, second.shape] == [(RESAMPLES, 3), (RESAMPLES, 4)]
    (alone,) = resample("qam", {Task("a", 2): rates[Task("a", 2)]})
    assert (alone == second).all()


def test_the_interval_of_two_runs_is_known():
    # Two runs drawn twice: both the smaller with probability 1/4, so the 2.5% point is there.
    (draws,) = resample("qam", {Task("a", 1): np.array([0.2, 0.8])})
    assert interval(draws.mean(axis=-1)) == pytest.approx((0.2, 0.8))
    assert np.mean(draws.mean(axis=-1) == 0.5) == pytest.approx(0.5, abs=0.03)


def test_an_interval_ends_at_percentiles():
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))


@pytest.mark.parametrize(
    ("runs", "tasks", "expected"),
    # With n runs a percentile interval is narrower than one with Student's quantile and the
    # unbiased deviation, by about sqrt((n-1)/n) 1.96/t: it holds less often, the more so for
    # one task, whose deviation is least certain. The numbers are of 15,000 studies.
    [(12, 1, 0.909), (12, 5, 0.935), (4, 5, 0.889), (4, 1, 0.815)],
)
def test_intervals_hold_as_often_as_they_can(runs, tasks, expected):
    rng = np.random.default_rng(0)
    studies, resamples, truth = 1_500, 400, 0.4
    rates = rng.binomial(50, rng.beta(4, 6, (studies, tasks, runs))) / 50
    sums = np.zeros((resamples, studies))
    for task in range(tasks):
        weights = rng.multinomial(runs, np.full(runs, 1 / runs), resamples) / runs
        sums += weights @ rates[:, task].T
    low, high = interval(sums / tasks)
    held = np.mean((low <= truth) & (truth <= high))
    assert held == pytest.approx(expected, abs=0.03)  # three standard errors


def test_multiplicities_are_resamples():
    # The simulation above draws how often each run is taken: the same law as drawing runs.
    rates = np.array([0.1, 0.5, 0.6, 0.9])
    weights = np.random.default_rng(0).multinomial(4, np.full(4, 0.25), statistics.RESAMPLES)
    (draws,) = resample("qam", {Task("a", 1): rates})
    drawn = interval(draws.mean(axis=-1))
    assert interval(weights @ rates / 4) == pytest.approx(drawn, abs=0.03)
