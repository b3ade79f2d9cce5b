"""`qamx plan`: variances taken apart by hand, power by simulation, and the command."""

import numpy as np
import pytest
from scipy.special import stdtrit

from qamx.cli import main
from qamx.tools.results.power import gap_found, power, seeds_needed, variance_components
from qamx.tools.results.published_results import EPISODES, Published
from studies.false_alarms import seeds_of

WIDE = Published(0.5, 0.4, 0.6)


def test_the_variance_is_split_between_seeds_and_episodes():
    found = variance_components([WIDE])
    total = 12 * (0.1 / 1.959964) ** 2 * 12 / 11
    between = (total - 0.25 / 50) / (49 / 50)
    assert found.between == pytest.approx(between)
    assert found.variances(50) == pytest.approx(total)
    assert found.variances(1) == pytest.approx(0.25)  # one episode is a coin
    assert found.variances(10**9) == pytest.approx(between)


def test_seeds_never_differ_less_than_not_at_all():
    found = variance_components([Published(0.5, 0.499, 0.501), Published(1.0, 1.0, 1.0)])
    assert found.between.tolist() == [0, 0]
    assert found.variances(50) == pytest.approx([0.25 / 50 / 4, 0])


@pytest.mark.parametrize("episodes", [10, 50])
@pytest.mark.parametrize("seeds", [3, 8])
def test_power_is_how_often_a_test_finds_the_difference(seeds, episodes):
    rng = np.random.default_rng(0)
    better = Published(0.65, 0.57, 0.73)
    one, other = variance_components([better]), variance_components([WIDE])
    rates = []
    for side in (one, other):
        weight = side.mean * (1 - side.mean) / side.between[0] - 1
        own = rng.beta(side.mean * weight, (1 - side.mean) * weight, (4_000, seeds))
        rates.append(rng.binomial(episodes, own) / episodes)
    means = [side.mean(axis=1) for side in rates]
    variance = sum(side.var(axis=1, ddof=1) for side in rates)
    # Student's test, with a spread of nothing where all seeds are alike.
    size = np.sqrt(np.maximum(variance, 1e-9) / seeds)
    found = np.mean((means[0] - means[1]) / size > stdtrit(2 * (seeds - 1), 0.975))
    # Beta laws are not normal: two points of tolerance beside the simulation's own.
    assert power(one, other, 0.15, seeds, episodes) == pytest.approx(found, abs=0.04)


def test_the_seeds_needed_are_the_fewest():
    one, other = variance_components([WIDE]), variance_components([Published(0.6, 0.5, 0.7)])
    needed = seeds_needed(one, other, 0.1, 0.8, EPISODES)
    assert needed is not None
    assert power(one, other, 0.1, needed, EPISODES) >= 0.8
    assert power(one, other, 0.1, needed - 1, EPISODES) < 0.8
    assert power(one, other, 0.1, needed, 10) < 0.8  # fewer episodes, more seeds
    assert seeds_needed(one, other, 0.0, 0.8, EPISODES) is None


def test_the_gap_found_is_where_power_begins():
    one, other = variance_components([WIDE] * 5), variance_components([WIDE] * 5)
    gap = gap_found(one, other, 12, 0.8, EPISODES)
    assert power(one, other, gap, 12, EPISODES) == pytest.approx(0.8, abs=1e-3)
    # The normal approximation: (1.96 + 0.84) standard errors of a difference.
    error = np.sqrt(2 * one.variances(EPISODES).sum() / 12)
    assert gap == pytest.approx(2.8 * error, rel=0.05)


def test_simulated_studies_have_the_published_mean_and_variance():
    figure = Published(0.7, 0.6, 0.78)
    rates = seeds_of(figure, 20_000, 12, np.random.default_rng(0))
    assert rates.mean() == pytest.approx(0.7, abs=0.003)
    assert rates.var() == pytest.approx(
        variance_components([figure]).variances(EPISODES)[0], rel=0.03
    )


def test_a_plan_says_seeds_and_cost(capsys):
    command = "plan qam_edit qam --domain all --hours 2"
    assert main(command.split()) == 0
    told = capsys.readouterr().out
    assert "qam_edit 45.7% and qam 44.4% on all (50 tasks) at step 1,000,000" in told
    rows = [line.split() for line in told.splitlines() if line.strip()[:3] == "50 "]
    ((_, seeds, runs, cost),) = rows
    assert int(runs.replace(",", "")) == 2 * 50 * int(seeds)
    assert int(cost.replace(",", "")) == 2 * int(runs.replace(",", ""))
    assert "which method is better is not known" in told
    assert main(["plan", "qam", "fql", "--domain", "c2", "--episodes", "30"]) == 0
    told = capsys.readouterr().out
    assert "which method is better is not known" not in told
    assert "12 seeds x 30 episodes detect differences >=" in told


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("qam dsr --domain scene-play", 'METHOD: found "dsr"; did you mean "dsrl"?'),
        ("qam fql --domain scne", '--domain: found "scne"; did you mean "scene"?'),
        ("qam rlpd --domain all", "rlpd has no published figures for the tasks of all at"),
        ("qam fql --domain all --power 1", "--power: found 1; write a number between"),
        ("qam fql --domain all --episodes 0", "--episodes: found 0; write a positive integer"),
        ("qam fql --domain all --hours 0", "--hours: found 0; write a positive number"),
    ],
)
def test_bad_plans_are_one_message(capsys, options, expected):
    assert main(["plan", *options.split()]) == 2
    assert expected in capsys.readouterr().err
