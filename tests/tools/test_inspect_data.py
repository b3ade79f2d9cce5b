"""`qamx data inspect`: sources by name and by experiment, the report's forms, exit codes."""

import json
import re
import sys
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from qamx import registry
from qamx.building import build_data
from qamx.cli import main
from qamx.config import DataSettings
from qamx.data.ogbench.dataset import OGBenchData
from qamx.data.transitions import Transitions
from qamx.tools.inspect_data.inspection import NO_ENVIRONMENT

NAME = "pointmaze-medium-navigate"
SOURCE = f"ogbench:{NAME}-v0"


def walk(seed, episodes=4, steps=400):
    """Arrays of a file like OGBench's: a point's random walks, two from a task's goal on."""
    rng = np.random.default_rng(seed)
    actions = np.clip(rng.normal(0, 0.5, (episodes, steps + 1, 2)), -1, 1).astype(np.float32)
    moved = 0.2 * np.cumsum(actions, axis=1, dtype=np.float32)
    start = np.array([(4, 12), (0, 0), (10, 5), (12, 12)], np.float32)[:episodes, None]
    places = np.concatenate([start, start + moved[:, :-1]], axis=1)
    terminals = np.zeros((episodes, steps + 1), bool)
    terminals[:, -1] = True
    return {
        "observations": places.reshape(-1, 2),
        "actions": actions.reshape(-1, 2),
        "terminals": terminals.ravel(),
        "qpos": places.reshape(-1, 2),
        "qvel": np.zeros((places.size // 2, 2), np.float32),
    }


ARRAYS = walk(0)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path)
    np.savez(tmp_path / f"{NAME}-v0-val.npz", **walk(1, episodes=1))
    return tmp_path


def save(folder, **changes):
    np.savez(folder / f"{NAME}-v0.npz", **(ARRAYS | changes))


def run(folder, *options, source=SOURCE):
    """The exit code and the JSON of one inspection."""
    file = folder / "report.json"
    directory = ["--directory", str(folder)] if source.startswith("ogbench") else []
    code = main(["data", "inspect", source, *directory, "--json", str(file), *options])
    return code, json.loads(file.read_text())


def ids(report):
    return {finding["id"]: finding["level"] for finding in report["findings"]}


def test_a_report_counts_all_tasks_as_ogbench_relabels_them(folder, capsys):
    code, report = run(folder)
    assert code == 0
    assert report["data"]["episodes"] == 4
    assert report["data"]["rows"] == 1_600
    assert report["validation_rows"] == 400
    assert report["data"]["windows_whole"] == pytest.approx(4 * 396 / 1_596)
    for task in range(1, 6):
        data = OGBenchData(NAME, task, "default", [folder / f"{NAME}-v0.npz"]).load(0)
        counted = report["tasks"][f"task {task}"]
        values, counts = np.unique(data.rewards, return_counts=True)
        assert counted["rewards"] == {f"{v:g}": n for v, n in zip(values, counts, strict=True)}
        assert counted["masks_zero"] == np.sum(data.masks == 0)
    assert report["tasks"]["task 3"]["masks_zero"] > 0
    printed = capsys.readouterr().out
    assert printed.startswith(SOURCE)
    assert "4 of 400 steps" in printed


def test_a_chosen_task_is_judged_alone(folder):
    _, report = run(folder)
    (finding,) = report["findings"]
    assert (finding["id"], finding["where"]) == ("rewards-constant", "task 1, task 2, task 4")
    assert ids(run(folder, "--task", "3")[1]) == {}
    assert ids(run(folder, "--task", "4")[1]) == {"rewards-constant": "warn"}


def test_exit_codes_tell_scripts_what_a_run_would_do(folder, tmp_path, capsys):
    save(folder, actions=np.sign(ARRAYS["actions"]))
    code, report = run(folder)
    assert code == 0
    assert ids(report)["actions-saturated"] == "warn"
    assert run(folder, "--strict")[0] == 1
    save(folder, actions=3 * ARRAYS["actions"])
    assert run(folder)[0] == 1
    assert main(["data", "inspect", "ogbench:cube-duble-play-v0"]) == 2
    assert 'SOURCE: found "ogbench:cube-duble-play-v0"; did you mean' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"actions": ARRAYS["actions"][:, :1]}, "actions: shape (1604, 1)"),
        ({"actions": np.where(ARRAYS["actions"] > 0.9, np.nan, ARRAYS["actions"])}, "found nan"),
        ({"observations": ARRAYS["observations"].astype(str)}, "observations: found <U"),
        ({"terminals": np.zeros(1_604)}, "no row of 1,604 ends an episode"),
        ({name: array[:1_300] for name, array in ARRAYS.items()}, "has no end"),
    ],
)
def test_faults_of_files_are_findings(folder, changes, says):
    save(folder, **changes)
    code, report = run(folder)
    assert code == 1
    assert ids(report) == {"unreadable": "refuse"}
    assert says in report["findings"][0]["found"]
    assert report["data"] is None


def test_a_damaged_validation_file_does_not_end_the_inspection(folder):
    (folder / f"{NAME}-v0-val.npz").write_bytes(b"PK")
    code, report = run(folder)
    assert code == 1
    assert report["findings"][0]["where"] == "validation"
    assert report["data"]["rows"] == 1_600


def test_an_experiment_names_data_task_and_horizon(folder):
    file = folder / "mine.toml"
    file.write_text(f"""
        [environment]
        id = "{NAME}"
        task = 2
        [data]
        directory = "{folder}"
        [agent]
        method = "fql"
        horizon = 50
        discount = 0.99
        bc_weight = 1.0
    """)
    _, report = run(folder, source=str(file))
    assert (report["source"], report["horizon"]) == (SOURCE, 50)
    assert run(folder, "--horizon", "401", source=str(file))[1]["horizon"] == 401
    assert ids(run(folder, "--horizon", "401", source=str(file))[1])["all-episodes-short"]


def test_the_page_opens_without_a_network(folder):
    page = folder / "page.html"
    save(folder, actions=np.sign(ARRAYS["actions"]))
    run(folder, "--html", str(page))
    text = page.read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles[-3:] == ["Observations by dimension", "Actions by dimension", "Rewards"]
    assert text.count("<svg") == 3  # its episodes have one length, which no figure has to show
    assert "Share of the rows with each reward but the task" in text
    assert "actions-saturated" in text
    assert not re.findall(r"""(?:src|href)=["'](?!#)[^"']*|url\((?!#)|@import""", text)


def test_a_page_without_matplotlib_names_the_extra(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = ["data", "inspect", SOURCE, "--directory", str(folder), "--html", "page.html"]
    assert main(words) == 2
    assert 'pip install -e ".[plot]"' in capsys.readouterr().err


def test_a_terminal_gets_tables(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    save(folder, actions=np.sign(ARRAYS["actions"]))
    run(folder)
    printed = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert "  warning: actions-saturated\n" in printed
    assert "usable, with warnings" in printed


# --- sources of any scheme that is registered ---


class Pendulums:
    """Swings of a pendulum whose torques reach from -2 to 2, and of other sizes."""

    shards, updates_per_shard = 1, None

    def __init__(self, settings, environment):
        self._size = 3 if settings.name == "three" else 4
        self.environment = environment

    def load(self, shard):
        rng = np.random.default_rng(0)
        torque = rng.uniform(-2, 2, (2_000, 1)).astype(np.float32)
        state = np.cumsum(np.vstack([np.zeros((1, 1)), torque]), axis=0) @ np.ones((1, self._size))
        state = (0.1 * state).astype(np.float32)
        ends = np.zeros(2_000, np.float32)
        ends[199::200] = 1
        mean = -np.abs(state[:-1, 0])
        return Transitions(state[:-1], torque, mean, np.ones_like(ends), ends, state[1:])


TABLE = {
    "observations": np.zeros((4, 2)),
    "actions": np.zeros((4, 1)),
    "rewards": np.zeros(4),
    "terminals": np.arange(4) == 3,
    "masks": np.ones(4),
}


@pytest.fixture
def scheme():
    registry.register_dataset(
        "pendulums", settings=DataSettings, builder=Pendulums, summary="for a test"
    )
    yield "pendulums"
    del registry.datasets._entries["pendulums"]


def test_without_an_environment_the_sizes_alone_are_looked_at(tmp_path, scheme):
    code, report = run(tmp_path, source="pendulums:three")
    assert code == 0
    assert ids(report) == {"actions-outside": "warn"}
    assert "--environment" in report["findings"][0]["remedy"]
    assert report["data"]["observation_size"] == 3
    source = build_data(DataSettings(source="pendulums:three"), NO_ENVIRONMENT)
    assert isinstance(source, Pendulums)
    assert source.environment is NO_ENVIRONMENT


def test_an_environment_brings_its_bounds_and_sizes(tmp_path, scheme):
    pendulum = ("--environment", "gymnasium:Pendulum-v1")
    code, report = run(tmp_path, *pendulum, source="pendulums:three")
    assert (code, ids(report)) == (0, {})
    assert report["data"]["action_high"][0] == pytest.approx(1.0, abs=0.01)
    code, report = run(tmp_path, *pendulum, source="pendulums:four")
    assert (code, ids(report)) == (1, {"sizes": "refuse"})


def test_actions_beyond_the_bounds_name_their_units(tmp_path, scheme, monkeypatch, capsys):
    load = Pendulums.load

    def wide(self, shard):
        transitions = load(self, shard)
        return replace(transitions, actions=2 * transitions.actions)

    monkeypatch.setattr(Pendulums, "load", wide)
    pendulum = ("--environment", "gymnasium:Pendulum-v1")
    _, report = run(tmp_path, *pendulum, source="pendulums:three")
    (finding,) = report["findings"]
    assert finding["id"] == "actions-outside"
    assert finding["found"].endswith("; -2 to 2 are scaled to [-1, 1]")
    assert "; -2 to 2 are scaled to [-1, 1]\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["gymnasium.envs.classic_control.pendulum:PendulumEnv", "Endless-v0"]
)
def test_a_time_limit_is_not_needed_to_look(tmp_path, scheme, name):
    gymnasium.register("Endless-v0", entry_point="gymnasium.envs.classic_control:PendulumEnv")
    code, report = run(tmp_path, "--environment", f"gymnasium:{name}", source="pendulums:three")
    assert (code, ids(report)) == (0, {})
    assert report["data"]["action_high"][0] == pytest.approx(1.0, abs=0.01)
    del gymnasium.registry["Endless-v0"]


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"rewards": None}, 'environment.reward = "sparse"'),
        ({"observations": np.zeros((4, 32, 32, 3))}, "data.observation_keys"),
        ({"observations": None}, ""),
    ],
)
def test_keys_that_the_command_cannot_take_stand_in_an_experiment(tmp_path, changes, asked):
    arrays = {name: array for name, array in (TABLE | changes).items() if array is not None}
    np.savez(tmp_path / "data.npz", **arrays)
    code, report = run(tmp_path, source=f"npz:{tmp_path / 'data.npz'}")
    (finding,) = report["findings"]
    assert (code, finding["id"]) == (1, "unreadable")
    assert asked in finding["found"]
    assert ("inspect one in the place of the source" in finding["remedy"]) == bool(asked)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere:x"], 'unknown data scheme "nowhere"'),
        (["pendulums:three", "--directory", "x"], "--directory: unknown key"),
        (["pendulums:three", "--environment", "gymnasium:Pendulum-v1", "--task", "2"], "--task: "),
        (["pendulums:three", "--environment", "gymnasium:"], "--environment: found"),
        (["pendulums:three", "--horizon", "0"], "--horizon: found 0; write a positive integer"),
        ([SOURCE, "--task", "6"], "--task: found 6; write an integer from 1 to 5"),
        ([SOURCE, "--task", "0"], "--task: found 0; write an integer from 1 to 5"),
        ([SOURCE, "--environment", "cube-double-play"], "--environment: "),
        (["pyproject.toml.npz"], "SOURCE: found"),
        ([""], 'SOURCE: found ""; write a format and a place, e.g. npz:mine.npz, an OGBench set'),
        (["npz:"], 'SOURCE: found "npz:"; write FORMAT:PLACE, e.g. npz:mine.npz'),
        (["minari:"], 'SOURCE: found "minari:"; write FORMAT:PLACE, e.g. npz:'),
    ],
)
def test_wrong_options_are_named(scheme, capsys, words, says):
    assert main(["data", "inspect", *words]) == 2
    assert says in capsys.readouterr().err
