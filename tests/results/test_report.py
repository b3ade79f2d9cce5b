"""`qamx report`: runs are found and named, tables are the published ones, the page is complete."""

import csv
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from synthetic import seeds_like, write_run, write_seeds

from qamx._utils.html import PALE, PALETTE
from qamx.cli import main
from qamx.tools.results import statistics
from qamx.tools.results.figures import Curve, apart, curve, curves, learning_curves, styles
from qamx.tools.results.published_results import EPISODES, SEEDS, published
from qamx.tools.results.report import Cell, Table, bold, latex, markdown, percent
from qamx.tools.results.runs import PhaseEnd, Task, phase_ends, read_run, read_runs
from qamx.tools.results.statistics import Estimate, summarise

OFFLINE, ONLINE = 1_000_000, 1_500_000
DOMAIN = "scene-play"


@pytest.fixture(scope="module")
def slice_of_the_study(tmp_path_factory):
    """Two methods on a domain, twelve seeds on five tasks, drawn from published figures."""
    folder = tmp_path_factory.mktemp("study")
    for method in ("qam_edit", "fedit"):
        for number in range(1, 6):
            task = Task(DOMAIN, number)
            offline, online = (
                seeds_like(published()[method, str(task), step], f"{method}/{task}")
                for step in (OFFLINE, ONLINE)
            )
            rates = [
                {OFFLINE: float(first), ONLINE: float(last)}
                for first, last in zip(offline, online, strict=True)
            ]
            write_seeds(folder, rates, method, DOMAIN, number)
    return folder


@pytest.fixture(scope="module")
def written(slice_of_the_study, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    assert main(["report", str(slice_of_the_study), "--out", str(out)]) == 0
    return out


def test_the_published_table_is_reproduced(written):
    with (written / "estimates.csv").open() as file:
        rows = list(csv.DictReader(file))
    steps = {"end of the offline phase": OFFLINE, "end of the online phase": ONLINE}
    tasks = [row for row in rows if row["group"] not in (DOMAIN, "all")]
    assert len(tasks) == 2 * 2 * 5
    for row in tasks:
        figure = published()[row["method"], row["group"], steps[row["moment"]]]
        assert float(row["mean"]) == pytest.approx(figure.mean, abs=5.1e-5)
        # To rounding: half a per cent. Their 5,000 resamples are others than ours.
        assert float(row["ci95_low"]) == pytest.approx(figure.low, abs=0.005)
        assert float(row["ci95_high"]) == pytest.approx(figure.high, abs=0.005)
        assert row["runs"] == str(SEEDS)
    for row in (row for row in rows if row["group"] == DOMAIN):
        figure = published()[row["method"], DOMAIN, steps[row["moment"]]]
        assert float(row["mean"]) == pytest.approx(figure.mean, abs=1e-4)


def test_every_mean_of_the_published_study_is_reproduced(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 2)  # means alone
    numbers = [key for key in published() if " task " in key[1] and "-noisy" not in key[1]]
    for step in (OFFLINE, ONLINE):
        scores = {}
        for method, name, at in numbers:
            if at == step and "stitch" not in name and not method.startswith("qam_edit-"):
                domain, _, number = name.rpartition(" task ")
                won = round(published()[method, name, at].mean * SEEDS * EPISODES)
                seeds = np.full(SEEDS, won // SEEDS) + (np.arange(SEEDS) < won % SEEDS)
                scores.setdefault(method, {})[Task(domain, int(number))] = seeds / EPISODES
        summary = summarise(PhaseEnd("end", (step,), scores, ()))
        assert len(summary.complete) == 16
        assert len(summary.means) == 16 * (50 + 10 + 1)
        for (label, group), estimate in summary.means.items():
            # What is rounded to four decimals in a task's mean is added up in a domain's.
            assert estimate.value == pytest.approx(published()[label, group, step].mean, abs=1e-4)


def test_a_report_repeats(slice_of_the_study, written, tmp_path):
    assert main(["report", str(slice_of_the_study), "--out", str(tmp_path), "--no-figures"]) == 0
    for name in ("estimates.csv", "tables.md", "tables.tex"):
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes()
    assert not (tmp_path / "figures").exists()


class Page(HTMLParser):
    """What a page refers to, and its tables' numbers of rows."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.links, self.ids, self.rows = [], [], set(), 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.sources += [value for key, value in attrs if key == "src"]
        self.links += [value for key, value in attrs if key == "href"]
        self.ids |= {found["id"]} if "id" in found else set()
        self.rows += tag == "tr"


def test_the_page_needs_nothing_besides_itself(written):
    text = (written / "report.html").read_text()
    page = Page(text)
    assert len(page.sources) == 2 * 3 + 1
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert {link.removeprefix("#") for link in page.links} == page.ids
    assert "@import" not in text
    assert "url(" not in text
    assert page.rows == 2 * 2 * (1 + 2)  # two phase_ends, two tables, a header and two methods


def test_figures_are_written_twice(written):
    names = {path.name for path in (written / "figures").iterdir()}
    stems = {"curves"} | {
        f"{name}-{index}" for name in ("aggregates", "profiles", "improvements") for index in "01"
    }
    assert names == {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "pdf")}


def test_a_page_of_one_run_begins_with_its_curve_and_has_a_table_a_phase(tmp_path):
    write_run(tmp_path / "run", {OFFLINE: 0.5, ONLINE: 1.0})
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.html").read_text()
    assert 0 < text.index('<h2 id="curves">') < text.index('<h2 id="phase-0">')
    assert text.count("<table>") == 2
    assert {path.stem for path in (tmp_path / "out" / "figures").iterdir()} == {"curves"}


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([], []),
        ([40], [40]),
        ([10, 50, 90], [10, 50, 90]),
        ([50, 50], [47, 53]),  # both move by half of the distance
        ([0, 0, 99, 100], [0, 6, 94, 100]),  # none leaves the axis
        ([100] * 26, [4 * i for i in range(26)]),  # no room for more than all of it
    ],
)
def test_names_beside_a_panel_stand_apart(heights, expected):
    assert apart(heights) == pytest.approx(expected)


def test_highlighted_methods_have_colours_and_are_drawn_last():
    labels = ["bam", "fql", "qam", "qam_edit"]
    style = styles(labels, ["qam", "fql"])
    assert [*style] == ["bam", "qam_edit", "fql", "qam"]
    assert [colour for colour, _ in style.values()] == [PALE, PALE, *PALETTE[:2]]
    assert len(set(styles([f"m{i}" for i in range(24)]).values())) == 24


def test_a_figure_of_curves_names_each_method_once(slice_of_the_study):
    found = curves(read_runs([slice_of_the_study]))
    found[DOMAIN]["none"] = Curve(np.zeros(0, int), *np.zeros((3, 0)))  # no evaluation is shared
    figure = learning_curves(found, styles(["fedit", "none", "qam_edit"], ["fedit"]), [OFFLINE])
    (axis,) = figure.axes
    assert sorted(text.get_text() for text in axis.texts) == ["fedit", "qam_edit"]
    assert axis.get_ylim() == (0, 100)
    assert axis.xaxis.get_major_formatter()(50_000) == "50k"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--out", "OUT", "--highlight", "qam"],
            "--highlight: no run of qam; there are fedit, qam_e",
        ),
        (["--highlight", "fedit"], "--highlight: there are no figures without --out FOLDER"),
    ],
)
def test_what_cannot_be_highlighted_is_one_message(
    slice_of_the_study, tmp_path, capsys, options, expected
):
    words = [str(tmp_path / "out") if word == "OUT" else word for word in options]
    assert main(["report", str(slice_of_the_study), *words]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_runs_that_are_not_complete_are_named(tmp_path, capsys):
    write_seeds(tmp_path, [{OFFLINE: 0.5, ONLINE: 0.7}] * 2, "qam", "cube-double-play", 1)
    late = write_run(tmp_path / "late", {OFFLINE: 0.9, 1_100_000: 0.9}, seed=1)
    early = write_run(tmp_path / "deep" / "early", {50_000: 0.1}, seed=2)
    gone = write_run(tmp_path / "gone", {50_000: 0.0}, seed=3)
    (gone / "diverged.json").write_text('{"why": "the loss is NaN at step 60,000"}')
    assert main(["report", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    offline, online = "end of the offline phase", "end of the online phase"
    for line in (
        f"{late}: incomplete: evaluated up to step 1,100,000 of 1,500,000; not in the tables for "
        f"{online}",
        f"{early}: incomplete: evaluated up to step 50,000 of 1,500,000; not in the tables for "
        f"{offline} and {online}",
        f"{gone}: diverged after its evaluation at step 50,000: the loss is NaN at step 60,000; "
        f"not in the tables for {offline} and {online}",
    ):
        assert f"not complete: {line}\n" in told
    first, second = re.findall(r"^ +qam +(\d+) \[.* (\d+)$", told, re.MULTILINE)
    assert (first, second) == (("63", "3"), ("70", "2"))


def test_labels_and_domains_come_from_the_configuration(tmp_path):
    plain = write_run(tmp_path / "a", {}, name="c2_qam")
    assert (read_run(plain).label, read_run(plain).task) == ("qam", Task("cube-double-play", 1))
    variant = write_run(tmp_path / "b", {}, method="qam_edit", name="c2_qam_edit-tau-x0.1")
    assert read_run(variant).label == "qam_edit-tau-x0.1"
    assert read_run(write_run(tmp_path / "c", {}, name="quickstart-qam")).label == "qam"
    noisy = write_run(tmp_path / "d", {}, name="c2_qam-noisy")
    with (noisy / "config.toml").open("a") as file:
        file.write('[data]\nsource = "ogbench:cube-double-noisy-v0"\n')
    assert (read_run(noisy).label, read_run(noisy).task.domain) == ("qam", "cube-double-noisy")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            [],
            "1 run, none at the end of a phase; name a step that they have reached with --step",
        ),
        (
            ["--step", "60000"],
            "--step: found 60,000, at which no run was evaluated; the nearest is",
        ),
    ],
)
def test_a_report_of_nothing_says_what_there_is(tmp_path, capsys, arguments, expected):
    write_run(tmp_path / "a", {50_000: 0.1})
    assert main(["report", str(tmp_path), *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_a_step_can_be_named(tmp_path, capsys):
    write_run(tmp_path / "a", {50_000: 0.1, 100_000: 0.3})
    assert main(["report", str(tmp_path), "--step", "100000"]) == 0
    told = capsys.readouterr().out
    # The exact interval of 15 successes in 50 episodes: 0.179 to 0.446.
    assert "interquartile" not in told
    assert "is better" not in told
    assert "30 (1 run; episodes alone: 18-45)" in told
    assert "1 run of 1 method on 1 task\n" in told
    assert "30 (1 run; episodes alone: 18-45) *" not in told
    assert "Fewer than 5 runs a task" in told
    assert "not complete" not in told


def test_bad_folders_are_one_message(tmp_path, capsys):
    assert main(["report", str(tmp_path / "none")]) == 2
    assert "none: not a folder; name the folder of a run" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    assert "found no run in it" in capsys.readouterr().err
    first = write_run(tmp_path / "a", {OFFLINE: 0.1})
    second = write_run(tmp_path / "b", {OFFLINE: 0.2})
    assert main(["report", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert f"{first} and {second} are both qam on cube-double-play task 1 with seed 10001" in told
    assert len(read_runs([first, first])) == 1
    with (first / "evaluations.jsonl").open("a") as file:
        file.write('{"step": 5\n')
    assert main(["report", str(first)]) == 2
    assert "evaluations.jsonl: line 2: found '{\"step\": 5'" in capsys.readouterr().err
    (second / "config.toml").write_text("seed = 1\n")
    assert main(["report", str(second)]) == 2
    assert "config.toml: found no key 'agent'" in capsys.readouterr().err


def test_bold_are_those_whose_intervals_reach_the_best():
    best = Estimate(0.8, 0.7, 0.9, 12)
    near, far = Estimate(0.65, 0.6, 0.7, 12), Estimate(0.65, 0.6, 0.69, 12)
    assert bold([far, None, best, near]) == [False, False, True, True]


def test_marks_agree_with_the_numbers_that_are_shown():
    best, near = Estimate(0.999, 0.997, 1.0, 12), Estimate(0.99, 0.98, 0.996, 12)
    assert (percent(best), percent(near)) == ("100 [100, 100]", "99 [98, 100]")
    assert bold([best, near]) == [True, True]


def test_a_single_run_has_neither_interval_nor_mark():
    alone = Estimate(0.8, math.nan, math.nan, 1, episodes=50)
    several = Estimate(0.8, math.nan, math.nan, 5)
    assert percent(alone) == "80 (1 run; episodes alone: 66-90)"  # Clopper and Pearson, 40 of 50
    assert percent(several) == "80 (1 run a task)"
    assert bold([alone, several, Estimate(0.5, 0.4, 0.6, 12)]) == [False, False, False]


def test_tables_are_text_for_markdown_and_latex():
    table = Table("a_b", ("method", "x"), ((Cell("qam_fql"), Cell("46 [45, 47]", True)),))
    assert markdown(table) == (
        "### a_b\n\n| method | x |\n|---|---|\n| qam_fql | **46 [45, 47]** |\n"
    )
    assert r"    qam\_fql & \textbf{46 [45, 47]} \\" in latex(table)
    assert r"\caption{a\_b}" in latex(table)


def test_a_curve_ends_where_its_first_run_does(tmp_path):
    rates = [{1: 0.2, 2: 0.4, 3: 1.0}, {1: 0.4, 2: 0.4}]
    write_seeds(tmp_path, rates, "qam", "cube-double-play", 1)
    found = curve("qam", read_runs([tmp_path]))
    assert found.steps.tolist() == [1, 2]
    assert found.mean == pytest.approx([0.3, 0.4])
    assert [found.low[0], found.high[0]] == pytest.approx([0.2, 0.4])
    assert found.low[1] == found.high[1] == pytest.approx(0.4)


def test_runs_that_failed_do_not_end_a_curve(tmp_path):
    whole = [{OFFLINE: 0.5, ONLINE: 0.7}, {OFFLINE: 0.6, ONLINE: 0.9}]
    write_seeds(tmp_path, whole, "qam", "cube-double-play", 1)
    write_run(tmp_path / "late", {OFFLINE: 0.0}, seed=1)
    found = curves(read_runs([tmp_path]))["cube-double-play"]["qam"]
    assert found.steps.tolist() == [OFFLINE, ONLINE]
    assert found.mean == pytest.approx([0.55, 0.8])
    write_run(tmp_path / "early" / "one", {50_000: 0.2, OFFLINE: 0.4}, method="fql")
    found = curves(read_runs([tmp_path]))["cube-double-play"]["fql"]
    assert found.steps.tolist() == [50_000, OFFLINE]  # the best that there is


def test_methods_are_compared_on_tasks_that_they_share(tmp_path):
    for task in (1, 2):
        write_seeds(tmp_path, [{OFFLINE: 0.5}], "qam", "cube-double-play", task)
    write_seeds(tmp_path, [{OFFLINE: 0.9}], "fql", "cube-double-play", 1)
    runs = read_runs([tmp_path])
    (phase_end,) = phase_ends(runs, None)
    summary = summarise(phase_end)
    assert summary.complete == ("qam",)
    assert ("fql", "cube-double-play task 1") in summary.means
    assert ("fql", "cube-double-play") not in summary.means
    assert list(curves(runs)["cube-double-play"]) == ["qam"]


@pytest.mark.parametrize("command", ["report", "compare"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys, command):
    rates = [{1_000_000: 0.5, 1_500_000: 0.7}, {1_000_000: 0.4, 1_500_000: 0.8}]
    write_seeds(tmp_path / "runs", rates, "qam", "cube-double-play", 2)
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert main([command, str(tmp_path / "runs"), "--out", str(out)]) == 2
    assert f"--out: {out}: cannot be written (Not a directory)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"), [("report", " without --no-figures"), ("compare", "")]
)
def test_figures_without_matplotlib_are_refused_at_once(monkeypatch, capsys, command, option):
    monkeypatch.setattr("qamx._utils.html.find_spec", lambda name: None)
    assert main([command, "none", "--out", "out"]) == 2
    assert f"--out{option}: the page's figures take matplotlib" in capsys.readouterr().err


def test_every_evaluation_is_a_row_of_the_csv_file(tmp_path, capsys):
    first = write_run(tmp_path / "a,b", {50_000: 0.1, 100_000: 1 / 3}, task=2, seed=7)
    second = write_run(tmp_path / "c", {}, method="fql")
    (second / "evaluations.jsonl").write_text(
        '{"step": 5, "phase": "offline", "success": 1.0, "return": -3.5, "behaviour_success": 0}\n'
    )
    file = tmp_path / "all.csv"
    assert main(["report", str(tmp_path), "--csv", str(file)]) == 0  # no phase has ended
    assert capsys.readouterr().out == f"3 evaluations of 2 runs in {file}\n"
    with file.open() as opened:
        rows = list(csv.DictReader(opened))
    of_run = {"method": "fql", "environment": "cube-double-play", "task": "1", "seed": "10001"}
    entries = {"step": "5", "phase": "offline", "success": "1.0", "return": "-3.5"}
    assert rows[0] == of_run | {"folder": str(second)} | entries | {"behaviour_success": "0"}
    assert [float(row["success"]) for row in rows[1:]] == [0.1, 1 / 3]
    assert {(row["folder"], row["seed"], row["return"]) for row in rows[1:]} == {
        (str(first), "7", "")
    }


def test_a_csv_file_that_cannot_be_written_is_one_message(tmp_path, capsys):
    write_run(tmp_path / "a", {OFFLINE: 0.1})
    assert main(["report", str(tmp_path), "--csv", str(tmp_path / "none" / "all.csv")]) == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"--csv: {tmp_path}/none/all.csv: cannot be written (No such file")
    assert not told.out
