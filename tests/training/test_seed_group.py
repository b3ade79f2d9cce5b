"""Several seeds as one program: each as if it ran alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from toy import Corner, RandomWalks, make_edit_agent, make_plan

from qamx.cli import main
from qamx.errors import ExitCode, RunError, UserError
from qamx.training.logs import Logs
from qamx.training.loop import Runner
from qamx.training.seed_group import SeedRun
from qamx.training.state import Stacked

pytestmark = pytest.mark.usefixtures("shared_trainers")

SEEDS = (1, 2, 3)

TOLERANCE = 1e-4
"""Relative difference, in the first row of the log, of a seed alone and in a group: batched matrix
products add up in another order."""


def rows(directory, name="metrics"):
    return [json.loads(line) for line in (directory / f"{name}.jsonl").read_text().splitlines()]


def start(directory, seeds=SEEDS, **changes):
    members = []
    for seed in seeds:
        own = directory / f"seed{seed}"
        own.mkdir(exist_ok=True, parents=True)
        settings: dict[str, Any] = {"make_agent": make_edit_agent, "seed": seed, "every": 20}
        settings |= changes
        members.append(SeedRun(make_plan(**settings), own, Logs(own)))
    return Runner(members)


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    directory = tmp_path_factory.mktemp("group")
    runner = start(directory)
    assert runner.run() == ExitCode.DONE
    return directory, runner


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    directory = tmp_path_factory.mktemp("alone")
    runner = start(directory, seeds=SEEDS[1:2])
    assert runner.run() == ExitCode.DONE
    return directory / "seed2", runner


def test_a_seed_in_a_group_is_the_seed_alone(group, alone):
    first, expected = rows(group[0] / "seed2")[0], rows(alone[0])[0]
    assert first.keys() == expected.keys()
    for name, value in expected.items():
        if not isinstance(value, str):
            assert first[name] == pytest.approx(value, rel=TOLERANCE, abs=1e-6), name


def test_each_seed_has_records_as_if_alone(group, alone):
    for seed in SEEDS:
        for name in ("metrics", "evaluations"):
            found, expected = rows(group[0] / f"seed{seed}", name), rows(alone[0], name)
            assert [(r["step"], r["phase"]) for r in found] == [
                (r["step"], r["phase"]) for r in expected
            ]
    losses = {rows(group[0] / f"seed{seed}")[0]["critic/loss"] for seed in SEEDS}
    assert len(losses) == len(SEEDS)


def test_the_first_environment_steps_are_those_of_the_seed_alone(group, alone):
    together = group[1].replay.online_rows(0, 3, (1,))
    by_itself = alone[1].replay.online_rows(0, 3)
    np.testing.assert_array_equal(together.observations[0], by_itself.observations[0])
    np.testing.assert_allclose(together.actions, by_itself.actions, atol=0.02)
    for member in range(len(SEEDS)):
        played = group[1].replay.online_rows(0, 40, (member,))
        continued = played.ends[:-1] == 0
        np.testing.assert_array_equal(
            played.observations[1:][continued], played.next_observations[:-1][continued]
        )


def test_a_checkpoint_of_a_group_is_one_of_a_run(group, tmp_path):
    # A member continues alone.
    shutil.copytree(group[0] / "seed2", tmp_path, dirs_exist_ok=True)
    plan = make_plan(seed=2, make_agent=make_edit_agent)
    runner = Runner([SeedRun(plan, tmp_path, Logs(tmp_path))])
    assert runner._saved
    runner._restore(runner._saved)
    for one, other in zip(
        jax.tree.leaves(runner.training.state.agent),
        jax.tree.leaves(Stacked(3).of(group[1].training, 1).state.agent),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", [35, 67])
def test_a_killed_group_continues_to_the_same_end(group, tmp_path, monkeypatch, step):
    runner = start(tmp_path)
    finish = runner._finish_step

    def die(event):
        finish(event)
        if runner._step >= step:
            raise Killed

    monkeypatch.setattr(runner, "_finish_step", die)
    with pytest.raises(Killed):
        runner.run()
    for run in runner._group.runs:
        run.logs.close()
    again = start(tmp_path)
    assert again.run() == ExitCode.DONE
    for seed in SEEDS:
        for name in ("metrics.jsonl", "evaluations.jsonl"):
            found = (tmp_path / f"seed{seed}" / name).read_bytes()
            assert found == (group[0] / f"seed{seed}" / name).read_bytes()


def test_a_group_killed_between_two_saves_goes_back_to_the_common_step(
    group, tmp_path, monkeypatch
):
    runner = start(tmp_path)
    last = runner._group.runs[2].checkpoints
    save = last.save

    def die(step, *arguments):
        if step == 60:
            runner._group.runs[0].checkpoints.wait()
            raise Killed
        save(step, *arguments)

    monkeypatch.setattr(last, "save", die)
    with pytest.raises(Killed):
        runner.run()
    again = start(tmp_path)
    assert again._step == 40
    assert again.run() == ExitCode.DONE
    for seed in SEEDS:
        found = (tmp_path / f"seed{seed}" / "metrics.jsonl").read_bytes()
        assert found == (group[0] / f"seed{seed}" / "metrics.jsonl").read_bytes()


def test_runs_at_different_steps_are_refused(tmp_path):
    assert start(tmp_path, seeds=(1,)).run() == ExitCode.DONE
    with pytest.raises(UserError, match=r"seed 1 at step 80, seed 2 at step 0"):
        start(tmp_path)


@pytest.mark.parametrize("devices", [1, 3])
def test_the_number_of_devices_does_not_matter(group, tmp_path, monkeypatch, devices):
    # Begun on one device or three, and continued on the other number.
    runner = start(tmp_path, devices=devices)
    finish = runner._finish_step

    def die(event):
        finish(event)
        if runner._step >= 67:
            raise Killed

    monkeypatch.setattr(runner, "_finish_step", die)
    with pytest.raises(Killed):
        runner.run()
    places = runner.training.counted.sharding.device_set
    assert len(places) == devices
    for run in runner._group.runs:
        run.logs.close()
    assert start(tmp_path, devices=4 - devices).run() == ExitCode.DONE
    for seed in SEEDS:
        found, expected = (rows(folder / f"seed{seed}") for folder in (tmp_path, group[0]))
        assert len(found) == len(expected)
        for name, value in expected[0].items():
            if not isinstance(value, str):
                assert found[0][name] == pytest.approx(value, rel=TOLERANCE, abs=1e-6), name


@pytest.mark.parametrize("devices", [2, 4])
def test_devices_that_seeds_cannot_be_spread_over_are_refused(tmp_path, devices):
    with pytest.raises(UserError, match=rf"compute.devices: found {devices}, and there are 3"):
        start(tmp_path, devices=devices)


class Unstable(Corner):
    """Rewards beyond float32 in the episodes of one seed's run."""

    bad: frozenset[int] | set[int] = frozenset()

    def reset(self, seed):
        self._first = seed
        return super().reset(seed)

    def step(self, action):
        step = super().step(action)
        reward = 3e38 if self._first in self.bad else step.reward
        return type(step)(step.observation, reward, step.terminated, step.truncated, step.success)


def test_a_seed_that_diverges_is_frozen_and_the_others_go_on(group, tmp_path, monkeypatch, capsys):
    from qamx._utils.defaults import TRAINING_STREAM, derived_seed

    bad = {derived_seed(2, TRAINING_STREAM, episode) for episode in range(9)}
    monkeypatch.setattr(Unstable, "bad", bad)
    runner = start(tmp_path, make_environment=Unstable)
    assert runner.run() == ExitCode.FAILED
    assert "seed 2 stops: step" in capsys.readouterr().out
    report = json.loads(next(tmp_path.glob("seed2/nonfinite/*/report.json")).read_text())
    assert report["update"] >= 40
    assert rows(tmp_path / "seed2")[-1]["step"] < 80
    for seed in (1, 3):
        for name in ("metrics.jsonl", "evaluations.jsonl"):
            found = (tmp_path / f"seed{seed}" / name).read_bytes()
            assert found == (group[0] / f"seed{seed}" / name).read_bytes()
    # It stays out of the group, which has nothing left to do.
    again = start(tmp_path, make_environment=Unstable)
    assert again.run() == ExitCode.FAILED
    assert "seed 2 stays out of the group: step" in capsys.readouterr().out


def test_a_group_of_which_none_goes_on_says_why(tmp_path):
    class Broken(RandomWalks):
        def load(self, shard):
            data = super().load(shard)
            data.rewards[:] = np.inf
            return data

    with pytest.raises(RunError, match=r"no seed of the group continues:\nseed 1: step"):
        start(tmp_path, data=Broken()).run()
    # All broke in one interval, and each has the evidence of its own first update.
    for seed in SEEDS:
        (report,) = (tmp_path / f"seed{seed}").glob("nonfinite/*/report.json")
        assert json.loads(report.read_text())["update"] == 1


@pytest.fixture
def corner(monkeypatch):
    """An experiment file whose environment is the corner."""
    folder = Path(__file__).parents[1] / "faults"
    monkeypatch.syspath_prepend(str(folder))
    return str(folder / "corner.toml")


@pytest.mark.parametrize("mode", ["vectorised", "sequential"])
def test_seeds_on_the_command_line_are_runs_of_their_own(corner, tmp_path, capsys, mode):
    command = ["run", corner, "--seeds", "2", "--seeds-mode", mode, "--out", str(tmp_path)]
    assert main(command) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed10001", "seed20002"]
    # Each can be started again alone, and has nothing left to do.
    before = rows(tmp_path / "seed20002")
    alone = ["run", corner, "--seed", "20002", "--out", str(tmp_path / "seed20002")]
    assert main(alone) == 0
    assert rows(tmp_path / "seed20002") == before
    assert capsys.readouterr().out.count("done: success") == 3


def test_a_number_of_seeds_that_is_none_is_refused(corner, capsys):
    assert main(["run", corner, "--seeds", "0"]) == 2
    assert "--seeds: found 0; write a positive integer" in capsys.readouterr().err
