"""Grids, suites for tuning, and what is selected from them."""

import csv
from pathlib import Path

import pytest
from fake_runs import complete_run, fake_run

from qamx.cli import main
from qamx.config import ConfigError, load_suite
from qamx.config.suite import to_toml

ROOT = Path(__file__).parents[1]
SUITES = ROOT / "experiments" / "suites"

CUBE = """
[environment]
id = "cube-double-play"
task = 2
[agent]
method = "qam_edit"
horizon = 5
discount = 0.99
inverse_temperature = 1.0
edit_scale = 0.1
[schedule]
kind = "offline"
offline_steps = 1000
"""

TUNING = """
[suite]
kind = "tuning"
tasks = [2, 4]
seeds = [5, 6]

[selected]
tasks = [1, 2]
seeds = [1, 2, 3]
set = ["schedule.offline_steps=7"]

[[group]]
experiments = ["cube.toml"]
set = ["agent.flow_steps=5"]

[group.grid]
agent.edit_scale = [0.1, 0.3]

[[group.variants]]
name = "plain"

[[group.variants]]
name = "warm"
set = ["agent.inverse_temperature=3.0"]
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "cube.toml").write_text(CUBE)

    def write(text):
        file = tmp_path / "suite.toml"
        file.write_text(text)
        return file

    return write


def settings(run):
    """Edit scale, inverse temperature and flow steps of a run."""
    agent = run.load().to_dict()["agent"]
    return agent["edit_scale"], agent["inverse_temperature"], agent["flow_steps"]


# Grids


def test_a_grid_multiplies_its_values_after_the_variants(write):
    runs = load_suite(write(TUNING)).runs()
    forms = list(dict.fromkeys(run.name.partition("-task")[0] for run in runs))
    assert forms == [
        "cube-plain-edit_scale-0.1",
        "cube-plain-edit_scale-0.3",
        "cube-warm-edit_scale-0.1",
        "cube-warm-edit_scale-0.3",
    ]
    assert len(runs) == len(load_suite(write(TUNING))) == 4 * 2 * 2
    last = runs[-1]
    assert settings(last) == (0.3, 3.0, 5)
    assert last.load().run_name == last.name == "cube-warm-edit_scale-0.3-task4-seed6"
    assert last.choice == (
        "agent.flow_steps=5",
        "agent.inverse_temperature=3.0",
        "agent.edit_scale=0.3",
    )


def test_every_kind_of_value_can_stand_in_a_grid(write):
    text = """
[[group]]
experiments = ["cube.toml"]
[group.grid]
"agent.actor_hidden" = [[64, 64], [32]]
agent.critic_layer_norm = [true, false]
agent.inverse_temperature = [{ schedule = "linear", start = 0.0, stop = 2.0, updates = 50 }]
agent.solver = ["heun"]
"""
    runs = load_suite(write(text)).runs()
    assert [run.load().agent.actor_hidden for run in runs] == [(64, 64)] * 2 + [(32,)] * 2
    assert [run.load().agent.critic_layer_norm for run in runs] == [True, False] * 2
    assert {run.load().agent.solver for run in runs} == {"heun"}
    assert "-actor_hidden-64_64-critic_layer_norm-true-inverse_temperature-" in runs[0].name


def test_values_are_written_as_toml():
    assert to_toml({"a": [1, 2.5], "b": 'x"y'}) == '{ a = [1, 2.5], b = "x\\"y" }'


def test_what_is_set_on_the_command_line_goes_over_the_suite(write):
    runs = load_suite(write(TUNING), ["agent.flow_steps=2"]).runs()
    assert {run.load().agent.flow_steps for run in runs} == {2}


GROUP = '[[group]]\nexperiments = ["cube.toml"]\n'
KIND = '[suite]\nkind = "tuning"\nseeds = [1, 2]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            GROUP + "[group.grid]\nagent.edit_scale = 0.1\n",
            "group.1.grid.agent.edit_scale: found 0.1; write a list of values, e.g. [1.0, 3.0]",
        ),
        (
            GROUP + "[group.grid]\nagent.edit_scale = []\n",
            "group.1.grid.agent.edit_scale: found []; write a list of values, e.g. [1.0, 3.0]",
        ),
        (
            GROUP + "[group.grid]\nagent.edit_scal = [0.1]\n",
            'group.1.grid: agent.edit_scal: unknown key; did you mean "edit_scale"? '
            "(for cube.toml, variant edit_scal-0.1)",
        ),
        (
            '[suite]\nkind = "tune"\n' + GROUP,
            'suite.kind: found "tune"; did you mean "tuning"?',
        ),
        (
            "[suite]\nseeds_per_process = 0\n" + GROUP,
            "suite.seeds_per_process: found 0; write a positive integer, e.g. 4",
        ),
        (
            KIND + GROUP,
            "selected: missing; write a table [selected] with the seeds that the selected settings "
            "are for",
        ),
        (
            KIND + "[selected]\nseeds = [2, 3]\n" + GROUP,
            "selected.seeds: found [2], on which the settings are selected; write fresh seeds",
        ),
        (
            "[selected]\nseeds = [2, 3]\n" + GROUP,
            'selected: belongs to a suite that selects settings; write kind = "tuning" in [suite]',
        ),
    ],
)
def test_a_mistake_is_one_line(write, text, said):
    file = write(text)
    with pytest.raises(ConfigError) as caught:
        load_suite(file).runs()
    assert str(caught.value).splitlines() == [f"{file}: {said}"]


# Selection


def carried_out(file, out, success):
    """Every run of a suite, with the success that a function of its name has."""
    for run in load_suite(file).runs():
        complete_run(out / run.name, success(run.name))


def select(file, out, to):
    return main(["sweep", str(file), "--out", str(out), "--select", str(to)])


def test_the_best_mean_over_the_tuning_tasks_is_written_with_fresh_seeds(write, tmp_path, capsys):
    rates = {  # (task 2, task 4): the third is best on the mean, no other on either task alone
        "plain-edit_scale-0.1": (1.0, 0.0),
        "plain-edit_scale-0.3": (0.2, 0.9),
        "warm-edit_scale-0.1": (0.7, 0.8),
        "warm-edit_scale-0.3": (0.0, 1.0),
    }

    def success(name):
        form, _, rest = name.removeprefix("cube-").partition("-task")
        return rates[form][rest[0] == "4"] + (0.1 if rest.endswith("seed5") else -0.1)

    file, out, to = write(TUNING), tmp_path / "out", tmp_path / "suites" / "tuned.toml"
    carried_out(file, out, success)
    assert select(file, out, to) == 0
    said = capsys.readouterr().out
    assert "cube: agent.flow_steps=5 agent.inverse_temperature=3.0 agent.edit_scale=0.1" in said
    assert "success 75.0%, best of 4" in said
    runs = load_suite(to).runs()
    assert [run.name for run in runs] == [
        f"cube-task{task}-seed{seed}" for task in (1, 2) for seed in (1, 2, 3)
    ]
    assert settings(runs[0]) == (0.1, 3.0, 5)
    assert runs[0].load().to_dict()["schedule"]["offline_steps"] == 7


def test_a_diverged_run_counts_as_no_success(write, tmp_path, capsys):
    file, out = write(TUNING), tmp_path / "out"
    carried_out(file, out, lambda name: 0.9 if "plain-edit_scale-0.1" in name else 0.5)
    for run in load_suite(file).runs():
        if "plain-edit_scale-0.1" in run.name and run.seed == 5:
            folder = out / run.name
            (folder / "evaluations.jsonl").write_text('{"step": 500, "success": 0.9}\n')
            (folder / "diverged.json").write_text('{"why": "critic/loss not finite"}')
    assert select(file, out, tmp_path / "tuned.toml") == 0
    assert "success 50.0%, best of 4" in capsys.readouterr().out  # 45% with two of four lost


def test_nothing_is_selected_before_all_runs_are_complete(write, tmp_path, capsys):
    file, out, to = write(TUNING), tmp_path / "out", tmp_path / "tuned.toml"
    carried_out(file, out, lambda name: 0.5)
    late = out / "cube-warm-edit_scale-0.3-task4-seed6"
    for path in (late / "checkpoints" / "1000").iterdir():
        path.unlink()
    fake_run(late, saved={900: 1.0}, evaluated={900: 1.0})
    assert select(file, out, to) == 2
    assert capsys.readouterr().err == (
        f"1 of 16 runs are not complete, such as {late.name}; qamx sweep {file} continues them\n"
    )
    assert not to.exists()


# The library's own


def published():
    """The values of each parameter that the paper's tables have for a method on any domain."""
    found = {}
    with (ROOT / "tests" / "hyperparameters.csv").open() as file:
        for row in csv.DictReader(file):
            key = row["method"], row["parameter"]
            found.setdefault(key, set()).add(float(row["value"]))
    return found


OTHERS = {"qam": ("distill_weight", "edit_scale")}
OTHERS |= {"qam_edit": ("distill_weight",), "qam_fql": ("edit_scale",)}


def test_the_tuning_suite_sweeps_the_published_values_and_no_others():
    swept = {}
    for group in load_suite(SUITES / "tuning.toml").groups:
        for file in group.files:
            method = file.stem.partition("_")[2]
            for variant in group.variants:
                for override in variant.choice:
                    key, _, value = override.text.partition("=")
                    if key.startswith("agent.") and key != "agent.method":
                        # A term that is off is a key that is absent.
                        name = key.removeprefix("agent.")
                        swept.setdefault((method, name), set()).add(float(value or 0))
    expected = {
        (method, name): values
        for (method, name), values in published().items()
        if method != "rql" and name not in OTHERS.get(method, ())
        if len(values) > 1
    }
    assert swept == expected


def test_the_tuning_suite_has_two_tasks_of_each_domain_and_seeds_that_are_not_the_final_ones():
    suite = load_suite(SUITES / "tuning.toml")
    assert suite.selected is not None
    assert (suite.selected.tasks, len(suite.selected.seeds)) == ((1, 2, 3, 4, 5), 12)
    tasks = {}
    for group in suite.groups:
        assert group.seeds is not None
        assert len(group.seeds) == 4
        numbers = {
            override.text
            for form in group.variants
            for override in form.overrides
            if override.text.startswith("environment.task=")
        }
        for file in group.files:
            tasks.setdefault(file.stem.partition("_")[0], set()).update(numbers)
    mazes, others = ({f"environment.task={task}" for task in pair} for pair in ((1, 4), (2, 4)))
    assert tasks == dict.fromkeys(("al", "ag", "hm", "hl"), mazes) | dict.fromkeys(
        ("scene", "p33", "p44", "c2", "c3", "c4"), others
    )


def test_the_reproduction_is_the_published_study_on_four_of_its_seeds():
    suite = load_suite(SUITES / "reproduction.toml")
    runs = suite.runs()
    assert suite.seeds_per_process == 4
    assert {run.seed for run in runs} == {10001, 20002, 30003, 40004}
    assert len(runs) == 7 * 5 * 4  # a published curve is that of a domain's five tasks
    study = {run.name: run for run in load_suite(SUITES / "table1.toml").runs()}
    for run in runs[::4]:
        changed = {key for key, _, _ in study[run.name].load().differences(run.load())}
        assert changed == {"data.generate_episodes", "data.generate_seed", "checkpoint.every"}
