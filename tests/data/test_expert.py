"""Experts: trained and resumed as any run, exported as arrays, and walking in OGBench's mazes."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import equinox as eqx
import gymnasium
import jax
import numpy as np
import ogbench
import pytest

from qamx import load_agent, run
from qamx.cli import main
from qamx.config import load
from qamx.data.ogbench.catalogue import lookup
from qamx.data.ogbench.dataset import OGBenchData
from qamx.data.ogbench.expert import SIZES, expert_path, read_expert, write_expert
from qamx.data.ogbench.generate import build_behaviour, execute, generate
from qamx.data.ogbench.maze import (
    MazeBehaviour,
    OracleDirection,
    RandomDirection,
    stitch_goals,
    vertex_cells,
)
from qamx.data.ogbench.rollout import Plan, draw_episode, read_stamp, seeded
from qamx.data.source import RandomSteps
from qamx.envs import WalkEnvironment
from qamx.errors import ExitCode, UserError
from qamx.tools import train_expert as training_module
from qamx.tools.train_expert import recipe, train_expert

TINY = [
    "data.steps=60",
    "agent.actor_hidden=[8, 8]",
    "agent.critic_hidden=[8]",
    "agent.batch_size=8",
    "agent.learning_rate=1e-3",
    "evaluation.every=1000",
    "evaluation.episodes=1",
    "evaluation.environments=1",
    "evaluation.workers=0",
    "checkpoint.every=30",
    "logging.every=30",
]
STEPS = 60


@pytest.fixture(scope="module", autouse=True)
def quick():
    """One episode is enough to say how far a bad expert goes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_module, "EPISODES", 1)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A data directory with an ant's expert, trained without interruption."""
    directory = tmp_path_factory.mktemp("data")
    command = ["data", "expert", "ant", "--directory", str(directory), "--steps", "150"]
    assert main([*command, "--set", *TINY]) == ExitCode.DONE
    return directory


def random_layers(walker, seed=0, width=8):
    rng = np.random.default_rng(seed)
    sizes = [SIZES[walker][0], width, SIZES[walker][1]]
    return [
        (rng.normal(0, 0.3, (a, b)).astype(np.float32), rng.normal(size=b).astype(np.float32))
        for a, b in pairwise(sizes)
    ]


def put_expert(directory, walker, seed=0):
    path = expert_path(walker, directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_expert(path, random_layers(walker, seed), {"walker": walker})
    return read_expert(path, walker)


def short_plan(name, *, episodes=2, steps=STEPS):
    return replace(Plan.of(name, episodes=episodes, shards=None, seed=0), steps=steps)


def make(plan, directory, workers=1):
    return execute(plan, directory, workers=workers, overwrite=False, progress=False)


# ---------------------------------------------------------------- the task


@pytest.mark.parametrize("walker", ["ant", "humanoid"])
def test_a_walk_is_a_function_of_its_seed_and_actions(walker):
    env = WalkEnvironment(walker)
    assert (env.observation_size, env.action_size) == SIZES[walker]
    actions = np.random.default_rng(1).uniform(-1, 1, (110, env.action_size))

    def played(seed):
        yield env.reset(seed)
        for action in actions:
            step = env.step(action)
            yield np.append(step.observation, step.reward)

    np.random.seed(3)
    expected = np.random.RandomState(3).uniform(size=2)
    first = list(played(7))
    list(played(8))
    for one, other in zip(first, played(7), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.random.uniform(size=2), expected)


def test_an_ant_is_rewarded_for_the_way_in_its_direction():
    env, rng = WalkEnvironment("ant"), np.random.default_rng(0)
    observation, directions = env.reset(0), []
    inner: Any = env._env.unwrapped
    for _ in range(205):
        before = inner.data.qpos[:2].copy()
        step = env.step(rng.uniform(-1, 1, 8))
        directions.append(observation[-2:])
        way = (inner.data.qpos[:2] - before) @ directions[-1]
        assert step.reward == pytest.approx(way, abs=1e-6)
        assert step.success == (step.reward > 0)
        observation = step.observation
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0, rtol=1e-6)
    # Another direction from the hundredth step on, and from the two hundredth.
    assert [len(set(map(tuple, directions[i : i + 100]))) for i in (0, 100, 200)] == [1, 1, 1]
    assert len(set(map(tuple, directions))) == 3


def test_learning_begins_with_random_steps():
    data, again = (RandomSteps("ant", 40).load(0) for _ in range(2))
    assert (len(data), data.observations.shape, data.actions.shape) == (40, (40, 29), (40, 8))
    for one, other in zip(jax.tree.leaves(data), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(data.observations[1:], data.next_observations[:-1])
    assert np.abs(data.actions).max() > 0.99
    assert len(np.unique(np.asarray(data.actions))) == 40 * 8


def test_the_recipes_are_those_of_ogbench():
    ant, humanoid = (load(recipe(walker)) for walker in ("ant", "humanoid"))
    steps = [
        one.to_dict()["data"]["steps"] + one.to_dict()["schedule"]["online_steps"]
        for one in (ant, humanoid)
    ]
    assert steps == [400_000, 40_000_000]
    assert (ant.agent.actor_hidden, humanoid.agent.critic_hidden) == ((256, 256), (1024,) * 3)
    # The mean of two critics less their deviation is the smaller one.
    assert (ant.agent.ensemble_size, ant.agent.pessimism, humanoid.agent.pessimism) == (2, 1.0, 0.0)
    assert humanoid.to_dict()["schedule"]["updates_per_step"] == 0.25


# ---------------------------------------------------------------- training


def test_a_resumed_training_gives_the_same_expert(trained, tmp_path):
    experts = tmp_path / "experts"
    short = load(recipe("ant"), [*TINY, "schedule.online_steps=47"])
    assert run(short, experts / "ant") == ExitCode.DONE
    assert not (experts / "ant.npz").exists()
    with pytest.raises(UserError, match=r"batch_size: 8 there, 9 here(.|\n)*with --directory"):
        train_expert("ant", tmp_path, steps=150, overrides=[*TINY, "agent.batch_size=9"])
    assert train_expert("ant", tmp_path, steps=150, overrides=TINY) == ExitCode.DONE
    assert (experts / "ant.npz").read_bytes() == expert_path("ant", trained).read_bytes()


def test_the_exported_actor_is_the_trained_one(trained):
    expert = read_expert(expert_path("ant", trained), "ant")
    actor = eqx.filter_jit(load_agent(trained / "experts" / "ant").policy.clone)
    observations = np.random.default_rng(0).normal(0, 3, (20, 29)).astype(np.float32)
    mean = np.tanh(np.asarray(actor(observations).mean))
    ours = np.stack([expert.act(observation) for observation in observations])
    np.testing.assert_allclose(ours, mean, rtol=1e-4, atol=1e-5)
    assert np.abs(ours).max() < 1.0
    assert ours.std(axis=0).min() > 1e-3


def test_a_finished_training_is_not_repeated(trained, monkeypatch, capsys):
    monkeypatch.delattr(training_module, "run")
    before = expert_path("ant", trained).read_bytes()
    assert train_expert("ant", trained, steps=150, overrides=TINY) == ExitCode.DONE
    assert expert_path("ant", trained).read_bytes() == before
    assert read_expert(expert_path("ant", trained), "ant").sha256 in capsys.readouterr().out


def test_a_stopped_training_exports_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(training_module, "run", lambda experiment, directory: ExitCode.INTERRUPTED)
    assert train_expert("ant", tmp_path) == ExitCode.INTERRUPTED
    assert list(tmp_path.iterdir()) == []


def test_another_expert_is_not_replaced(trained):
    with pytest.raises(UserError, match=r"ant.npz: an expert from another seed.*move it away"):
        train_expert("ant", trained, steps=150, seed=1, overrides=TINY)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "60", "--set", *TINY], "--steps: found 60, and the first 60 steps are random"),
        (["--set", "environment.id=walk:cat"], 'found "walk:cat"; did you mean "ant"?'),
        (["--set", "data.source=walk:humanoid"], 'write "walk:ant"'),
    ],
)
def test_wrong_arguments_are_answered(arguments, said, tmp_path, capsys):
    assert main(["data", "expert", "ant", "--directory", str(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the data


@pytest.mark.parametrize("name", ["antmaze-medium-navigate", "antmaze-medium-stitch"])
def test_an_expert_makes_the_same_bytes_in_one_process_and_in_two(trained, tmp_path, name):
    alone = make(short_plan(name), trained)
    (tmp_path / "experts").mkdir()
    source = expert_path("ant", trained)
    expert_path("ant", tmp_path).write_bytes(source.read_bytes())
    for one, other in zip(alone, make(short_plan(name), tmp_path, workers=2), strict=True):
        assert one.read_bytes() == other.read_bytes()
        stamp = read_stamp(one)
        assert stamp is not None
        assert stamp["expert"] == read_expert(source, "ant").sha256
    arrays = np.load(alone[0])
    assert {key: value.shape for key, value in arrays.items()} == {
        "observations": (2 * STEPS, 29),
        "actions": (2 * STEPS, 8),
        "terminals": (2 * STEPS,),
        "qpos": (2 * STEPS, 15),
        "qvel": (2 * STEPS, 14),
    }
    np.testing.assert_array_equal(
        arrays["observations"], np.hstack([arrays["qpos"], arrays["qvel"]])
    )


def test_ogbench_reads_and_relabels_what_an_expert_made(trained):
    train, _ = make(short_plan("antmaze-medium-navigate"), trained)
    task = "antmaze-medium-navigate-singletask-task2-v0"
    loaded: Any = ogbench.make_env_and_datasets(task, dataset_dir=str(trained))
    env, theirs, _ = loaded
    assert len(theirs["rewards"]) == 2 * (STEPS - 1)
    distances = np.linalg.norm(theirs["observations"][:, :2] - env.unwrapped.cur_goal_xy, axis=1)
    np.testing.assert_array_equal(theirs["rewards"], np.where(distances <= 0.5, 0.0, -1.0))
    ours = OGBenchData("antmaze-medium-navigate", 2, "default", [train]).load(0)
    np.testing.assert_array_equal(ours.rewards, theirs["rewards"])
    np.testing.assert_array_equal(ours.masks, theirs["masks"])


@pytest.mark.parametrize(
    ("walker", "name"),
    [("ant", "antmaze-teleport-explore"), ("humanoid", "humanoidmaze-medium-stitch")],
)
def test_an_episode_does_not_depend_on_those_before_it(tmp_path, walker, name):
    expert = put_expert(tmp_path, walker)
    plan = short_plan(name, steps=12)
    train, _ = make(plan, tmp_path)
    arrays = np.load(train)
    # A direction takes the place of the position.
    assert (arrays["observations"].shape[1], arrays["actions"].shape[1]) == SIZES[walker]
    walk = build_behaviour(plan.dataset, expert)
    for index in (1, 0, 1):
        for key, values in draw_episode(walk, plan.files[0], index).items():
            rows = slice(index * plan.steps, (index + 1) * plan.steps)
            np.testing.assert_array_equal(values, arrays[key][rows], err_msg=f"{key} of {index}")


class Recorder:
    """Remembers what it sees, and does nothing."""

    def __init__(self):
        self.seen = []

    def act(self, observation):
        self.seen.append(observation)
        return np.zeros(8, np.float32)


def test_an_expert_sees_the_walker_without_its_place_and_the_way_to_the_next_cell():
    env = gymnasium.make("ogbench.locomaze:antmaze-medium-v0", terminate_at_goal=False)
    maze: Any = env.unwrapped
    expert: Any = Recorder()
    walk = MazeBehaviour(env, stitch_goals(maze.maze_map), OracleDirection(), expert, 0.2)
    with seeded(np.random.SeedSequence(0)) as seeds:
        rows = list(walk.play(seeds, 40))
    noise = np.array([row["actions"] for row in rows])
    assert 0.15 < noise.std() < 0.25
    for row, seen in zip(rows, expert.seen, strict=True):
        np.testing.assert_array_equal(seen[:-2], row["observations"][2:])
        subgoal, _ = maze.get_oracle_subgoal(row["observations"][:2], maze.cur_goal_xy)
        way = subgoal - row["observations"][:2]
        np.testing.assert_allclose(seen[-2:], way / np.linalg.norm(way), rtol=1e-5)


def test_exploring_goes_ten_steps_in_each_of_many_directions():
    generator, ways = np.random.default_rng(0), RandomDirection()
    found = [tuple(ways.direction(None, step, generator)) for step in range(300)]
    assert [len(set(found[i : i + 10])) for i in range(0, 300, 10)] == [1] * 30
    assert len(set(found)) == 30
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-4)
    assert np.linalg.norm(np.mean(found, axis=0)) < 0.4


def test_exploring_is_noisy_and_has_no_goal_after_the_first(tmp_path):
    expert = put_expert(tmp_path, "ant")
    dataset = lookup("antmaze-teleport-explore")
    assert (dataset.episodes, dataset.steps) == (10_000, 501)
    explorer: Any = build_behaviour(dataset, expert)
    assert isinstance(explorer.directions, RandomDirection)
    assert explorer.noise == 1.0
    generator, maze = np.random.default_rng(0), explorer.environment.unwrapped.maze_map
    drawn = {explorer.goals.first((1, 1), generator) for _ in range(1000)}
    assert drawn == set(vertex_cells(maze))
    assert explorer.goals.after_success(generator) is None


# ---------------------------------------------------------------- what can be wrong


def test_a_missing_expert_is_answered_with_the_command(tmp_path, capsys):
    place = tmp_path / "none"
    command = ["data", "generate", "antmaze-large-navigate", "--directory", str(place)]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert f"{place}/experts/ant.npz: missing, and antmaze-large-navigate needs" in said
    assert f"qamx data expert ant --directory {place}" in said
    assert not place.exists()


def test_the_default_directory_s_expert_serves_all(tmp_path, monkeypatch):
    monkeypatch.setenv("QAMX_DATA", str(tmp_path / "default"))
    expert = put_expert(tmp_path / "default", "ant")
    train, _ = make(short_plan("antmaze-medium-stitch", episodes=1, steps=3), tmp_path / "other")
    stamp = read_stamp(train)
    assert stamp is not None
    assert stamp["expert"] == expert.sha256


def test_data_of_another_expert_are_kept_and_need_no_expert_to_be_there(tmp_path):
    put_expert(tmp_path, "ant")
    plan = short_plan("antmaze-medium-stitch", episodes=1, steps=3)
    train, _ = make(plan, tmp_path)
    before = train.read_bytes()
    put_expert(tmp_path, "ant", seed=1)
    with pytest.raises(
        UserError, match=r"was generated from .*expert ([0-9a-f]{64}).* not from .*expert (?!\1)"
    ):
        make(plan, tmp_path)
    expert_path("ant", tmp_path).unlink()
    make(plan, tmp_path)
    assert train.read_bytes() == before
    with pytest.raises(UserError, match="was generated from"):
        make(replace(plan, seed=1), tmp_path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda layers: [], "it holds no array kernel_0"),
        (lambda layers: layers[1:], r"kernel_0 and bias_0 are of shapes \(8, 8\) and \(8,\)"),
        (lambda layers: [(k * np.float32(np.nan), b) for k, b in layers], "isn't finite"),
        (lambda layers: [(k.astype(float), b) for k, b in layers], "float32"),
    ],
)
def test_a_file_that_is_no_expert_is_refused(tmp_path, spoil, said):
    path = expert_path("ant", tmp_path)
    path.parent.mkdir()
    write_expert(path, spoil(random_layers("ant")), {})
    with pytest.raises(UserError, match=rf"ant.npz: not a policy of the ant .*{said}"):
        generate("antmaze-medium-stitch", directory=tmp_path)


def test_a_cut_file_is_refused(tmp_path):
    put_expert(tmp_path, "ant")
    path = expert_path("ant", tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"delete it and train another: qamx data expert ant"):
        read_expert(path, "ant")


def test_walking_in_a_maze_needs_no_jax(tmp_path):
    put_expert(tmp_path, "ant")
    code = f"""
import sys
from pathlib import Path
from qamx.data.ogbench.expert import find_expert
from qamx.data.ogbench.generate import build_behaviour
from qamx.data.ogbench.rollout import Plan, draw_episode
plan = Plan.of("antmaze-medium-stitch", episodes=1, shards=None, seed=0)
behaviour = build_behaviour(plan.dataset, find_expert("ant", Path({str(tmp_path)!r})))
print(len(draw_episode(behaviour, plan.files[0], 0)["actions"]), "jax" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["201", "False"]
