"""What stops a run from inside: numbers that are not finite, environments, memory, sinks."""

import json
import re
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import Corner, RandomWalks, leaves, make_plan

from qamx._utils.processes import ChildProcesses
from qamx.errors import ExitCode, RunError
from qamx.training.guards import Divergence, OutOfMemory, Watchdog, WatchedEnvironment
from qamx.training.logs import Logs
from qamx.training.loop import Runner
from qamx.training.seed_group import SeedRun

pytestmark = pytest.mark.usefixtures("shared_trainers")


class Poisoned(RandomWalks):
    """One reward of the data is infinite."""

    def load(self, shard):
        rows = super().load(shard)
        rows.rewards[100] = np.inf
        return rows


class Unstable(Corner):
    """Rewards beyond float32 from the 12th step of an episode on: the loss overflows."""

    def step(self, action):
        step = super().step(action)
        if self._steps < 12:
            return step
        return type(step)(step.observation, 3e38, step.terminated, step.truncated, step.success)


def start(plan, directory, sinks=()):
    directory.mkdir(exist_ok=True)
    return Runner([SeedRun(plan, directory, Logs(directory, sinks))])


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"data": Poisoned()}, "rewards"), ({"make_environment": Unstable}, None)],
    ids=["offline", "online"],
)
def test_the_offending_batch_and_the_state_before_it_are_kept(
    tmp_path, monkeypatch, changes, field
):
    runner = start(make_plan(**changes), tmp_path)
    with pytest.raises(Divergence, match=r"critic/loss.* not finite") as caught:
        runner.run()
    step, update = map(int, re.findall(r"step (\d+), update (\d+)", str(caught.value))[0])
    assert runner._step - step <= 7  # one logging interval
    evidence = tmp_path / "nonfinite" / f"step-{step}"
    report = json.loads((evidence / "report.json").read_text())
    assert report["update"] == update
    assert "update/loss" in report["not_finite"]
    with np.load(evidence / "batch.npz", allow_pickle=False) as batch:
        if field is not None:
            assert not np.isfinite(batch[field]).all()
        assert batch["observations"].shape == (8, 2)

    # A run that takes its updates one by one meets the same state just before the update.
    class Witness(Exception):
        pass

    changes = {**changes, "data": type(changes["data"])()} if "data" in changes else changes
    witness = start(make_plan(**changes, every=1000), tmp_path / "witness")
    events = witness._finish_step

    def look(*arguments):
        if int(witness.training.state.updates) >= update - 1:
            raise Witness
        events(*arguments)

    monkeypatch.setattr(witness._shards, "left", lambda updates: 1)
    monkeypatch.setattr(witness, "_finish_step", look)
    with pytest.raises(Witness):
        witness.run()
    found = leaves(witness)
    with np.load(evidence / "state.npz", allow_pickle=False) as state:
        assert int(state[".updates"]) == update - 1
        for name in state.files:
            assert np.isfinite(state[name]).all()
            np.testing.assert_array_equal(state[name], found[f"[0].state{name}"], err_msg=name)


def test_a_state_that_is_not_finite_is_never_saved(tmp_path, monkeypatch):
    runner = start(make_plan(), tmp_path)
    events = runner._finish_step

    def spoil(*arguments):
        if runner._step == 35:
            spoilt = jax.tree.map(
                lambda x: x * jnp.nan if x.dtype == jnp.float32 else x,
                runner.training.state.optimiser_state,
            )
            object.__setattr__(runner.training.state, "optimiser_state", spoilt)
            runner._save()
        events(*arguments)

    monkeypatch.setattr(runner, "_finish_step", spoil)
    with pytest.raises(Divergence, match=r"not finite"):
        runner.run()
    assert max(runner._group.runs[0].checkpoints.steps()) == 30


def collecting(runner):
    return [] if runner._collector is None else runner._collector._environments


def test_an_environment_that_raises_names_what_repeats_it(tmp_path, monkeypatch):
    plan, play = make_plan(), Corner.step
    runner = start(plan, tmp_path)

    def fail(self, action):
        players = (vars(player) for player in collecting(runner))
        played = [
            watched for player in players for watched in vars(player["_environment"]).values()
        ]
        if runner._step >= 65 and self in played:
            raise ValueError("the simulator is unstable")
        return play(self, action)

    monkeypatch.setattr(Corner, "step", fail)
    with pytest.raises(RunError, match=r"episode \d+, step \d+, reset seed \d+: ValueError: the"):
        runner.run()
    monkeypatch.undo()
    assert start(plan, tmp_path).run() == ExitCode.DONE


def test_a_buffer_beyond_memory_is_named(tmp_path):
    plan = make_plan(online=2 * 10**12)
    with pytest.raises(OutOfMemory, match=r"RESOURCE_EXHAUSTED.*2,000,000,000,\d+ rows x 36 bytes"):
        start(plan, tmp_path)


def test_a_sink_that_fails_does_not_stop_training(tmp_path, capsys):
    class Unreachable:
        def write(self, row):
            raise ConnectionError("no route to host")

        def close(self):
            raise ConnectionError("no route to host")

    assert start(make_plan(), tmp_path, (Unreachable(),)).run() == ExitCode.DONE
    assert capsys.readouterr().out.count("no route to host") == 1


def test_an_environment_that_hangs_ends_the_run_with_a_message(monkeypatch):
    class Stuck(Corner):
        def step(self, action):
            released.wait(30.0)
            return super().step(action)

    released, said = threading.Event(), []

    def end(self, message):
        said.append(message)
        released.set()

    monkeypatch.setattr(Watchdog, "_leave", end)
    env = WatchedEnvironment(Stuck(), Watchdog(seconds=0.2), ChildProcesses())
    env.reset(5)
    env.step(np.zeros(2, np.float32))
    assert said == [
        "the environment did not answer for 0 s in step 1 of the episode with reset seed 5. A "
        "run resumes from its last checkpoint with the same command"
    ]


def test_an_environment_that_answers_is_left_alone(monkeypatch):
    said = []
    monkeypatch.setattr(Watchdog, "_leave", lambda self, message: said.append(message))
    watchdog = Watchdog(seconds=0.1)
    env = WatchedEnvironment(Corner(), watchdog, ChildProcesses())
    env.reset(5)
    time.sleep(0.3)  # between calls: an update may take as long as it likes
    env.step(np.zeros(2, np.float32))
    watchdog.close()
    assert said == []
