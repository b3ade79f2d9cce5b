"""Environments in other processes play what they would play in this one."""

import contextlib
import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corner import (
    SECONDS,
    SIMULATORS,
    Corner,
    Doing,
    Dying,
    Hanging,
    Leaving,
    Restarting,
    Says,
    Sharing,
    Silent,
    Simulated,
    Unmade,
    Unready,
    Unstable,
    collect,
    forked,
    simulators,
)

from qamx.envs import LocalEnv, OGBenchEnvironment, close_envs, open_envs
from qamx.envs.gymnasium import GymnasiumEnvironment
from qamx.errors import RunError, UserError, no_exit
from qamx.training.async_evaluation import BackgroundEvaluation
from qamx.training.collector import Collector
from qamx.training.evaluator import Evaluator, validate_environment
from qamx.training.guards import Stopped, StopRequest, Watchdog, open_watched_envs, stop_immediately

CHUNK, SEEDS = 3, (5, 6, 7, 8, 9, 10, 11)


def act(observations, call):
    """Random chunks that depend on the observations' last bit, the row and the call."""
    noise = np.random.default_rng(call).normal(1, 1, (len(observations), CHUNK, 2))
    chunks = np.sin(1e4 * observations[:, None]) + noise
    return chunks.reshape(len(observations), -1).astype(np.float32)


@pytest.fixture
def open_them():
    """`open_envs` whose players are closed; no process of theirs may remain."""
    opened = []
    others.update(children())

    def open_them(make, count=3, workers=2, limit=20.0):
        opened.append(open_envs(make, count, workers, limit))
        return opened[-1]

    yield open_them
    for players in opened:
        for player in players:
            player.close()
    assert children() == set()
    others.clear()


others = set()
"""Processes that were there before a test, of other tests or of a library."""


def children():
    """The processes that a test started and that are not gone, zombies among them."""
    found = set()
    for task in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            found.update(map(int, task.read_text().split()))
    return found - others


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert (one.index, one.seed, one.success) == (other.index, other.seed, other.success)
        assert one.total_reward == other.total_reward
        np.testing.assert_array_equal(one.observations, other.observations)


def test_episodes_are_the_same_wherever_they_are_played(open_them):
    expected = Evaluator(open_them(Corner, workers=0)).play(act, SEEDS)
    assert len({episode.length for episode in expected}) > 1
    for workers in (1, 2, 3):
        players = open_them(Corner, workers=workers)
        assert len(children()) == workers
        assert_same(Evaluator(players).play(act, SEEDS), expected)
        for player in players:
            player.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_player_knows_the_time_limit_if_its_environment_does(open_them, workers):
    for make, limit in ((Corner, None), (Silent, 17)):
        assert open_them(make, 1, workers)[0].max_episode_steps == limit


def test_no_player_is_idle_while_seeds_are_left():
    players = [LocalEnv(Corner()) for _ in range(4)]
    shapes, began = [], []
    for slot, player in enumerate(players):
        player.reset = note_reset(player.reset, began, slot, shapes)

    def counted(observations, call):
        assert call == len(shapes)
        shapes.append(observations.shape)
        return act(observations, call)

    episodes = Evaluator(players).play(counted, SEEDS)
    # In the order of seeds, each at the turn of its half after the slot's episode has ended: the
    # halves call the policy in turn, so that a chunk of a slot takes two calls.
    assert [seed for seed, _, _ in began] == list(SEEDS)
    played = [0, 0, 0, 0]
    for (_, slot, call), episode in zip(began, episodes, strict=True):
        assert call - 2 * played[slot] in ((0, 1) if played[slot] else (0,))
        played[slot] += -(-episode.length // CHUNK)
    assert set(shapes) == {(2, 2)}
    halves = max(played[:2]), max(played[2:])
    assert len(shapes) == sum(halves)


def note_reset(reset, began, slot, shapes):
    def noting(seed):
        began.append((seed, slot, len(shapes)))
        reset(seed)

    return noting


@pytest.mark.parametrize("workers", [0, 2])
def test_an_environment_s_error_is_named_with_its_place(open_them, workers):
    with pytest.raises(
        RunError,
        match=r"failed in evaluation episode 0, step 2, reset seed 5: ValueError: the simulator "
        r"is unstable \(.*corner\.py:\d+\)\. A run resumes from its last checkpoint",
    ):
        Evaluator(open_them(Unstable, workers=workers)).play(act, SEEDS)
    with pytest.raises(RunError, match=r"step 0, reset seed 5: OSError: no such scene \(.*corner"):
        Evaluator(open_them(Unready, workers=workers)).play(act, SEEDS)


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_is_shared_with_an_environment(open_them, workers):
    expected = Evaluator(open_them(Corner, workers=0)).play(act, SEEDS)
    found = Evaluator(open_them(Sharing, workers=workers)).play(act, SEEDS)
    assert_same(found, expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("part", "value", "error", "said"),
    [
        ("reset", np.zeros(3), UserError, r"its reset returned an observation .*\(3,\) .*\(2,\)"),
        ("step", (np.zeros(2), 0.0), UserError, "its step returned .*; return a qamx.envs.Step"),
        ("observation", np.zeros((2, 1)), UserError, r"shape \(2, 1\) .* numbers of shape \(2,\)"),
        ("observation", np.array(["a", "b"]), UserError, "type <U1; it must be numbers"),
        ("reward", None, UserError, "a reward that is None"),
        ("terminated", "no", UserError, "terminated that is 'no'"),
        ("success", "no", UserError, "success of a step: found 'no'"),
        (
            "observation",
            np.array([0, np.nan]),
            RunError,
            "an observation with nan in entry 1, which",
        ),
        ("reward", np.float32(np.inf), RunError, "a reward of inf, which is not finite"),
    ],
)
def test_an_answer_that_is_none_names_what_repeats_it(open_them, part, value, error, said, workers):
    make, step = functools.partial(Says, part, value), 0 if part == "reset" else 1
    with pytest.raises(error, match=said) as caught:
        Evaluator(open_them(make, workers=workers)).play(act, SEEDS)
    assert f"evaluation episode 0, step {step}, reset seed 5" in str(caught.value)
    assert ("resumes from its last checkpoint" in str(caught.value)) is (error is RunError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Dying, r"plays the environment was killed by SIGKILL \(as"),
        (Leaving, r"ended with exit code 3\. A run resumes from its last checkpoint"),
        (
            Hanging,
            r"not answer for 3 s in the chunk from step 1 on of the episode with reset seed 5\.",
        ),
    ],
)
def test_a_process_that_dies_or_hangs_ends_the_evaluation(open_them, monkeypatch, make, said):
    monkeypatch.setattr("qamx.envs.protocol.END_SECONDS", 0.2)
    players = open_them(make)
    if make is Hanging:
        for player in players:  # only now: a process takes its time to start
            player._process._limit = 3.0
    with pytest.raises(RunError, match=said):
        Evaluator(players).play(act, SEEDS)
    for player in players:
        player.close()


def test_an_environment_that_cannot_be_made_leaves_no_process(open_them):
    with pytest.raises(RunError, match=r"cannot be made: KeyError: 'scene' \(.*corner\.py:\d+\)"):
        open_them(Unmade)
    assert children() == set()
    lock = threading.Lock()
    with pytest.raises(UserError, match=r"cannot go to a worker process .*cannot pickle"):
        open_them(lambda: lock)


def test_signals_to_the_whole_group_do_not_end_the_processes(open_them):
    players = open_them(Corner)
    for child in children():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(child, number)
    assert len(Evaluator(players).play(act, SEEDS)) == len(SEEDS)


def stop():
    signal.raise_signal(signal.SIGTERM)


def stop_in_an_import():
    try:
        stop()
    except BaseException:
        raise ImportError("while initializing") from None


def tried(place):
    (player,) = open_envs(functools.partial(Doing, place, stop), 1, 0, 20.0)
    validate_environment(player, 5)
    player.close()


@pytest.mark.parametrize(
    "trying",
    [
        lambda: GymnasiumEnvironment("test_vector:stop", max_episode_steps=9),
        stop_in_an_import,
        *(functools.partial(tried, place) for place in ("made", "reset", "step", "close")),
    ],
)
def test_a_stop_while_an_environment_is_tried_is_no_failure_of_it(trying):
    with pytest.raises(Stopped), stop_immediately():
        trying()


LEAVES = r"RuntimeError: it called sys.exit\(0\) \(.*test_vector.py:\d+\)"


def leave():
    sys.exit(0)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("made", f"cannot be made: {LEAVES}"),
        ("reset", f"failed in evaluation episode 0, step 0, reset seed 5: {LEAVES}"),
        ("step", f"failed in evaluation episode 0, step 1, reset seed 5: {LEAVES}"),
    ],
)
def test_an_environment_that_calls_exit_does_not_end_the_run(place, said):
    with pytest.raises(RunError, match=said):
        Evaluator(open_envs(functools.partial(Doing, place, leave), 1, 0, 20.0)).play(act, (5,))


class Unreadable(Exception):
    def __str__(self):
        raise ValueError("no message")


def fail_unreadably():
    raise Unreadable


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("call", "workers", "said"),
    [
        (fail_unreadably, 0, "Unreadable: its message cannot be read"),
        (fail_unreadably, 1, "Unreadable: its message cannot be read"),
        (interrupt, 1, "KeyboardInterrupt: "),
    ],
)
@pytest.mark.parametrize(("place", "where"), [("made", "be made"), ("step", "reset seed 5")])
def test_whatever_an_environment_raises_is_one_message(
    open_them, call, workers, said, place, where
):
    with pytest.raises(RunError, match=rf"{where}: {said} ?\(.*test_vector.py:\d+\)"):
        Evaluator(open_them(functools.partial(Doing, place, call), 1, workers)).play(act, (5,))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_close_that_calls_exit_is_a_warning(workers, capfd):
    close_envs(open_envs(functools.partial(Doing, "close", leave), 1, workers, 20.0))
    said = capfd.readouterr().err
    assert "failed while it was closed: RuntimeError: it called sys.exit(0) (" in said


@pytest.fixture
def sleeping(monkeypatch):
    """Simulators of the test alone; those that are left are ended after it."""
    monkeypatch.setenv(SECONDS, f"4000.{secrets.randbelow(10**9):09}")
    monkeypatch.setattr("qamx.envs.protocol.END_SECONDS", 1.0)
    monkeypatch.setattr("qamx.envs.checked.CLOSE_SECONDS", 0.3)
    monkeypatch.setattr("qamx._utils.processes.TERM_SECONDS", 0.3)
    yield
    for number in simulators():
        os.kill(number, signal.SIGKILL)


def wait_for(count):
    deadline = time.monotonic() + 5.0
    while len(simulators()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_none(seconds=0.0):
    deadline = time.monotonic() + seconds
    while (left := simulators()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == set()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", SIMULATORS)
@pytest.mark.usefixtures("sleeping")
def test_simulators_end_with_the_players(kind, workers):
    players = open_watched_envs(
        functools.partial(Simulated, kind), 2, workers, watchdog := Watchdog(20.0)
    )
    wait_for(2)
    players[0].reset(3)
    players[0].observation()
    close_envs(players)
    watchdog.close()
    wait_for_none()


@pytest.mark.parametrize("place", ["made", "reset", "step"])
@pytest.mark.parametrize("kind", [*SIMULATORS, "forked"])
@pytest.mark.usefixtures("sleeping")
def test_a_simulator_ends_wherever_it_was_started(kind, place):
    others.update(children())
    start = forked if kind == "forked" else SIMULATORS[kind]
    make = functools.partial(Doing, place, start)
    players = open_watched_envs(make, 1, 0, watchdog := Watchdog(20.0))
    Evaluator(players).play(act, SEEDS[:1])
    assert children() or kind in ("orphan", "daemon")
    close_envs(players)
    watchdog.close()
    wait_for_none()
    assert not any(map(is_alive, children()))
    others.clear()


@pytest.mark.parametrize(
    ("end", "workers", "said"),
    [
        ("error", 0, "the simulator is unstable"),
        ("error", 1, "the simulator is unstable"),
        ("kill", 1, "killed by SIGKILL"),
        ("exit", 1, "ended with exit code 0"),
        ("leave", 1, "ended with exit code 4"),
        ("hang", 1, "did not answer for 2 s"),
    ],
)
@pytest.mark.parametrize("kind", ["orphan", "deaf", "elsewhere"])
@pytest.mark.usefixtures("sleeping")
def test_simulators_end_with_an_environment_that_fails(end, workers, said, kind):
    make = functools.partial(Simulated, kind, end)
    players = open_watched_envs(
        make, 1, workers, watchdog := Watchdog(2.0 if end == "hang" else 20.0)
    )
    wait_for(1)
    with pytest.raises(RunError, match=said):
        Evaluator(players).play(act, SEEDS)
    close_envs(players)
    watchdog.close()
    wait_for_none()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.usefixtures("sleeping")
def test_an_environment_that_does_not_close_is_a_warning(workers, capfd):
    make = functools.partial(Simulated, "child", "bad close")
    close_envs(open_watched_envs(make, 1, workers, watchdog := Watchdog(20.0)))
    watchdog.close()
    wait_for_none()
    said = capfd.readouterr().err
    assert "warning: the environment failed while it was closed: ValueError: it does not" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["child", "fork"])
@pytest.mark.usefixtures("sleeping")
def test_an_environment_can_end_its_simulator(kind, workers):
    with StopRequest().listening():
        players = open_envs(functools.partial(Restarting, kind), 1, workers, 20.0)
        for seed in range(5):
            players[0].reset(seed)
            assert players[0].observation().shape == (2,)
    close_envs(players)


@pytest.mark.parametrize("kind", ["child", "orphan", "daemon"])
@pytest.mark.usefixtures("sleeping")
def test_simulators_end_with_a_run_that_is_killed(tmp_path, kind):
    script = SCRIPT.replace("Corner", "Simulated").replace("def __init__(self):", MADE)
    script = script.replace("Own,", f"lambda: Own({kind!r}),").replace("{end}", DEATH)
    (tmp_path / "script.py").write_text(script)
    path = os.pathsep.join([str(Path(__file__).parents[1] / "_support"), *sys.path])
    surroundings = {**os.environ, "PYTHONPATH": path}
    surroundings.pop("OMP_NUM_THREADS", None)
    with subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, env=surroundings) as run:
        assert run.wait(30.0) == -signal.SIGKILL
    wait_for_none(10.0)


MADE = "def __init__(self, kind):\n        super().__init__(kind)"
DEATH = """
from corner import simulators
while not simulators():
    pass
os.kill(os.getpid(), 9)
"""
SCRIPT = """
import os, sys
import numpy as np
from qamx.envs import open_envs
from corner import Corner

class Own(Corner):
    def __init__(self):
        assert "jax" not in sys.modules
        assert os.environ["OMP_NUM_THREADS"] == "1"

player, = open_envs(Own, 1, 1, 20.0)
player.reset(3)
print(player.observation().shape, player._process._process.pid, flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["player.close()", "pass", "os.kill(os.getpid(), 9)"])
def test_a_script_needs_no_guard_and_its_processes_end_with_it(tmp_path, end):
    path = os.pathsep.join([str(Path(__file__).parents[1] / "_support"), *sys.path])
    (tmp_path / "script.py").write_text(SCRIPT.format(end=end))
    surroundings = {**os.environ, "PYTHONPATH": path}
    surroundings.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    shape, _, number = done.stdout.strip().rpartition(" ")
    assert shape == "(2,)", done.stderr
    assert done.returncode == (-signal.SIGKILL if "kill" in end else 0)
    assert "Traceback" not in done.stderr
    deadline = time.monotonic() + 5.0
    while is_alive(int(number)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_same_rows(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        for name in vars(one):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("taken", [1, 8, 17, 36, 42])
def test_collection_goes_on_from_where_it_was_taken(open_them, taken):
    (local,), (remote, again) = open_them(Corner, 1, workers=0), open_them(Corner, 2, workers=1)
    collector, expected = Collector(remote, 3), Collector(local, 3)
    rows = [collect(collector, act) for _ in range(taken)]
    assert_same_rows(rows, [collect(expected, act) for _ in range(taken)])
    position = json.loads(json.dumps(collector.position()))
    assert position == expected.position()
    episode = rows[taken - position["length"] :]
    actions = [row.actions for row in episode] or [np.zeros((0, 2))]
    # The player stands elsewhere, in mid-chunk.
    restored = Collector(again, 3)
    collect(restored, act)
    restored.restore(position, np.concatenate(actions))
    for one in (collector, restored):
        further = Collector(LocalEnv(Corner()), 3)
        further.restore(position, np.concatenate(actions))
        assert_same_rows(
            [collect(one, act) for _ in range(40)], [collect(further, act) for _ in range(40)]
        )
        assert one.position() == further.position()


def test_collectors_share_a_batched_call(open_them):
    collectors = [Collector(player, seed) for seed, player in enumerate(open_them(Corner))]
    alone = [Collector(LocalEnv(Corner()), seed) for seed in range(3)]
    for _ in range(40):
        due = [one for one in collectors if one.needs_chunk]
        for one in due:
            one.load(act(one.observation[None], one.calls)[0])
        assert_same_rows([c.take() for c in collectors], [collect(c, act) for c in alone])
    assert [one.calls for one in collectors] == [one.calls for one in alone]


def test_a_collector_names_the_episode_that_failed(open_them):
    collector = Collector(*open_them(Unstable, 1, 1), seed=3)
    collect(collector, act)
    with pytest.raises(RunError, match=r"episode 0, step 2, reset seed \d+: ValueError: the sim"):
        collect(collector, act)


def test_evaluation_in_the_background(open_them):
    expected = Evaluator(open_them(Corner, workers=0)).play(act, SEEDS)
    background = BackgroundEvaluation(open_them(Corner))
    assert background.result() is None
    background.start([(act, SEEDS), (act, SEEDS[:2])])
    first, second = background.wait(StopRequest()) or []
    assert not background.running
    assert_same(first, expected)
    assert len(second) == 2
    background.close()


def test_a_stop_or_a_cancel_leaves_an_evaluation_in_the_background(open_them):
    def slowly(observations, call):
        time.sleep(0.02)
        return act(observations, call)

    background, stop = BackgroundEvaluation(open_them(Corner)), StopRequest()
    background.start([(slowly, range(1000))])
    assert background.running
    assert background.result() is None
    threading.Timer(0.1, stop.make).start()
    with pytest.raises(Stopped):
        background.wait(stop)
    with pytest.raises(ValueError, match="in progress"):
        background.start([])
    background._cancelled.set()
    assert background.wait(StopRequest()) is None
    assert not background.running
    assert background.result() is None
    # What the players were in the middle of does not show.
    background._cancelled.clear()
    background.start([(act, SEEDS)])
    (episodes,) = background.wait(StopRequest()) or []
    assert_same(episodes, Evaluator(open_them(Corner, workers=0)).play(act, SEEDS))


def test_an_error_in_the_background_is_raised_where_it_is_asked_for(open_them):
    background = BackgroundEvaluation(open_them(Dying))
    background.start([(act, SEEDS)])
    with pytest.raises(RunError, match="killed by SIGKILL"):
        background.wait(StopRequest())
    background.close()


def test_a_hang_does_not_keep_an_evaluation_open(open_them, monkeypatch):
    monkeypatch.setattr("qamx.training.async_evaluation.CLOSE_SECONDS", 0.2)
    monkeypatch.setattr("qamx.envs.protocol.END_SECONDS", 0.2)
    background = BackgroundEvaluation(open_them(Hanging, limit=60.0))
    called = threading.Event()

    def telling(observations, call):
        if call == 1:  # both halves have their chunks: nothing is left but to wait for one
            called.set()
        return act(observations, call)

    background.start([(telling, SEEDS)])
    assert called.wait(20.0)
    background.close()
    with pytest.raises(RunError, match="killed by SIGKILL"):
        background.wait(StopRequest())


def test_ogbench_s_mazes_are_the_same_in_other_processes(open_them):
    def make():
        return OGBenchEnvironment("pointmaze-teleport-navigate", 1)

    # Its resets draw from a global random state, which each process has for itself.
    seen = []
    for workers in (0, 2):
        players, paths = open_them(make, 2, workers), []
        for player, seed in zip(players, (1, 2), strict=True):
            player.reset(seed)
        for player in players:
            paths.append(player.observation())
            player.play(np.tile(np.asarray([1.0, 0.5], np.float32), (60, 1)))
        for player in players:
            paths += [player.step().observation for _ in range(60)]
        seen.append(np.array(paths))
    np.testing.assert_array_equal(*seen)


def test_wandb_is_not_the_place_of_an_exit(monkeypatch):
    hook: dict[str, Any] = {"__name__": "wandb.hooks", "leave": sys.exit}
    exec("def leave_noted(code): leave(code)", hook)
    monkeypatch.setattr(sys, "exit", hook["leave_noted"])
    with pytest.raises(RuntimeError, match=r"called sys\.exit\(3\)") as caught, no_exit():
        sys.exit(3)
    assert caught.traceback[-1].path == Path(__file__)
