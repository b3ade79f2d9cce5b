"""The runner: phases and events, exact continuation, compilation, and what a user sees."""

import json
import logging
import shutil
import threading
from dataclasses import replace
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from corner import Brief, Silent, collect
from toy import (
    DISCOUNT,
    HORIZON,
    Corner,
    RandomWalks,
    leaves,
    make_agent,
    make_edit_agent,
    make_fql_agent,
    make_plan,
    make_strong_agent,
)

from qamx._utils import terminal
from qamx.agents import adam, create_state, update
from qamx.data.replay import Replay, UniformSampling
from qamx.data.transitions import windows
from qamx.envs import LocalEnv
from qamx.errors import ExitCode, UserError
from qamx.schedules import Cloning, Offline, Online, Schedule
from qamx.training import loop
from qamx.training.collector import Collector
from qamx.training.evaluator import Evaluator, summarise
from qamx.training.guards import Divergence
from qamx.training.logs import Logs
from qamx.training.loop import PROGRESS_LINE, Runner
from qamx.training.plan import Evaluation, Intervals, events
from qamx.training.seed_group import SeedRun
from qamx.training.state import Trainer

pytestmark = pytest.mark.usefixtures("shared_trainers")

WALKS = RandomWalks().load(0)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def start(plan, directory):
    directory.mkdir(exist_ok=True)
    return Runner([SeedRun(plan, directory, Logs(directory))])


class Killed(Exception):
    """Stands for the end of the process."""


def after_events(monkeypatch, runner, action):
    """Calls `action` with the step when all of a step is done."""
    finish = runner._finish_step

    def then(event):
        finish(event)
        action(runner._step)

    monkeypatch.setattr(runner, "_finish_step", then)


def kill_at(monkeypatch, runner, last):
    """Ends the run as a kill between two steps does."""

    def die(step):
        if step >= last:
            runner._group.runs[0].checkpoints.wait()
            raise Killed

    after_events(monkeypatch, runner, die)


def full_plan(**changes):
    """QAM-EDIT on three shards, through both phases: everything that a run has to restore."""
    data = RandomWalks(shards=3, updates_per_shard=12)
    return make_plan(data=data, make_agent=make_edit_agent, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted."""
    directory = tmp_path_factory.mktemp("whole")
    runner = start(full_plan(), directory)
    assert runner.run() == ExitCode.DONE
    return directory, leaves(runner)


def assert_same_end(whole, directory, runner):
    """The run ended bitwise like the uninterrupted one, logs included."""
    expected_directory, expected = whole
    found = leaves(runner)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert (directory / name).read_bytes() == (expected_directory / name).read_bytes()


def test_a_run_that_a_callback_stops_continues_bitwise(whole, tmp_path):
    seen = []

    def stop_at_first(runner, run, kind, row):
        seen.append((kind, row))
        runner.stop.make()
        agent, acting = runner.copy_agent(run)
        arrays = eqx.filter(agent, eqx.is_array)
        assert acting(arrays, np.zeros((1, 2), np.float32), jax.random.key(0)).shape[0] == 1

    runner = Runner([SeedRun(full_plan(), tmp_path, Logs(tmp_path))], stop_at_first)
    assert runner.run() == ExitCode.INTERRUPTED
    assert [kind for kind, _ in seen] == ["metrics"]
    assert [row for _, row in seen] == rows(tmp_path / "metrics.jsonl")
    runner = start(full_plan(), tmp_path)
    assert runner.run() == ExitCode.DONE
    assert_same_end(whole, tmp_path, runner)


def test_events_are_a_function_of_schedule_intervals_and_step():
    schedule = Schedule((Cloning(5), Offline(0), Offline(10), Online(12, 4, 2)))
    intervals = Intervals(logging=4, evaluation=20, checkpoint=6)
    found = list(events(schedule, intervals, 0))
    due = {
        event.step: "".join(
            letter
            for letter, is_so in zip("les", (event.log, event.evaluate, event.save), strict=True)
            if is_so
        )
        for event in found
    }
    assert due == {
        **{4: "l", 5: "les"},
        **{6: "s", 8: "l", 12: "ls", 15: "les"},
        **{16: "l", 18: "s", 20: "le", 24: "ls", 27: "les"},
    }
    names = [event.phase.name for event in found]
    assert names == ["cloning"] * 2 + ["offline"] * 4 + ["online"] * 5
    for step in range(28):  # a resumed run has the events that are left
        assert [*events(schedule, intervals, step)] == [e for e in found if e.step > step]


def test_progress_is_a_line_every_half_minute(caplog, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: clock.now))
    with (
        caplog.at_level(logging.INFO, logger="qamx"),
        terminal.Progress(1000, 100, unit="steps", line=PROGRESS_LINE) as progress,
    ):
        for clock.now, step in ((10.0, 200), (30.0, 400), (31.0, 410), (60.0, 400)):
            progress.advance(step, "offline")
    assert [record.getMessage() for record in caplog.records] == [
        "offline: step 400 of 1,000, 10 steps/s, 1 min left",
        "offline: step 400 of 1,000, 0 steps/s, ? left",
    ]


def test_events_come_when_they_are_due(whole):
    directory, _ = whole
    metrics = rows(directory / "metrics.jsonl")
    assert [(r["step"], r["phase"]) for r in metrics] == [
        *((step, "offline") for step in (7, 14, 21, 28, 35, 40)),
        *((step, "online") for step in (49, 56, 63, 70, 77, 80)),
    ]
    evaluations = rows(directory / "evaluations.jsonl")
    assert [r["step"] for r in evaluations] == [20, 40, 60, 80]
    assert {"success", "behaviour_success", "return", "length"} <= evaluations[0].keys()
    assert all(np.isfinite(v) for r in metrics for v in r.values() if not isinstance(v, str))


def test_the_replay_holds_what_was_played(whole):
    _, arrays = whole
    offline = len(RandomWalks().load(0))
    assert arrays["[1].size"] == offline + 40
    observations, after = (
        arrays[f"[1].online.{name}"] for name in ("observations", "next_observations")
    )
    ends = arrays["[1].online.ends"]
    continued = ends[:-1] == 0
    np.testing.assert_array_equal(observations[1:][continued], after[:-1][continued])
    assert not np.array_equal(observations[1:][~continued], after[:-1][~continued])


def assert_survives(monkeypatch, plan, directory, step, whole):
    """A run that is killed at a step and started again ends as the uninterrupted one."""
    runner = start(plan(), directory)
    kill_at(monkeypatch, runner, step)
    with pytest.raises(Killed):
        runner.run()
    again = start(plan(), directory)
    assert again.run() == ExitCode.DONE
    assert_same_end(whole, directory, again)


@pytest.mark.parametrize("step", [5, 13, 40, 43, 58, 71])
def test_a_killed_run_continues_to_the_same_end(whole, tmp_path, monkeypatch, step):
    # Before the first checkpoint, offline, at the phase's end, in warm-up, in mid-chunk, in
    # mid-episode.
    assert_survives(monkeypatch, full_plan, tmp_path, step, whole)


def cloning_plan():
    phases = (Cloning(15), Offline(15), Online(12, 4, 2))
    return make_plan(schedule=Schedule(phases), make_agent=make_edit_agent)


@pytest.fixture(scope="module")
def cloned(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cloned")
    runner = start(cloning_plan(), directory)
    assert runner.run() == ExitCode.DONE
    return directory, leaves(runner)


def test_cloning_comes_first_and_each_environment_step_has_its_updates(cloned):
    directory, arrays = cloned
    metrics = rows(directory / "metrics.jsonl")
    assert [row["phase"] for row in metrics] == [
        *["cloning"] * 3,
        *["offline"] * 3,
        *["online"] * 2,
    ]
    assert "critic/loss" not in metrics[0]
    assert "critic/loss" in metrics[3]
    # 15 of cloning, 15 offline, and two after each online step but the 4 of the warm-up.
    assert arrays["[0].state.updates"] == 15 + 15 + 2 * 8


def test_updates_may_be_rarer_than_environment_steps(tmp_path):
    runner = start(make_plan(schedule=Schedule((Online(21, 4, 0.25),))), tmp_path)
    assert runner.run() == ExitCode.DONE
    assert leaves(runner)["[0].state.updates"] == 4


@pytest.mark.parametrize("step", [11, 15, 17, 36])
def test_a_run_that_began_with_cloning_continues_to_the_same_end(
    cloned, tmp_path, monkeypatch, step
):
    assert_survives(monkeypatch, cloning_plan, tmp_path, step, cloned)


def test_a_run_killed_inside_a_save_continues_to_the_same_end(whole, tmp_path, monkeypatch):
    runner = start(full_plan(), tmp_path)
    checkpoints = runner._group.runs[0].checkpoints
    save = checkpoints.save

    def die_between_rows_and_checkpoint(step, tree, position, prepare, beside):
        if step == 60:
            prepare()
            raise Killed
        save(step, tree, position, prepare, beside)

    monkeypatch.setattr(checkpoints, "save", die_between_rows_and_checkpoint)
    with pytest.raises(Killed):
        runner.run()
    assert (tmp_path / "replay" / "000000010-000000020.npz").exists()
    again = start(full_plan(), tmp_path)
    assert again.run() == ExitCode.DONE
    assert_same_end(whole, tmp_path, again)


def test_a_stopped_run_saves_and_says_that_it_can_continue(whole, tmp_path, monkeypatch):
    # The request comes when the step's events are over: it must be saved all the same.
    runner = start(full_plan(), tmp_path)
    after_events(monkeypatch, runner, lambda step: step == 54 and runner.stop.make())
    assert runner.run() == ExitCode.INTERRUPTED
    assert (tmp_path / "checkpoints" / "54").is_dir()
    again = start(full_plan(), tmp_path)
    assert again.run() == ExitCode.DONE
    assert_same_end(whole, tmp_path, again)


@pytest.mark.parametrize("every", [10, 9])
def test_a_stop_does_not_wait_for_an_evaluation(whole, tmp_path, monkeypatch, every):
    # With a checkpoint on the same step, and without one.
    runner = start(full_plan(every=every), tmp_path)
    begin, calls = runner._evaluations._act, []

    def stop_in_the_middle(pending, run, role):
        act = begin(pending, run, role)

        def stopping(observations, call):
            calls.append(pending.step)
            if pending.step == 60 and call == 2:
                runner.stop.make()
                assert runner._evaluations._background._cancelled.wait(30.0)
            return act(observations, call)

        return stopping

    monkeypatch.setattr(runner._evaluations, "_act", stop_in_the_middle)
    assert runner.run() == ExitCode.INTERRUPTED
    assert calls[-1] == 60
    assert [row["step"] for row in rows(tmp_path / "evaluations.jsonl")] == [20, 40]
    again = start(full_plan(every=every), tmp_path)
    assert again.run() == ExitCode.DONE
    assert_same_end(whole, tmp_path, again)


def test_a_run_whose_checkpoints_are_gone_does_not_start_over(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(UserError, match="logs up to step 80 but no checkpoint"):
        start(full_plan(), tmp_path).run()
    assert len(rows(tmp_path / "metrics.jsonl")) == 12


def test_rows_up_to_the_second_save_need_no_checkpoint(tmp_path):
    # Saves at the phases' ends alone, 40 and 80: the first may not have ended before the second.
    run = SeedRun(make_plan(every=100), tmp_path, Logs(tmp_path))
    assert [*run.plan.saves(0)] == [40, 80]
    run.logs.write_metrics({"step": 49})
    run.clear()
    assert run.logs.metrics.rows() == []


def test_a_run_whose_logs_are_gone_says_so(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match=r"metrics\.jsonl: shorter than"):
        start(full_plan(), tmp_path).run()


def test_a_finished_run_has_nothing_left_to_do(whole):
    directory, expected = whole
    before = (directory / "metrics.jsonl").read_bytes()
    again = start(full_plan(), directory)
    assert again.run() == ExitCode.DONE
    assert (directory / "metrics.jsonl").read_bytes() == before
    np.testing.assert_array_equal(leaves(again)["[0].state.updates"], expected["[0].state.updates"])


def test_the_seed_determines_the_run(whole, tmp_path):
    same = start(full_plan(), tmp_path / "same")
    other = start(full_plan(seed=1), tmp_path / "other")
    assert same.run() == other.run() == ExitCode.DONE
    expected = (whole[0] / "metrics.jsonl").read_bytes()
    assert (tmp_path / "same/metrics.jsonl").read_bytes() == expected
    assert (tmp_path / "other/metrics.jsonl").read_bytes() != expected


def test_shards_take_turns_offline_and_online(tmp_path):
    data = RandomWalks(shards=3, updates_per_shard=10)
    runner = start(make_plan(offline=25, online=20, warmup=5, data=data), tmp_path)
    assert runner.run() == ExitCode.DONE
    # 25 updates offline, 15 online: shards 0, 1, 2 and, after update 30, 0 again.
    assert data.loaded == [0, 1, 2, 0]
    np.testing.assert_array_equal(leaves(runner)["[1].offline.rewards"], data.load(0).rewards)
    assert int(runner.training.state.updates) == 40


class Watched(RandomWalks):
    """Shards that say when they are loaded, and may be slow, broken or unequal."""

    def __init__(self, change=lambda shard, rows: rows, **arguments):
        super().__init__(shards=3, updates_per_shard=10, **arguments)
        self._change, self.threads = change, []

    def load(self, shard):
        self.threads.append(threading.current_thread())
        return self._change(shard, super().load(shard))


def test_the_next_shard_is_loaded_while_the_one_before_is_trained_on(tmp_path, monkeypatch):
    asked, loaded = threading.Event(), threading.Event()

    def held(shard, rows):
        if shard == 1:
            asked.set()
            assert loaded.wait(30)
        return rows

    data = Watched(held)
    plan = make_plan(offline=25, online=20, data=data, updates_per_dispatch=1)
    runner = start(plan, tmp_path)
    steps = []
    run = runner._trainer.run

    def watched(training, replay, updates):
        if len(steps) == 5:
            assert asked.wait(30)  # shard 1 is being loaded, and training has continued
        steps.append(updates)
        if len(steps) == 9:
            loaded.set()
        return run(training, replay, updates)

    monkeypatch.setattr(runner._trainer, "run", watched)
    assert runner.run() == ExitCode.DONE
    assert data.threads[0] is threading.main_thread()
    assert threading.main_thread() not in data.threads[1:]


def test_what_goes_wrong_with_the_next_shard_ends_the_run_with_its_message(tmp_path):
    def broken(shard, rows):
        if shard == 1:
            raise UserError("shard 1 is broken")
        return rows

    with pytest.raises(UserError, match="shard 1 is broken"):
        start(make_plan(offline=25, data=Watched(broken)), tmp_path / "broken").run()

    def shorter(shard, rows):
        return rows if shard == 0 else jax.tree.map(lambda column: column[:-1], rows)

    with pytest.raises(UserError, match=r"shard 1 holds 339 transitions and the first one 340"):
        start(make_plan(offline=25, data=Watched(shorter)), tmp_path / "shorter").run()


def test_a_step_may_bring_more_updates_than_a_shard_is_used_for(tmp_path):
    data = Watched()
    schedule = Schedule((Offline(4), Online(6, 1, 25)))
    runner = start(make_plan(schedule=schedule, data=data), tmp_path)
    assert runner.run() == ExitCode.DONE
    # The last step begins after 104 updates: shard 10 % 3.
    np.testing.assert_array_equal(leaves(runner)["[1].offline.rewards"], data.load(1).rewards)


@pytest.mark.parametrize("make_agent", [make_agent, make_edit_agent, make_fql_agent])
def test_each_program_is_compiled_once_a_run(tmp_path, caplog, monkeypatch, make_agent):
    monkeypatch.setattr(loop, "Trainer", Trainer)  # the run's own
    plan = make_plan(every=9, make_agent=make_agent)
    # In every thread: evaluations have one of their own.
    jax.config.update("jax_log_compiles", True)
    try:
        with caplog.at_level(logging.WARNING, logger="jax"):
            assert start(plan, tmp_path).run() == ExitCode.DONE
    finally:
        jax.config.update("jax_log_compiles", False)
    compiled = [r.getMessage() for r in caplog.records if "Compiling jit(" in r.getMessage()]
    assert sum("jit(_updates)" in message for message in compiled) == 1
    # Appending is compiled for a size of buffer, which an earlier test may have done.
    assert sum("jit(_append)" in message for message in compiled) <= 1
    # One for the environment's observation; one for evaluation's halves, one cloned.
    assert sum("jit(_chunk)" in message for message in compiled) == 1
    assert sum("jit(actions)" in message for message in compiled) == 2


def test_an_update_in_user_code_is_compiled_once(caplog):
    agent = make_edit_agent(2, 2, jax.random.key(0))
    optimiser = adam(1e-3, 1.0)
    state = create_state(agent, optimiser, jax.random.key(1))
    batch = windows(jax.tree.map(jnp.asarray, WALKS), jnp.arange(7), HORIZON, 0.9)
    step = eqx.filter_jit(update)
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        for _ in range(3):
            state, _ = step(state, batch, optimiser)
    compiled = [r for r in caplog.records if "Compiling jit(update)" in r.getMessage()]
    assert len(compiled) == 1


def test_qam_solves_what_its_clone_of_the_data_does_not(tmp_path):
    plan = make_plan(
        offline=1500,
        online=20,
        data=RandomWalks(episodes=200),
        make_agent=make_strong_agent,
        optimiser=adam(3e-3, 1.0),
        sampling=UniformSampling(64, HORIZON, DISCOUNT),
        intervals=Intervals(logging=500, evaluation=1500, checkpoint=5000),
        evaluation=Evaluation(episodes=30, environments=10, behaviour=True),
    )
    assert start(plan, tmp_path).run() == ExitCode.DONE
    first = rows(tmp_path / "evaluations.jsonl")[0]
    assert first["success"] > first["behaviour_success"] + 0.3


def make_trainer(plan=None):
    plan = make_plan() if plan is None else plan
    agent = plan.make_agent(2, 2, jax.random.key(0))
    state = create_state(agent, plan.optimiser, jax.random.key(1))
    trainer, replay = Trainer(state, plan.optimiser, plan.sampling), Replay.create(WALKS, 4)
    return trainer, replay, lambda: trainer.begin(state, replay, jax.random.key(2))


def test_the_update_is_one_program_without_callbacks():
    trainer, replay, begin = make_trainer()
    training = begin()
    traced = trainer._run.trace(training, replay, np.int32(1))
    text = str(traced.jaxpr)
    assert "callback" not in text
    assert "debug" not in text


def test_how_updates_are_portioned_does_not_matter():
    trainer, replay, begin = make_trainer()
    ends = []
    for portions in ((6,), (1, 2, 3)):
        training = begin()
        for updates in portions:
            training = trainer.run(training, replay, updates)
        ends.append(training)
    assert int(ends[0].counted) == int(ends[1].counted) == 6
    for one, other in zip(
        jax.tree.leaves(ends[0].totals), jax.tree.leaves(ends[1].totals), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_an_infinite_reward_stops_the_run_and_names_the_term(tmp_path):
    class Broken(RandomWalks):
        def load(self, shard):
            data = super().load(shard)
            data.rewards[:] = np.inf
            return data

    with pytest.raises(Divergence, match=r"critic/loss.* not finite"):
        start(make_plan(data=Broken()), tmp_path).run()


def test_data_of_another_environment_is_refused(tmp_path):
    class Wide(Corner):
        observation_size = 3

    with pytest.raises(UserError, match=r"observations of 2 .*environment 3"):
        start(make_plan(make_environment=Wide), tmp_path)


class Loose(Corner):
    def step(self, action):
        return replace(super().step(action), reward=np.zeros(3))


class Mute(Silent):
    def step(self, action):
        return replace(super().step(action), success=None)


class Curt(Brief):
    max_episode_steps = HORIZON - 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            Loose,
            r"a reward that is an array of shape \(3,\) .*episode 0, step 1, reset seed \d+",
        ),
        (Mute, r"its step returned success None at an episode's end; .*step 17, reset seed \d+"),
        (Curt, r"agent.horizon: found 3, and an episode of the environment has 2 steps at most; "),
    ],
)
def test_an_environment_that_does_not_do_is_refused_before_training(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        start(make_plan(make_environment=make), tmp_path)


def test_an_environment_need_not_say_before_the_end_whether_it_is_solved(tmp_path):
    evaluated = []
    for name, make in (("said", Corner), ("silent", Silent)):
        assert start(make_plan(make_environment=make), tmp_path / name).run() == ExitCode.DONE
        evaluated.append((tmp_path / name / "evaluations.jsonl").read_bytes())
    assert evaluated[0] == evaluated[1]


def test_a_run_that_stays_offline_may_be_evaluated_in_short_episodes(tmp_path):
    plan = make_plan(make_environment=Curt, schedule=Schedule((Offline(3),)))
    assert start(plan, tmp_path).run() == ExitCode.DONE
    assert rows(tmp_path / "evaluations.jsonl")[0]["length"] == 2.0


@pytest.mark.parametrize(("make", "times"), [(Brief, 1), (Corner, 0)])
def test_online_episodes_without_a_whole_window_are_warned_of_once(tmp_path, capsys, make, times):
    assert start(make_plan(3, 60, make_environment=make), tmp_path).run() == ExitCode.DONE
    said = capsys.readouterr().err
    assert said.count("the first 10 episodes online are all shorter than a chunk of 3 s") == times


def test_data_shorter_than_a_chunk_is_refused(tmp_path):
    class Short(RandomWalks):
        def load(self, shard):
            return jax.tree.map(lambda column: column[: HORIZON - 1], super().load(shard))

    with pytest.raises(UserError, match="2 transitions, fewer than one chunk of 3"):
        start(make_plan(data=Short()), tmp_path)


def players(count):
    return [LocalEnv(Corner()) for _ in range(count)]


def test_evaluation_calls_the_policy_once_a_chunk():
    calls = []

    def act(observations, call):
        calls.append((call, observations.shape))
        return np.ones((len(observations), 2 * HORIZON), np.float32)

    episodes = Evaluator(players(2)).play(act, [1, 2, 3])
    assert [call for call, _ in calls] == list(range(len(calls)))
    # Two players are two halves of one row.
    assert {shape for _, shape in calls} == {(1, 2)}
    assert len(calls) == sum(-(-episode.length // HORIZON) for episode in episodes)
    # Going to the corner solves it; the return counts the steps before.
    assert all(episode.success for episode in episodes)
    assert [e.total_reward for e in episodes] == [1.0 - e.length for e in episodes]
    summary = summarise(episodes)
    assert summary["success"] == 1.0
    assert summary["length"] == pytest.approx(np.mean([e.length for e in episodes]))


def test_episodes_do_not_depend_on_how_many_are_played_together():
    def act(observations, call):
        return np.tile(-np.sign(observations), HORIZON).astype(np.float32)

    alone = Evaluator(players(1)).play(act, [1, 2, 3])
    together = Evaluator(players(2)).play(act, [1, 2, 3])
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.observations, other.observations)


def test_collection_is_restored_in_mid_chunk():
    def act(observation, call):
        return np.random.default_rng(call).uniform(-1, 1, (1, 2 * HORIZON))

    collector, played = Collector(LocalEnv(Corner()), seed=3), []
    for _ in range(LAST := 2 * 17 + 8):
        played.append(collect(collector, act))
    position = json.loads(json.dumps(collector.position()))
    assert position["length"] == LAST - 34
    assert len(position["chunk"]) == 3 * HORIZON - LAST % 17
    actions = np.concatenate([t.actions for t in played[-position["length"] :]])
    restored = Collector(LocalEnv(Corner()), seed=3)
    restored.restore(position, actions)
    for _ in range(30):
        one, other = collect(collector, act), collect(restored, act)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(a, b)
