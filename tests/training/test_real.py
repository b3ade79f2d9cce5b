"""Experiments from the file to the trained policy on real OGBench environments.

Data of a few episodes, small networks, a few dozen steps in each phase.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from short_run import ONLINE, SIZES, maze_data

from qamx import TrainedPolicy, UserError, build_agent, load_agent, registry
from qamx.cli import main
from qamx.config import load
from qamx.data.ogbench.generate import execute
from qamx.data.ogbench.rollout import Plan
from qamx.errors import ExitCode

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SMALL = (
    *SIZES,
    *ONLINE,
    "evaluation.every=30",
    "evaluation.episodes=1",
    "checkpoint.every=20",
    "logging.every=10",
)


def run(file, out, *overrides):
    return main(["run", str(EXPERIMENTS / file), "--out", str(out), "--set", *SMALL, *overrides])


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("file", "name", "shards"),
    [
        ("scene_qam_fql.toml", "scene-play", None),
        ("p33_qam_edit.toml", "puzzle-3x3-play", None),
        ("p44_qam_edit.toml", "puzzle-4x4-play", 2),
        ("c2_qam.toml", "cube-double-play", None),
        ("c3_qam_fql.toml", "cube-triple-play", None),
        ("c4_qam_edit.toml", "cube-quadruple-play", 2),
    ],
)
def test_a_method_of_each_manipulation_domain(file, name, shards, tmp_path):
    plan = replace(Plan.of(name, episodes=1, shards=shards, seed=0), steps=100)
    execute(plan, tmp_path, workers=1, overwrite=False, progress=False)
    changes = ["data.updates_per_shard=10"] if shards else []
    # One domain is evaluated by a worker, the others in the run's process.
    changes += [f"evaluation.workers={int(name == 'scene-play')}", f"data.directory={tmp_path}"]
    out = tmp_path / "run"
    assert run(file, out, *changes) == 0
    metrics = rows(out / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [10, 20, 30, 40, 50, 60]
    assert {row["phase"] for row in metrics} == {"offline", "online"}
    assert [row["step"] for row in rows(out / "evaluations.jsonl")] == [30, 60]
    assert sorted(int(path.name) for path in (out / "checkpoints").iterdir()) == [40, 60]
    # The resolved experiment beside the results runs by itself.
    resolved = load(out / "config.toml")
    assert resolved.environment.name == name
    assert resolved.agent.batch_size == 16


@pytest.mark.parametrize("method", [entry.name for entry in registry.agents])
def test_every_method_learns_in_every_phase_and_is_evaluated(method, maze, tmp_path):
    # The method's own file, in the maze, whose simulator is there at once.
    place = (*maze, "environment.id=pointmaze-medium-navigate", "evaluation.workers=0")
    short = ["online_steps=12", "online_warmup=6"]
    short += ["offline_steps=" if method == "rlpd" else "offline_steps=4"]
    short += ["cloning_steps=4"] if method.startswith("trqam") else []
    every = ("evaluation.every=100", "checkpoint.every=100", "logging.every=100")
    changes = [*place, *(f"schedule.{key}" for key in short), *every]
    assert run(f"c2_{method}.toml", tmp_path, *changes) == 0
    metrics = rows(tmp_path / "metrics.jsonl")
    learned = [row["phase"] for row in metrics]
    cloned = ["cloning", "offline"]
    before = {"trqam": cloned, "trqam_edit": cloned, "rlpd": []}.get(method, ["offline"])
    assert learned == [*before, "online"]
    assert len({row["update/loss"] for row in metrics}) == len(metrics)
    assert [row["step"] for row in rows(tmp_path / "evaluations.jsonl")] == [
        row["step"] for row in metrics
    ]


def test_a_run_starts_from_the_clone_of_another(maze, tmp_path, capsys):
    cloning = [f"schedule.{key}=" for key in ("offline_steps", "online_steps", "online_warmup")]
    cloning += ["schedule.kind=cloning", "schedule.cloning_steps=30"]
    assert run("quickstart.toml", tmp_path / "clone", *maze, *cloning) == 0
    source = load_agent(tmp_path / "clone")
    start = f"agent.initialise_from={tmp_path / 'clone'}"
    once = [start, "schedule.offline_steps=1", "checkpoint.every=1", "agent.learning_rate=1e-9"]
    assert run("quickstart.toml", tmp_path / "tuned", *maze, *once) == 0
    tuned = load_agent(tmp_path / "tuned")
    expected = jax.tree.leaves(source.policy.clone)
    for network in (tuned.policy.clone, tuned.policy.velocity):
        for one, other in zip(jax.tree.leaves(network), expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    # Going on, the other run is not needed any more.
    shutil.move(tmp_path / "clone", tmp_path / "gone")
    assert run("quickstart.toml", tmp_path / "tuned", *maze, *once) == 0
    capsys.readouterr()
    start = f"agent.initialise_from={tmp_path / 'gone'}"
    wider = [start, "agent.actor_hidden=[8]"]
    assert run("quickstart.toml", tmp_path / "wider", *maze, *wider) == 2
    assert "this method with a VelocityField" in capsys.readouterr().err
    other = [start, "data.normalise_observations=true"]
    assert run("quickstart.toml", tmp_path / "other", *maze, *other) == 2
    assert "learned in other units" in capsys.readouterr().err


def test_a_method_without_a_clone_says_so(maze, tmp_path, capsys):
    rebrac = ["agent.method=rebrac", "agent.inverse_temperature=", "agent.bc_weight=1.0"]
    assert run("quickstart.toml", tmp_path, *maze, *rebrac, "agent.actor_noise=0.0") == 2
    assert "evaluation.behaviour: found true" in capsys.readouterr().err


@pytest.fixture(scope="module")
def maze(tmp_path_factory):
    """The quickstart's arguments, cut down, with its data made by the run itself."""
    return *maze_data(tmp_path_factory.mktemp("maze")), "evaluation.workers=0"


def test_the_quickstart_makes_its_data_and_logs_to_wandb_offline(maze, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    settings = ("logging.wandb=offline", "evaluation.workers=2")
    assert run("quickstart.toml", tmp_path, *maze, *settings) == 0
    row = rows(tmp_path / "evaluations.jsonl")[-1]
    assert {"success", "behaviour_success"} <= row.keys()
    logs = list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(logs) == 1
    # A process of wandb's own writes the file, and may be at it still.
    for word in (b"critic/loss", b"evaluation/success"):
        until = time.monotonic() + 30
        while word not in logs[0].read_bytes():
            assert time.monotonic() < until, word
            time.sleep(0.1)


@pytest.fixture(scope="module")
def finished_run(maze, tmp_path_factory):
    """A run of the quickstart that has ended."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert run("quickstart.toml", folder, *maze) == 0
    return folder


@pytest.fixture
def finished_copy(finished_run, tmp_path):
    """A copy of it to continue."""
    return shutil.copytree(finished_run, tmp_path / "copy")


def test_another_configuration_in_the_same_directory_is_refused(maze, finished_copy, capsys):
    before = (finished_copy / "metrics.jsonl").read_bytes()
    assert run("quickstart.toml", finished_copy, *maze, "agent.inverse_temperature=1.0") == 2
    said = capsys.readouterr().err
    assert "agent.inverse_temperature: 10.0 there, 1.0 here" in said
    assert "--out" in said
    assert (finished_copy / "metrics.jsonl").read_bytes() == before


def test_a_finished_run_can_be_made_longer(maze, finished_copy, capsys):
    assert run("quickstart.toml", finished_copy, *maze, "schedule.online_steps=40") == 0
    assert [row["step"] for row in rows(finished_copy / "evaluations.jsonl")] == [30, 60, 70]
    capsys.readouterr()
    assert run("quickstart.toml", finished_copy, *maze, "schedule.online_steps=40") == 0
    assert "at step 70" in capsys.readouterr().out


def command(out, *overrides):
    arguments = ["run", str(EXPERIMENTS / "quickstart.toml"), "--out", str(out), "--set"]
    return [sys.executable, "-m", "qamx", *arguments, *SMALL, *overrides]


def wait_for(path, process, lines):
    """Until a file has that many lines and the process still runs."""
    for _ in range(1200):
        if path.exists() and len(path.read_text().splitlines()) >= lines:
            return
        assert process.poll() is None, "ended before it could be interrupted"
        time.sleep(0.1)
    raise AssertionError(f"{path} has no {lines} lines after two minutes")


def test_a_run_that_is_killed_or_told_to_stop_continues_exactly(maze, tmp_path):
    longer = [*maze, "schedule.online_steps=400", "evaluation.every=430", "checkpoint.every=50"]
    assert run("quickstart.toml", tmp_path / "whole", *longer) == 0
    out = tmp_path / "interrupted"
    for number, lines in ((signal.SIGKILL, 10), (signal.SIGTERM, 25)):
        process = subprocess.Popen(command(out, *longer), stdout=subprocess.DEVNULL)
        wait_for(out / "metrics.jsonl", process, lines)
        process.send_signal(number)
        expected = ExitCode.INTERRUPTED if number == signal.SIGTERM else -signal.SIGKILL
        assert process.wait(600) == expected
    assert run("quickstart.toml", out, *longer) == 0
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_missing_data_set_is_one_message(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("QAMX_MIRROR", "http://127.0.0.1:9")  # a port that nothing listens on
    assert run("c4_qam_edit.toml", tmp_path / "run", f"data.directory={tmp_path}") == 2
    said = capsys.readouterr().err
    assert "qamx data generate cube-quadruple-play" in said
    assert "--shards" in said
    assert "Traceback" not in said


def test_the_clone_of_the_data_learns(maze, tmp_path):
    longer = ["schedule.offline_steps=400", "evaluation.every=430", "checkpoint.every=430"]
    assert run("quickstart.toml", tmp_path, *maze, *longer) == 0
    losses = [row["behaviour_flow/loss"] for row in rows(tmp_path / "metrics.jsonl")]
    assert np.mean(losses[30:40]) < 0.8 * losses[0]


def test_a_trained_agent_can_be_loaded(finished_run, tmp_path, optimised):
    agent = load_agent(finished_run)
    chunks = agent.act(jnp.zeros((3, 2)), jax.random.key(0))
    assert chunks.shape == (3, 3 * 2)
    # It is the trained one: the fresh one of the same seed acts otherwise.
    fresh = build_agent(load(finished_run / "config.toml").agent, 2, 2, jax.random.key(0))
    assert not np.allclose(chunks, fresh.act(jnp.zeros((3, 2)), jax.random.key(0)))
    policy = TrainedPolicy.load(finished_run)
    played = policy.act(np.zeros((3, 2)), jax.random.key(0))
    evaluated = agent.act_in_evaluation(jnp.zeros((3, 2)), jax.random.key(0))
    np.testing.assert_allclose(played.reshape(3, 6), evaluated, rtol=1e-5, atol=1e-6)
    (tmp_path / "new").mkdir()
    shutil.copy(finished_run / "config.toml", tmp_path / "new")
    with pytest.raises(UserError, match="no checkpoint yet"):
        load_agent(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["config.toml"]


def test_a_start_that_failed_does_not_block_the_directory(tmp_path, capsys):
    missing = [f"data.directory={tmp_path}", "data.generate_episodes="]
    assert run("c4_qam.toml", tmp_path / "run", *missing) == 2
    assert run("c4_qam.toml", tmp_path / "run", *missing, "agent.horizon=3") == 2
    assert "another configuration" not in capsys.readouterr().err


def test_a_directory_that_cannot_hold_a_run_is_one_message(maze, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("quickstart.toml", tmp_path / "file", *maze) == 2
    assert "name another with --out" in capsys.readouterr().err


def test_a_schedule_of_another_kind_in_the_same_directory_is_refused(maze, finished_copy, capsys):
    removed = [f"schedule.{key}=" for key in ("online_steps", "online_warmup")]
    assert run("quickstart.toml", finished_copy, *maze, "schedule.kind=offline", *removed) == 2
    assert "schedule.kind" in capsys.readouterr().err
