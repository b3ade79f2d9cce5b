"""`qamx compare`: the test by hand and by simulation, and what the command says and returns."""

import csv
import math

import numpy as np
import pytest
from scipy.special import stdtr, stdtrit
from scipy.stats import betabinom
from synthetic import seeds_like, write_run, write_seeds

from qamx.cli import main
from qamx.errors import UserError
from qamx.tools.results.published_results import DOMAINS, Published, published, steps
from qamx.tools.results.runs import Task
from qamx.tools.results.significance import difference, holm, sample_of_published, sample_of_runs
from studies.false_alarms import p_values, seeds_of, study_figures

ONE = Task("a", 1)
DOMAIN = "cube-double-play"


def test_published_figures_are_complete():
    later = {"preflow", "qpilots_u", "qpilots_m"}
    labels = {label for label, group, _ in published() if group == "all"}
    assert len(labels - later) == 17
    assert labels > later
    for label in ("qam", "qam_edit", "dac"):
        assert steps(label, "all") == list(range(50_000, 1_500_001, 50_000))
        for domain in DOMAINS:
            for task in range(1, 6):
                assert steps(label, f"{domain} task {task}") == [1_000_000, 1_500_000]
    assert published()["qam_edit", "all", 1_000_000] == Published(0.4571, 0.4463, 0.4671)
    assert ("qam_edit-tau-x0.1", "scene-play task 2", 1_000_000) in published()
    assert ("qam_edit", "cube-double-noisy task 3", 1_000_000) in published()


def test_the_successors_aggregates_are_known():
    # Of the table in Ha, Lee and Park: eight seeds, on fifty tasks, at the end of both phases.
    assert steps("preflow", "all") == [1_000_000, 1_500_000]
    figure = published()["preflow", "all", 1_500_000]
    assert (figure.mean, figure.low, figure.high, figure.seeds) == (0.91, 0.90, 0.92, 8)
    assert "2609.36812" in figure.source
    sample = sample_of_published(figure, {})
    # An interval of eight seeds' mean, to the unbiased variance of one.
    error = 0.02 / (2 * 1.959964)
    assert sample.variance == pytest.approx(8 * error**2 * 8 / 7)
    assert (sample.seeds, sample.freedom) == (8, 7)


def test_a_figure_without_an_interval_is_named_and_not_tested(tmp_path, capsys):
    assert steps("trqam", "all") == []
    for method in ("preflow", "trqam"):
        for domain in DOMAINS:
            for task in range(1, 6):
                rows = [{1_000_000: rate} for rate in (0.5, 0.54, 0.56)]
                write_seeds(tmp_path, rows, method, domain, task)
    assert main(["compare", str(tmp_path), "--against", "published"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "none of 1 differs" in told
    assert "Ha, Lee and Park (2026), arXiv 2609.36812" in told
    assert "trqam on all: published at 1,000,000 in other settings and without an interval" in told
    assert "68%" in told


def test_one_seed_is_judged_by_the_spread_of_the_other_side():
    half = 0.1
    figure = Published(0.5, 0.5 - half, 0.5 + half)
    found = difference(
        sample_of_runs({ONE: np.array([0.9])}, [ONE], 50),
        sample_of_published(figure, {ONE: figure}),
        [ONE],
    )
    # The deviation of twelve seeds, unbiased, and the prediction interval for one more.
    deviation = half / 1.959964 * math.sqrt(12) * math.sqrt(12 / 11)
    error = deviation * math.sqrt(1 + 1 / 12)
    assert found.gap == pytest.approx(0.4)
    assert found.half == pytest.approx(stdtrit(11, 0.975) * error)
    assert found.p == pytest.approx(2 * stdtr(11, -0.4 / error))


def test_seeds_of_both_sides_count():
    one, other = np.array([0.2, 0.4, 0.6]), np.array([0.4, 0.5, 0.7, 0.8, 1.0])
    sides = [sample_of_runs({ONE: rates}, [ONE], 50) for rates in (one, other)]
    found = difference(sides[0], sides[1], [ONE])
    pooled = (2 * one.var(ddof=1) + 4 * other.var(ddof=1)) / 6
    error = math.sqrt(pooled * (1 / 3 + 1 / 5))
    assert found.p == pytest.approx(2 * stdtr(6, -0.28 / error))


def test_the_spread_is_never_below_the_chance_of_the_episodes():
    sides = [sample_of_runs({ONE: np.full(2, rate)}, [ONE], 50) for rate in (0.4, 0.5)]
    found = difference(sides[0], sides[1], [ONE])
    rate = (40 + 50 + 1) / 202
    error = math.sqrt(rate * (1 - rate) / 50)
    assert found.half == pytest.approx(stdtrit(2, 0.975) * error)


def test_fewer_episodes_widen_the_interval():
    figure = Published(0.5, 0.4, 0.6)
    theirs = sample_of_published(figure, {ONE: figure})
    few, many = (
        difference(sample_of_runs({ONE: np.array([0.5])}, [ONE], episodes), theirs, [ONE]).half
        for episodes in (5, 50)
    )
    total = 12 * (0.2 / (2 * 1.959964)) ** 2 * 12 / 11
    between = (total - 0.25 / 50) / (1 - 1 / 50)
    alone = between + (0.25 - between) / 5
    assert many == pytest.approx(stdtrit(11, 0.975) * math.sqrt(total * 13 / 12), rel=1e-4)
    assert few == pytest.approx(stdtrit(11, 0.975) * math.sqrt(alone + total / 12), rel=1e-4)


def test_one_seed_may_be_the_one_that_differs():
    # One of twelve seeds always won, the others never: Student's law makes too much of a
    # thirteenth that wins as well.
    figure = Published(1 / 12, 0.0, 0.25)
    theirs = sample_of_published(figure, {ONE: figure})
    run = sample_of_runs({ONE: np.array([1.0])}, [ONE], 50)
    found = difference(run, theirs, [ONE])
    rate = 51 / 602
    total = 12 * (0.25 / (2 * 1.959964)) ** 2 * 12 / 11
    between = (total - rate * (1 - rate) / 50) / (1 - 1 / 50)
    weight = rate * (1 - rate) / between - 1
    tail = betabinom.pmf(50, 50, rate * weight, (1 - rate) * weight)
    assert found.p == pytest.approx(2 * tail, rel=1e-6)
    student = 2 * stdtr(11, -found.gap / found.half * stdtrit(11, 0.975))
    assert 5 * student < found.p


def test_tasks_add_up_to_a_domain():
    tasks = [Task("a", 1), Task("a", 2)]
    scores = {tasks[0]: np.array([0.2, 0.4]), tasks[1]: np.array([0.5, 0.9, 0.7])}
    side = sample_of_runs(scores, tasks, 50)
    assert side.mean == pytest.approx(0.5)
    parts = [0.02 / 4, 0.04 / 4]
    assert side.variance == pytest.approx(sum(parts))
    assert side.freedom == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 + parts[1] ** 2 / 2))
    assert side.seeds == pytest.approx(2 / (1 / 2 + 1 / 3))


def test_one_seed_against_one_is_refused():
    sides = [sample_of_runs({ONE: np.array([rate])}, [ONE], 50) for rate in (0.4, 0.5)]
    with pytest.raises(UserError, match="one seed on either side"):
        difference(sides[0], sides[1], [ONE])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]


@pytest.mark.parametrize("seeds", [1, 4, 12])
def test_false_alarms_are_as_rare_as_the_level_says(seeds):
    rng = np.random.default_rng(seeds)
    domains = [figures for study in study_figures() for figures in study]
    chosen = [domains[index] for index in rng.permutation(len(domains))[:12]]
    tasks, whole = zip(*(p_values(figures, seeds, 100, rng) for figures in chosen), strict=True)
    # At a level of 5%: over all published tasks 2 to 4%, since the spread is bounded below, and
    # many tasks are won or lost by all. 6,000 and 1,200 comparisons: three standard errors.
    assert 0.01 < np.mean(np.array(tasks) < 0.05) < 0.058
    assert 0.01 < np.mean(np.array(whole) < 0.05) < 0.069


def test_a_difference_is_found_more_often_with_more_seeds():
    rng = np.random.default_rng(0)
    figure, lower = Published(0.6, 0.52, 0.68), Published(0.4, 0.32, 0.48)
    found = []
    for seeds in (1, 4, 12):
        ours = {ONE: seeds_of(lower, 400, seeds, rng)}
        theirs = sample_of_published(figure, {ONE: figure})
        found.append(np.mean(difference(sample_of_runs(ours, [ONE], 50), theirs, [ONE]).p < 0.05))
    assert found[0] < 0.35 < found[1] < 0.8 < found[2]


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """Four of twelve seeds like the published ones, on the five tasks of a domain."""
    folder = tmp_path_factory.mktemp("runs")
    for number in range(1, 6):
        name = f"{DOMAIN} task {number}"
        rates = seeds_like(published()["qam", name, 1_000_000], f"qam/{name}", tolerance=0.02)
        half = published()["qam", DOMAIN, 500_000].mean
        rows = [{500_000: half, 1_000_000: float(rate)} for rate in rates[1::3]]
        write_seeds(folder, rows, "qam", DOMAIN, number)
    return folder


def test_a_reproduction_is_compatible(reproduced, tmp_path, capsys):
    assert main(["compare", str(reproduced), "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "none of 6 differs" in told
    with (tmp_path / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["group"] for row in rows] == [f"{DOMAIN} task {k}" for k in range(1, 6)] + [DOMAIN]
    assert {(row["step"], row["seeds"], row["other_seeds"]) for row in rows} == {
        ("1000000", "4", "12")
    }
    domain = published()["qam", DOMAIN, 1_000_000]
    assert rows[-1]["other_ci95_low"] == f"{domain.low:.4f}"
    inside = domain.low <= float(rows[-1]["mean"]) <= domain.high
    assert rows[-1]["inside"] == str(inside)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"comparison.md", "comparison.csv", "curves.png", "curves.pdf"}


def test_a_step_between_has_domains_alone(reproduced, capsys):
    assert main(["compare", str(reproduced), "--against", "published", "--step", "500000"]) == 0
    told = capsys.readouterr().out
    assert "none of 1 differs" in told
    assert f"qam on {DOMAIN} task 1 and 4 more: no published figure at step 500,000" in told


def test_another_method_differs(reproduced, tmp_path, capsys):
    wrong = tmp_path / "wrong"
    for number in range(1, 6):
        write_seeds(wrong, [{1_000_000: 0.0}, {1_000_000: 0.02}], "qam", DOMAIN, number)
    assert main(["compare", str(wrong)]) == 1
    assert "6 of 6 differ" in capsys.readouterr().out
    assert main(["compare", str(reproduced), str(wrong), "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().out
    assert "P(ours is better)" in told
    assert "100 [100, 100]" in told
    assert main(["compare", str(wrong), "--against", str(wrong)]) == 0
    assert "50 [50, 50]" not in capsys.readouterr().out  # two sides have resamples of their own


def test_one_run_is_enough_and_a_diverged_one_is_named(tmp_path, capsys):
    good = write_run(tmp_path / "good", {1_000_000: 0.84}, seed=1)
    bad = write_run(tmp_path / "bad", {50_000: 0.0}, seed=2)
    (bad / "diverged.json").write_text('{"why": "NaN"}')
    assert main(["compare", str(good)]) == 0
    capsys.readouterr()
    assert main(["compare", str(tmp_path), "--against", "published"]) == 0
    told = capsys.readouterr().out
    assert f"{bad}: diverged after its evaluation at step 50,000: NaN" in told
    assert "none of 1 differs" in told


def test_what_cannot_be_compared_is_said(tmp_path, capsys):
    early = write_run(tmp_path / "early", {50_000: 0.1})
    assert main(["compare", str(early)]) == 2
    assert "published at 1,000,000 and 1,500,000" in capsys.readouterr().err
    own = write_run(tmp_path / "own", {50_000: 0.1}, domain="pointmaze-medium-navigate")
    assert main(["compare", str(own)]) == 2
    assert "no published figure" in capsys.readouterr().err
    assert main(["compare", str(early), str(own)]) == 2
    assert "no task is on both sides" in capsys.readouterr().err
    other = write_run(tmp_path / "other", {50_000: 0.2}, seed=7)
    assert main(["compare", str(early), str(other)]) == 2
    assert "add runs with other seeds" in capsys.readouterr().err
