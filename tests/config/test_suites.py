"""Suites: the runs that they stand for, what is refused and how, and those of the library."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from fake_runs import CUBE

from qamx import registry
from qamx.cli import main
from qamx.config import AgentSettings, ConfigError, Suite, load, load_suite
from qamx.config.schedules import (
    CloningSettings,
    OfflineSettings,
    OfflineToOnlineSettings,
    OnlineSettings,
)
from qamx.config.suite import GroupSettings, VariantSettings

ROOT = Path(__file__).parents[2]
SUITES = ROOT / "experiments" / "suites"
SEEDS = {10001, 20002, 30003, 40004, 50005, 60006, 70007, 80008, 90009, 100010, 110011, 120012}


def write(folder: Path, text: str, name: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.fixture
def folder(tmp_path):
    """Two experiments, and room for a suite beside them."""
    for name in ("one", "two"):
        write(tmp_path, CUBE, f"{name}.toml")
    return tmp_path


def suite(folder: Path, text: str) -> Suite:
    return load_suite(write(folder, text, "suites/mine.toml"))


def names(folder: Path, text: str) -> list[str]:
    return [run.name for run in suite(folder, text).runs()]


def problems(folder: Path, text: str) -> list[str]:
    """The lines of the error, with the folder left out."""
    with pytest.raises(ConfigError) as caught:
        suite(folder, text).runs()
    return str(caught.value).replace(f"{folder}/", "").splitlines()


# What a suite stands for


def test_a_group_is_run_once_on_its_own_task_and_seed(folder):
    runs = suite(folder, '[[group]]\nexperiments = ["../*.toml"]\n').runs()
    assert [run.name for run in runs] == ["one-task2-seed10001", "two-task2-seed10001"]
    assert [run.file for run in runs] == [folder / "one.toml", folder / "two.toml"]
    assert [run.load() for run in runs] == [load(run.file) for run in runs]


def test_experiments_variants_tasks_and_seeds_multiply(folder):
    text = """
[suite]
tasks = [1, 3]
seeds = [7, 8]

[[group]]
experiments = ["../one.toml"]

[[group.variants]]
name = "T1"
set = ["agent.flow_steps=1"]

[[group.variants]]
name = "warm"
set = ["agent.inverse_temperature=2.0"]

[[group]]
experiments = ["../two.toml"]
tasks = [5]
seeds = [9]
"""
    made = suite(folder, text)
    runs = made.runs()
    assert len(made) == len(runs) == 9
    assert [run.name for run in runs] == [
        *(f"one-{form}-task{k}-seed{n}" for form in ("T1", "warm") for k in (1, 3) for n in (7, 8)),
        "two-task5-seed9",
    ]
    for run in runs:
        experiment = run.load()
        assert experiment.run_name == run.name
        assert experiment.seed == run.seed
        assert (experiment.agent.flow_steps == 1) is ("-T1-" in run.name)


def test_variants_of_the_suite_are_those_of_groups_without_any(folder):
    text = """
[suite]
variants = [{ name = "T1", set = ["agent.flow_steps=1"] }, { name = "T2" }]
[[group]]
experiments = ["../one.toml"]
[[group]]
experiments = ["../two.toml"]
set = ["agent.flow_steps=3"]
[[group]]
experiments = ["../one.toml"]
variants = [{ name = "own" }]
"""
    runs = {run.name: run.load().agent.flow_steps for run in suite(folder, text).runs()}
    others = load(folder / "one.toml").agent.flow_steps
    assert runs == {
        "one-T1-task2-seed10001": 1,
        "one-T2-task2-seed10001": others,
        "two-T1-task2-seed10001": 1,
        "two-T2-task2-seed10001": 3,
        "one-own-task2-seed10001": others,
    }


def test_a_bad_variant_of_the_suite_is_named_there(folder):
    text = "[suite]\nvariants = [{ name = 'a', set = ['agent.flow_steps=0'] }]\n" + GROUP
    with pytest.raises(ConfigError, match=r"mine.toml: suite.variants.1.set: agent.flow_steps"):
        suite(folder, text).runs()


def test_what_stands_nearer_to_the_run_wins(folder):
    text = """
[suite]
set = ["agent.batch_size=1", "agent.flow_steps=1", "agent.ensemble_size=1", "environment.task=4"]
[[group]]
experiments = ["../one.toml"]
tasks = [3]
set = ["agent.flow_steps=2", "agent.ensemble_size=2"]
[[group.variants]]
name = "a"
set = ["agent.ensemble_size=3"]
"""
    (run,) = suite(folder, text).runs()
    agent = run.load().agent
    assert (agent.batch_size, agent.flow_steps, agent.ensemble_size) == (1, 2, 3)
    assert run.name == "one-a-task3-seed10001"


def test_an_experiment_keeps_the_name_and_seed_that_are_written_in_it(folder):
    write(folder, 'name = "2024"\nseed = 5\n' + CUBE, "one.toml")
    text = '[[group]]\nexperiments = ["../one.toml"]\n[[group.variants]]\nname = "01"\n'
    (run,) = suite(folder, text).runs()
    assert run.name == run.load().run_name == "2024-01-task2-seed5"


def test_a_file_that_several_patterns_match_is_run_once(folder):
    listed = '[[group]]\nexperiments = ["../two.toml", "../*.toml", "../suites/../o*.toml"]\n'
    assert names(folder, listed) == ["two-task2-seed10001", "one-task2-seed10001"]


# What is refused


GROUP = '[[group]]\nexperiments = ["../one.toml"]\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "group: missing; write at least one table [[group]]"),
        ("group = []", "group: found []; write at least one table [[group]]"),
        ("suite = 3\n" + GROUP, "suite: found 3 (an integer); write a table [suite]"),
        ("[suit]\n" + GROUP, 'suit: unknown table; did you mean "suite"?'),
        ("[suite]\nseed = [1]\n" + GROUP, 'suite.seed: unknown key; did you mean "seeds"?'),
        (
            "[suite]\ntasks = 3\n" + GROUP,
            "suite.tasks: found 3 (an integer); write a list of integers of at least 0, "
            "e.g. [1, 2, 3, 4, 5]",
        ),
        (GROUP + "seeds = []\n", "group.1.seeds: found []; write a list of integers from 0 to"),
        (GROUP + "seeds = [-1]\n", "group.1.seeds: found [-1]; write a list of integers from 0"),
        (GROUP + "set = [1]\n", "group.1.set: found [1] (a list); write a list such as"),
        (GROUP + "[[group]]\ntasks = [1]\n", "group.2.experiments: missing; write a list of paths"),
        (GROUP + "[[group.variants]]\nset = []\n", "group.1.variants.1.name: missing; write a fil"),
        (
            GROUP + "variants = ['a']\n",
            'group.1.variants: found ["a"] (a list); write a list of tables such as { name',
        ),
        (
            GROUP + "[[group.variants]]\nname = 'a'\n[[group.variants]]\nname = 'b/c'\n",
            'group.1.variants.2.name: found "b/c"; write a file name of letters',
        ),
        (
            GROUP.replace("one", "on*e*x"),
            'group.1.experiments: found "../on*e*x.toml", which matches no file in "suites"',
        ),
    ],
)
def test_a_bad_file_names_key_and_remedy(folder, text, line):
    (found,) = problems(folder, text)
    assert found.startswith(f"suites/mine.toml: {line}")


def test_all_problems_of_a_suite_come_at_once(folder):
    text = "[suite]\nseeds = 1\n[[group]]\ntasks = [0.5]\nexperiment = []\n"
    assert [line.split(": ")[1] for line in problems(folder, text)] == [
        "suite.seeds",
        "group.1.tasks",
        "group.1.experiments",
        "group.1.experiment",
    ]


def test_patterns_of_all_groups_are_looked_at(folder):
    text = '[[group]]\nexperiments = ["../x.toml", "../one.toml", "../y.toml"]\n' * 2
    assert [line.split(": ")[1] for line in problems(folder, text)] == [
        "group.1.experiments",
        "group.1.experiments",
        "group.2.experiments",
        "group.2.experiments",
    ]


def test_a_bad_change_is_laid_to_the_list_that_has_it(folder):
    text = """
[suite]
tasks = [1, 6]
set = ["agent.batch_sise=1"]
[[group]]
experiments = ["../*.toml"]
set = ["nothing"]
[[group.variants]]
name = "a"
[[group.variants]]
name = "b"
set = ["agent.flow_steps=0"]
[[group]]
experiments = ["../two.toml"]
tasks = [7]
"""
    place = "suites/mine.toml: "
    every = "(for one.toml, variant a and 3 more)"
    assert problems(folder, text) == [
        f'{place}group.1.set: found "nothing"; write section.key=value {every}',
        f'{place}suite.set: agent.batch_sise: unknown key; did you mean "batch_size"? '
        "(for one.toml, variant a and 4 more)",
        f"{place}suite.tasks: environment.task: found 6; write an integer from 1 to 5, e.g. 2 "
        f"{every}",
        f"{place}group.1.variants.2.set: agent.flow_steps: found 0; write a positive integer, "
        "e.g. 10 (for one.toml, variant b and 1 more)",
        f"{place}group.2.tasks: environment.task: found 7; write an integer from 1 to 5, e.g. 2 "
        "(for two.toml)",
    ]


def test_a_problem_of_an_experiment_is_laid_to_its_file(folder):
    write(folder, CUBE + "edit_scale = 0.1\n", "two.toml")
    (found,) = problems(
        folder, '[suite]\ntasks = [1, 2, 3]\n[[group]]\nexperiments = ["../*.toml"]\n'
    )
    assert found.startswith("two.toml: agent.edit_scale: unknown key; ")
    assert found.endswith(" (for two.toml)")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            GROUP * 2,
            'group.2: the run "one-task2-seed10001" is in group.1 already; leave it out of one, '
            "or put it under a variant with a name of its own",
        ),
        (GROUP + "seeds = [1, 1]\n", 'group.1: the run "one-task2-seed1" is in group.1 already'),
        (
            "[suite]\nseeds = [1, 2, 3]\n" + GROUP + "[[group.variants]]\nname = 'a'\n" * 2,
            'group.1: the run "one-a-task2-seed1" and 2 more is in group.1 already',
        ),
    ],
)
def test_no_two_runs_share_a_name(folder, text, line):
    (found,) = problems(folder, text)
    assert found.startswith(f"suites/mine.toml: {line}")


def test_a_suite_among_the_experiments_is_refused(folder):
    (found,) = problems(folder, '[[group]]\nexperiments = ["mine.toml"]\n')
    assert found.startswith("suites/mine.toml: a suite of experiments, which qamx check validates")


# On the command line


def test_check_counts_the_runs(folder, capsys):
    good = write(folder, "[suite]\nseeds = [1, 2, 3]\n" + GROUP, "suites/good.toml")
    bad = write(folder, GROUP + "set = ['agent.horizon=0']\n", "suites/bad.toml")
    one = folder / "one.toml"
    assert main(["check", str(good), str(bad), str(one)]) == 2
    output = capsys.readouterr()
    assert output.out == f"ok {good} (3 runs)\nok {one}\n"
    assert output.err.startswith(f"{bad}: group.1.set: agent.horizon: found 0; write a positive")


@pytest.mark.parametrize("command", ["run", "show"])
def test_a_suite_is_no_experiment(folder, command, capsys):
    file = write(folder, GROUP, "suites/mine.toml")
    assert main([command, str(file)]) == 2
    said = "a suite of experiments, which qamx check validates; name one of its experiments instead"
    assert capsys.readouterr() == ("", f"{file}: {said}\n")


def test_list_shows_suites_with_their_size(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    write(folder, f"# A study.\n[suite]\nseeds = [1, 2]\n{GROUP}", "experiments/suites/a.toml")
    write(folder, "# A broken one.\n[suite]\n", "experiments/suites/b.toml")
    write(folder, CUBE, "experiments/one.toml")
    assert main(["list"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "experiments/suites/a.toml A study. (2 runs)" in lines
    assert "experiments/suites/b.toml A broken one. (not valid: see qamx check)" in lines


# The suites that come with the library


def test_a_copy_of_one_finds_its_experiments(tmp_path):
    own = load_suite(ROOT / "experiments" / "suites" / "quickstart.toml")
    (tmp_path / "mine").mkdir()
    copy = shutil.copy(own.file, tmp_path / "mine" / "copied.toml")
    assert [run.name for run in load_suite(copy).runs()] == [run.name for run in own.runs()]


def table(name: str) -> Counter:
    """How many seeds of a suite each domain, method, variant and task has."""
    runs = load_suite(SUITES / f"{name}.toml").runs()
    counted = Counter()
    for run in runs:
        domain, _, method = run.file.stem.partition("_")
        label, task = run.name.removeprefix(run.file.stem).split("-task")
        counted[domain, method, label.removeprefix("-"), int(task.partition("-")[0])] += 1
    return counted


def test_the_page_has_every_suite_with_its_size():
    page = (ROOT / "docs" / "experiments.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+\.toml)` \| .* \| ([\d,]+) \|$", page, re.MULTILINE))
    assert rows == {file.name: f"{len(load_suite(file)):,}" for file in SUITES.glob("*.toml")}


def test_the_page_s_example_has_sixty_runs(tmp_path):
    page = (ROOT / "docs" / "experiments.md").read_text()
    (example,) = re.findall(r"```toml[^\n]*\n(# QAM-EDIT with fewer.*?)```", page, re.DOTALL)
    text = example.replace("../", f"{ROOT}/experiments/")
    assert len(load_suite(write(tmp_path, text, "mine.toml")).runs()) == 60


def test_the_page_names_every_key():
    page = (ROOT / "docs" / "experiments.md").read_text()
    keys = GroupSettings.model_fields | VariantSettings.model_fields
    assert [key for key in keys if f"`{key}`" not in page] == []


DOMAINS = ("al", "ag", "hm", "hl", "scene", "p33", "p44", "c2", "c3", "c4")
LATER = {"rlpd", "trqam", "rql", "preflow", "qgf", "trqam_edit"}
OFFLINE = set(registry.agents.names()) - LATER


@pytest.mark.parametrize(
    ("name", "methods", "kinds"),
    [
        ("table1", OFFLINE, {OfflineSettings}),
        ("online", OFFLINE | {"rlpd"}, {OfflineToOnlineSettings, OnlineSettings}),
        ("successors", {"trqam", "trqam_edit", "rql", "preflow", "qgf"}, {OfflineToOnlineSettings}),
    ],
)
def test_the_tables_are_fifty_tasks_of_twelve_seeds(name, methods, kinds):
    expected = {
        (domain, method, "", task): 12
        for domain in DOMAINS
        for method in methods
        for task in (1, 2, 3, 4, 5)
    }
    assert table(name) == expected
    runs = load_suite(SUITES / f"{name}.toml").runs()
    assert {run.seed for run in runs} == SEEDS
    assert {type(run.load().schedule) for run in runs[::12]} == kinds


def test_data_quality_changes_the_data_alone():
    kinds = {"c2": "noisy", "c3": "noisy", "scene": "noisy", "p33": "noisy"}
    kinds |= {"al": "stitch", "hm": "stitch"}
    methods = ("qam_edit", "bam", "fql", "fedit", "qsm", "dsrl", "rebrac")
    expected = {
        (domain, method, kind, task): 12
        for domain, kind in kinds.items()
        for method in methods
        for task in (1, 2, 3, 4, 5)
    }
    assert table("data_quality") == expected
    for run in load_suite(SUITES / "data_quality.toml").runs()[::12]:
        experiment = run.load()
        usual = load(run.file, [f"environment.task={experiment.environment.label[-1]}"], run.seed)
        changed = {key: value for key, _, value in usual.differences(experiment)}
        assert changed.keys() == {"name", "data.source"}
        assert changed["data.source"].endswith(f"-{kinds[run.file.stem.partition('_')[0]]}-v0")


def test_sensitivity_changes_one_setting_at_a_time():
    single = {
        "noclip": ("agent.gradient_clip", "none"),
        "K2": ("agent.ensemble_size", 2),
        **{f"T{steps}": ("agent.flow_steps", steps) for steps in (1, 3, 20, 30)},
    }
    factors = {f"tau-x{factor:g}": factor for factor in (0.1, 0.3, 3, 10)}
    expected = {
        (domain, "qam_edit", variant, load(file).environment.label[-1]): 12
        for domain in DOMAINS
        for file in (ROOT / "experiments" / f"{domain}_qam_edit.toml",)
        for variant in (*single, *factors)
    }
    found = table("sensitivity")
    assert {(*key[:3], str(key[3])): count for key, count in found.items()} == expected
    for run in load_suite(SUITES / "sensitivity.toml").runs()[::12]:
        variant = run.name.removeprefix(f"{run.file.stem}-").partition("-task")[0]
        name, (key, before, after) = load(run.file).differences(run.load())
        assert name[0] == "name"
        if variant in single:
            assert (key, after) == single[variant]
        else:
            assert key == "agent.inverse_temperature"
            assert after == pytest.approx(before * factors[variant])


def test_the_quickstart_s_methods_have_the_same_budget():
    runs = load_suite(SUITES / "quickstart.toml").runs()
    experiments = [run.load() for run in runs]
    assert {one.agent.method for one in experiments} == set(registry.agents.names())
    assert len(runs) == 3 * 22
    first = experiments[0]
    for run, one in zip(runs, experiments, strict=True):
        assert run.name == f"quickstart-{one.agent.method}-task1-seed{one.seed}"
        assert updates(one.schedule) == 10_000
        differing = {key.partition(".")[0] for key, _, _ in first.differences(one)}
        allowed = {"name", "seed", "agent", "evaluation"}
        assert differing <= (allowed | {"schedule"} if one.agent.method == "rlpd" else allowed)
        shared = ("horizon", "discount", "pessimism", "batch_size", "learning_rate", "actor_hidden")
        assert all(getattr(one.agent, key) == getattr(first.agent, key) for key in shared)


def updates(schedule: object) -> float:
    if isinstance(schedule, OnlineSettings):
        return (schedule.online_steps - schedule.online_warmup) * schedule.updates_per_step
    if isinstance(schedule, CloningSettings):
        return schedule.cloning_steps
    assert isinstance(schedule, OfflineSettings)
    return schedule.offline_steps


def test_the_quickstart_evaluates_the_clone_once():
    runs = load_suite(SUITES / "quickstart.toml").runs()
    assert {run.load().agent.method for run in runs if run.load().evaluation.behaviour} == {"qam"}


def test_the_cpu_s_runs_have_the_same_budget():
    runs = load_suite(SUITES / "cpu.toml").runs()
    experiments = [run.load() for run in runs]
    labels = [run.name.split("-")[1] for run in runs]
    tasks = [(one.environment.name, one.environment.label) for one in experiments]
    assert set(Counter(zip(labels, tasks, strict=True)).values()) == {4}
    assert set(labels) == {
        *("qam", "qam_fql", "qam_edit", "trqam", "preflow"),
        *("qgf", "fql", "ifql", "rebrac", "cloning"),
    }
    assert set(tasks) == {
        ("pointmaze-medium-navigate", "task1"),
        ("pointmaze-medium-navigate", "task5"),
        ("pointmaze-large-navigate", "task1"),
        ("pointmaze-large-navigate", "task3"),
        ("antmaze-medium-navigate", "task1"),
    }
    for label, one in zip(labels, experiments, strict=True):
        first = next(other for other in experiments if other.environment.id == one.environment.id)
        assert one.agent.method == ("qam" if label == "cloning" else label)
        assert updates(one.schedule) == (20_000 if label == "cloning" else updates(first.schedule))
        assert (one.data, one.evaluation) == (first.data, first.evaluation)
        common = AgentSettings.model_fields.keys() - {"method", "best_of_n", "gradient_clip"}
        assert all(getattr(one.agent, key) == getattr(first.agent, key) for key in common)
