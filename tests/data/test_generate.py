"""Generated data: OGBench reads it, the same seed gives the same bytes, no file is incomplete."""

import logging
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import ogbench
import pytest
from filelock import FileLock

from qamx.data.ogbench import generate as generate_module
from qamx.data.ogbench.catalogue import dataset_names, default_directory, lookup
from qamx.data.ogbench.generate import build_behaviour, execute, generate
from qamx.data.ogbench.manipulation import (
    ManipulationBehaviour,
    accept_all,
    cube_in_sight,
    no_noise,
    noisy_actions,
)
from qamx.data.ogbench.maze import cells_at_distance, free_cells, stitch_goals, vertex_cells
from qamx.data.ogbench.rollout import EpisodeSeeds, Plan, draw_episode
from qamx.errors import UserError

MAZE = "pointmaze-medium-navigate"
# Rows an episode and, from the environments' definitions, the width of every array.
MANIPULATION = {
    "cube-double-play": (160, {"observations": 37, "actions": 5, "qpos": 28, "qvel": 26}),
    "scene-noisy": (
        150,
        {"observations": 40, "actions": 5, "qpos": 25, "qvel": 24, "button_states": 2},
    ),
    "puzzle-4x4-play": (
        100,
        {"observations": 83, "actions": 5, "qpos": 30, "qvel": 30, "button_states": 16},
    ),
}
WIDTHS = {name: widths for name, (_, widths) in MANIPULATION.items()} | {
    MAZE: {"observations": 2, "actions": 2, "qpos": 2, "qvel": 2}
}
STEPS = {name: steps for name, (steps, _) in MANIPULATION.items()} | {MAZE: 300}
DTYPES = {"terminals": np.dtype(bool), "button_states": np.dtype(np.int64)}


def short_plan(name, *, episodes=3, steps=20, shards=None, seed=0):
    return replace(Plan.of(name, episodes=episodes, shards=shards, seed=seed), steps=steps)


def make(plan, directory, *, workers=1, overwrite=False, progress=False):
    return execute(plan, directory, workers=workers, overwrite=overwrite, progress=progress)


def everything_in(directory):
    """Every file but for the locks, which stay behind."""
    files = (p for p in directory.rglob("*") if p.is_file() and p.suffix != ".lock")
    return sorted(str(p.relative_to(directory)) for p in files)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One small data set of every family: three training episodes and one for validation."""
    directory = tmp_path_factory.mktemp("data")
    return {
        name: make(short_plan(name, steps=STEPS[name]), directory) for name in (*MANIPULATION, MAZE)
    }


# ---------------------------------------------------------------- names and plans


def test_names_cover_every_family_and_say_their_size():
    names = dataset_names()
    assert len(names) == len(set(names)) == 45
    assert {"cube-octuple-noisy", "scene-play", "puzzle-4x6-noisy"} <= set(names)
    assert "pointmaze-giant-stitch" in names
    assert (lookup("cube-triple-play-v0").episodes, lookup("cube-triple-play").steps) == (
        3000,
        1001,
    )
    giant = lookup("pointmaze-giant-navigate")
    assert (giant.episodes, giant.steps) == (500, 2001)
    stitch = lookup("humanoidmaze-giant-stitch")
    assert (stitch.episodes, stitch.steps) == (10_000, 401)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"'cube-duoble-play'.*nearest.*cube-double-play"):
        lookup("cube-duoble-play")


def test_a_dribbling_ant_can_not_be_had():
    with pytest.raises(UserError, match="an expert that dribbles; download it from OGBench"):
        generate("antsoccer-arena-navigate-v0")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"shards": 0}, "shards must be at least 1, got 0"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
    ],
)
def test_numbers_out_of_range(wrong, said, tmp_path):
    with pytest.raises(UserError, match=said):
        generate(MAZE, directory=tmp_path, **wrong)
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize(("episodes", "held_out"), [(1, 1), (9, 1), (10, 1), (1000, 100)])
def test_a_tenth_more_is_held_out_and_at_least_one(episodes, held_out):
    train, held = Plan.of(MAZE, episodes=episodes, shards=None, seed=0).files
    assert (train.episodes, held.episodes) == (episodes, held_out)


def test_shards_have_a_million_transitions_unless_told_otherwise():
    name = "cube-quadruple-play"
    assert Plan.of(name, episodes=None, shards=None, seed=0).episodes == 5000
    sharded = Plan.of(name, episodes=None, shards=2, seed=0)
    assert [str(file.path) for file in sharded.files] == [
        "cube-quadruple-play-100m-v0/cube-quadruple-play-v0-000.npz",
        "cube-quadruple-play-100m-v0/cube-quadruple-play-v0-000-val.npz",
        "cube-quadruple-play-100m-v0/cube-quadruple-play-v0-001.npz",
        "cube-quadruple-play-100m-v0/cube-quadruple-play-v0-001-val.npz",
    ]
    assert [file.episodes for file in sharded.files] == [1000, 100, 1000, 100]


def test_the_directory_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("QAMX_DATA", str(tmp_path))
    assert default_directory() == tmp_path
    monkeypatch.delenv("QAMX_DATA")
    assert default_directory() == Path("~/.ogbench/data").expanduser()


def test_the_names_are_there_without_a_simulator():
    code = (
        "import sys, qamx.data.ogbench.generate, qamx.data.ogbench.catalogue as c; "
        "c.dataset_names(); "
        "print({'jax', 'mujoco', 'gymnasium', 'ogbench', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize("name", [*MANIPULATION, MAZE])
def test_arrays_are_those_of_ogbench(made, name):
    for path, episodes in zip(made[name], (3, 1), strict=True):
        arrays = dict(np.load(path))
        rows = episodes * STEPS[name]
        assert {key: value.shape for key, value in arrays.items()} == {
            key: (rows, width) for key, width in WIDTHS[name].items()
        } | {"terminals": (rows,)}
        for key, value in arrays.items():
            assert value.dtype == DTYPES.get(key, np.dtype(np.float32)), key
        assert list(arrays)[:5] == ["observations", "actions", "terminals", "qpos", "qvel"]
        ends = np.flatnonzero(arrays["terminals"])
        np.testing.assert_array_equal(ends, np.arange(1, episodes + 1) * STEPS[name] - 1)
        assert np.abs(arrays["actions"]).max() <= 1.0
        assert all(np.isfinite(value).all() for value in arrays.values())


@pytest.mark.parametrize(
    ("name", "task"),
    [
        (MAZE, f"{MAZE}-v0"),
        (MAZE, f"{MAZE}-singletask-task2-v0"),
        ("cube-double-play", "cube-double-play-singletask-task2-v0"),
        ("scene-noisy", "scene-noisy-singletask-v0"),
        ("puzzle-4x4-play", "puzzle-4x4-play-singletask-task4-v0"),
    ],
)
def test_ogbench_loads_them(made, name, task):
    loaded: Any = ogbench.make_env_and_datasets(task, dataset_dir=str(made[name][0].parent))
    _, train, held_out = loaded
    for dataset, episodes in ((train, 3), (held_out, 1)):
        transitions = episodes * (STEPS[name] - 1)
        assert all(len(values) == transitions for values in dataset.values())
        within = dataset["terminals"][:-1] == 0.0
        np.testing.assert_array_equal(
            dataset["next_observations"][:-1][within], dataset["observations"][1:][within]
        )
        assert ("rewards" in dataset) == ("singletask" in task)


def test_rows_are_from_before_the_action(made):
    for name in MANIPULATION:
        arrays = np.load(made[name][0])
        np.testing.assert_array_equal(arrays["observations"][:, :6], arrays["qpos"][:, :6])
    arrays = np.load(made["puzzle-4x4-play"][0])
    lights = arrays["observations"][:, 19:].reshape(-1, 16, 4)[:, :, :2]
    np.testing.assert_array_equal(lights, np.eye(2)[arrays["button_states"]])
    arrays = np.load(made[MAZE][0])
    np.testing.assert_array_equal(arrays["observations"], arrays["qpos"])


def test_the_oracles_do_their_work(made):
    cubes = np.load(made["cube-double-play"][0])["qpos"][:, [16, 23]]
    assert cubes.max() > 0.08  # metres: a cube that lies on the table has its centre at 0.02
    puzzle = np.load(made["puzzle-4x4-play"][0])
    presses = (np.diff(puzzle["button_states"], axis=0) != 0).any(axis=1)
    assert presses.sum() >= 6
    opening = puzzle["observations"].reshape(3, 100, -1)[:, 20:, 17]
    assert opening.min() > 2.0  # the puzzle's gripper stays closed, which is 3


# ---------------------------------------------------------------- the same seed, the same bytes


def test_bytes_depend_on_neither_workers_nor_time(made, tmp_path):
    plan = short_plan("scene-noisy", steps=STEPS["scene-noisy"])
    again = make(plan, tmp_path, workers=2)
    for path, twin in zip(made["scene-noisy"], again, strict=True):
        assert path.read_bytes() == twin.read_bytes()


@pytest.mark.parametrize("name", ["scene-noisy", "cube-double-play", MAZE])
def test_an_episode_does_not_depend_on_those_before_it(made, name):
    arrays = np.load(made[name][0])
    plan = short_plan(name, steps=STEPS[name])
    behaviour = build_behaviour(plan.dataset)
    for index in (2, 0):
        episode = draw_episode(behaviour, plan.files[0], index)
        rows = slice(index * plan.steps, (index + 1) * plan.steps)
        for key, values in episode.items():
            np.testing.assert_array_equal(values, arrays[key][rows], err_msg=f"{key} of {index}")


def test_seeds_shards_and_splits_differ(tmp_path):
    first = make(short_plan(MAZE, shards=2), tmp_path / "0")
    other = make(short_plan(MAZE, shards=2, seed=1), tmp_path / "1")
    starts = {tuple(np.load(path)["observations"][0]) for path in [*first, *other]}
    assert len(starts) == 8


def test_the_callers_random_state_is_left_alone(tmp_path):
    np.random.seed(5)
    expected = np.random.RandomState(5).uniform(size=3)
    make(short_plan(MAZE), tmp_path)
    np.testing.assert_array_equal(np.random.uniform(size=3), expected)


class SecondTime:
    """Plays a random row, and accepts only what follows after a first attempt."""

    def __init__(self):
        self.played = []

    def play(self, seeds, steps):
        self.played.append(seeds.generator.uniform())
        yield {"observations": np.array([self.played[-1]])}

    def accepts(self, episode, /):
        return len(self.played) % 2 == 0


def test_a_refused_episode_is_drawn_again():
    behaviour, file = SecondTime(), short_plan(MAZE).files[0]
    twice = [draw_episode(behaviour, file, 7)["observations"] for _ in range(2)]
    assert behaviour.played[0] != behaviour.played[1]
    np.testing.assert_array_equal(twice[0], twice[1])
    assert twice[0][0, 0] == np.float32(behaviour.played[1])


# ---------------------------------------------------------------- what is there already


def test_an_interruption_leaves_whole_files_only_and_is_made_up_for(monkeypatch, tmp_path):
    plan = short_plan(MAZE, shards=2)

    def interrupted(behaviour, file, index):
        if (file.shard, index) == (1, 2):
            raise KeyboardInterrupt
        return draw_episode(behaviour, file, index)

    monkeypatch.setattr(generate_module, "draw_episode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(plan, tmp_path)
    folder = f"{MAZE}-100m-v0"
    done = [f"{folder}/{MAZE}-v0-000-val.npz", f"{folder}/{MAZE}-v0-000.npz"]
    assert everything_in(tmp_path) == done
    monkeypatch.undo()

    times = {name: (tmp_path / name).stat().st_mtime_ns for name in done}
    resumed = make(plan, tmp_path)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in done} == times
    at_once = make(plan, tmp_path / "elsewhere")
    assert [p.read_bytes() for p in resumed] == [p.read_bytes() for p in at_once]


def test_a_set_is_made_by_one_process_at_a_time(made, tmp_path, monkeypatch):
    plan = short_plan(MAZE, steps=STEPS[MAZE])
    monkeypatch.setattr(generate_module, "_make", lambda *_: pytest.fail("made twice"))
    with ThreadPoolExecutor(1) as other:
        with FileLock(tmp_path / f".{MAZE}.lock"):  # a process that makes it
            second = other.submit(make, plan, tmp_path)
            with pytest.raises(TimeoutError):
                second.result(0.3)
            for path in made[MAZE]:
                shutil.copy2(path, tmp_path)
        assert [p.name for p in second.result(30)] == [p.name for p in made[MAZE]]


def test_a_failing_disk_leaves_no_file(monkeypatch, tmp_path):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(UserError, match="No space left on device"):
        make(short_plan(MAZE), tmp_path)
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("other", [{"seed": 1}, {"episodes": 4}, {"steps": 21}])
def test_another_plans_file_is_kept_unless_told_to_overwrite(tmp_path, other):
    train, _ = make(short_plan(MAZE), tmp_path)
    before = train.read_bytes()
    with pytest.raises(UserError, match=rf"{train}.*generated from.*another directory"):
        make(short_plan(MAZE, **other), tmp_path)
    assert train.read_bytes() == before
    make(short_plan(MAZE, **other), tmp_path, overwrite=True)
    assert train.read_bytes() != before


@pytest.mark.parametrize("content", ["an npz of another origin", "no npz at all"])
def test_foreign_files_are_kept(tmp_path, content):
    path = tmp_path / f"{MAZE}-v0.npz"
    if content == "no npz at all":
        path.write_bytes(b"")
    else:
        np.savez(path, observations=np.zeros(3))
    before = path.read_bytes()
    with pytest.raises(UserError, match="wasn't generated here"):
        generate(MAZE, episodes=1, directory=tmp_path)
    assert path.read_bytes() == before


def test_a_directory_that_is_a_file(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match=f"{tmp_path}/data: can't be made"):
        generate(MAZE, episodes=1, directory=tmp_path / "data")


def test_progress_names_the_files_and_can_be_silent(tmp_path, caplog):
    caplog.set_level(logging.INFO, "qamx")
    plan = short_plan(MAZE, episodes=20)
    train, held_out = make(plan, tmp_path, progress=True)
    assert f"{train}: 380 transitions" in caplog.text
    assert f"{held_out}: 38 transitions" in caplog.text
    caplog.clear()
    make(plan, tmp_path, progress=True)
    assert "2 files are there already" in caplog.text
    caplog.clear()
    make(plan, tmp_path, overwrite=True)
    assert caplog.messages == []


# ---------------------------------------------------------------- the mazes


def test_paths_in_a_maze_never_jump(made):
    path = np.load(made[MAZE][0])["observations"].reshape(3, STEPS[MAZE], 2)
    lengths = np.linalg.norm(np.diff(path, axis=1), axis=-1)
    # An action moves the point 0.2 along each axis at most; a wall pushes it back a little.
    assert lengths.max() < 0.2 * np.sqrt(2.0) + 0.05
    assert lengths.mean() > 0.15


def test_stored_actions_replay_the_stored_path(made):
    arrays = np.load(made[MAZE][0])
    steps = STEPS[MAZE]
    env = gymnasium.make("pointmaze-medium-v0", terminate_at_goal=False)
    env.reset(seed=0)
    point: Any = env.unwrapped
    point.set_state(arrays["qpos"][0].astype(float), arrays["qvel"][0].astype(float))
    for step in range(steps - 1):
        observation = env.step(arrays["actions"][step])[0]
        np.testing.assert_allclose(observation, arrays["observations"][step + 1], atol=1e-4)


@pytest.fixture(scope="module")
def grid():
    return np.array(
        [
            [1, 1, 1, 1, 1, 1],
            [1, 0, 0, 0, 0, 1],
            [1, 0, 1, 1, 0, 1],
            [1, 0, 1, 0, 0, 1],
            [1, 1, 1, 1, 1, 1],
        ]
    )


def test_vertices_are_the_cells_that_are_no_corridor(grid):
    corridors = {(1, 2), (1, 3), (2, 1), (2, 4)}
    assert set(free_cells(grid)) - set(vertex_cells(grid)) == corridors
    assert vertex_cells(grid) == [(1, 1), (1, 4), (3, 1), (3, 3), (3, 4)]


def test_distances_follow_the_ways(grid):
    assert cells_at_distance(grid, (3, 1), 0) == [(3, 1)]
    assert cells_at_distance(grid, (1, 1), 2) == [(3, 1), (1, 3)]
    assert cells_at_distance(grid, (3, 1), 4) == [(1, 3)]
    assert cells_at_distance(grid, (3, 1), 9) == []


def test_a_stitch_goal_is_four_moves_away_or_at_the_start(grid):
    generator = np.random.default_rng(0)
    goals = stitch_goals(grid)
    assert goals.first((3, 1), generator) == (1, 3)
    assert goals.first((2, 1), generator) == (1, 4)
    room = np.pad(np.zeros((2, 2), int), 1, constant_values=1)
    assert stitch_goals(room).first((1, 2), generator) == (1, 2)
    assert goals.after_success(generator) is None


@pytest.mark.parametrize("name", ["pointmaze-medium-stitch", MAZE])
def test_stitch_stays_where_navigate_goes_on(name):
    dataset = lookup(name)
    file = Plan.of(name, episodes=3, shards=None, seed=0).files[0]
    behaviour = build_behaviour(dataset)
    maze: Any = gymnasium.make(f"{dataset.environment}-v0").unwrapped
    for index in range(3):
        path = draw_episode(behaviour, file, index)["observations"]
        cells = [maze.xy_to_ij(xy) for xy in path]
        assert all(maze.maze_map[cell] == 0 for cell in cells)
        if dataset.behaviour == "stitch":
            assert cells[-1] in cells_at_distance(maze.maze_map, cells[0], 4)
        else:
            assert len(set(cells)) > 8


# ---------------------------------------------------------------- the robot arm


def test_the_plan_oracles_action_is_only_clipped():
    act = no_noise(np.random.default_rng(0))
    np.testing.assert_allclose(act(lambda: np.array([0.3, -2.0])), [0.3, -1.0])


def test_noise_has_its_shape_and_random_actions_their_share():
    asked = []

    def ask():
        asked.append(1)
        return np.zeros(5)

    act = noisy_actions(random_action=0.0)(np.random.default_rng(1))
    deviations = np.std([act(ask) for _ in range(4000)], axis=0)
    np.testing.assert_allclose(deviations[:4] / deviations[0], [1, 1, 1, 3], rtol=0.1)
    assert len(asked) == 4000

    asked.clear()
    act = noisy_actions(random_action=0.2)(np.random.default_rng(2))
    actions = np.array([act(ask) for _ in range(10_000)])
    assert np.abs(actions).max() <= 1.0
    # Binomial, standard deviation 40: four of them either way.
    assert abs(len(asked) - 8000) < 160


def test_an_episodes_noise_is_uniform_up_to_a_tenth():
    noisy = noisy_actions(random_action=0.0)
    levels = []
    for seed in range(300):
        act = noisy(np.random.default_rng(seed))
        levels.append(np.std([act(lambda: np.zeros(5))[:3] for _ in range(100)]))
    # A uniform law on [0, 0.1] has mean 0.05 and standard deviation 0.029.
    assert np.mean(levels) == pytest.approx(0.05, abs=4 * 0.029 / np.sqrt(300))
    assert 0.09 < max(levels) < 0.12


class Retargeted:
    """An environment and its oracle in one: done at every second step, it notes what it sees."""

    def __init__(self):
        self.unwrapped = self
        self.done = False
        self.target = 0
        self.seen = []

    def reset(self, *args, **kwargs):
        return np.zeros(1), self._info()

    def step(self, action):
        self.done = len(self.seen) % 2 == 0
        return np.zeros(1), 0.0, False, False, self._info()

    def set_new_target(self, p_stack):
        assert 0.25 <= p_stack <= 0.5
        self.target += 1
        return np.zeros(1), self._info()

    def select_action(self, observation, info):
        self.seen.append(info["target"])
        return np.zeros(5)

    def _info(self):
        still = {"prev_qpos": np.zeros(1), "prev_qvel": np.zeros(1)}
        return {"privileged/target_task": "cube", "target": self.target, **still}


def test_an_oracle_sees_its_own_target_from_its_first_action():
    both = Retargeted()
    behaviour = ManipulationBehaviour(both, {"cube": both}, no_noise, (0.25, 0.5), accept_all)
    seeds = EpisodeSeeds(environment=0, generator=np.random.default_rng(0))
    assert len(list(behaviour.play(seeds, 6))) == 6
    assert both.seen == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("y", "z", "kept"),
    [
        (0.0, 0.02, True),
        (0.28, 0.02, True),
        (0.29, 0.02, False),
        (-0.29, 0.02, True),
        (-0.3, 0.02, False),
        (-0.3, 0.07, True),
        (-0.3, 0.09, False),
    ],
)
def test_a_scene_is_drawn_again_when_its_cube_is_out_of_sight(y, z, kept):
    qpos = np.zeros((4, 25), np.float32)
    qpos[:, 16] = 0.02
    qpos[2, 14:17] = (0.4, y, z)
    assert cube_in_sight({"qpos": qpos}) == kept
