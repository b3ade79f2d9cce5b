"""Real OGBench environments and data sets through our interface."""

import subprocess
import sys
from typing import Any

import numpy as np
import ogbench
import pytest

from qamx.data.ogbench.dataset import OGBenchData, find_files
from qamx.data.ogbench.generate import generate
from qamx.data.source import ValidatedData
from qamx.envs import ActionQueue, OGBenchEnvironment
from qamx.envs.ogbench import Reward
from qamx.errors import UserError


def play(env, seed, steps=20):
    rng = np.random.default_rng(0)
    seen = [env.reset(seed)]
    for _ in range(steps):
        seen.append(env.step(rng.uniform(-1, 1, env.action_size).astype(np.float32)).observation)
    return np.array(seen)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("pointmaze-medium-navigate", (2, 2)),
        ("antmaze-large-navigate", (29, 8)),
        ("humanoidmaze-medium-navigate", (69, 21)),
        ("cube-quadruple-play", (55, 5)),
        ("puzzle-3x3-play", (55, 5)),
        ("scene-play", (40, 5)),
    ],
)
def test_an_episode_is_a_function_of_its_seed_and_actions(name, sizes):
    env = OGBenchEnvironment(name, 1)
    assert (env.observation_size, env.action_size) == sizes
    first = play(env, 7)
    play(env, 8)
    np.random.seed(3)
    np.testing.assert_array_equal(play(env, 7), first)
    # The global random state is as before: other users of it are not disturbed.
    undisturbed = np.random.RandomState(3).uniform()
    assert np.random.uniform() == undisturbed
    env.close()


def test_teleports_are_a_function_of_the_seed_too():
    # Their exits are drawn in mid-episode, from NumPy's global random state.
    env = OGBenchEnvironment("pointmaze-teleport-navigate", 1)
    paths = []
    for disturbance in (0, 1):
        np.random.seed(disturbance)
        env.reset(5)
        env._env.unwrapped.set_xy(np.array(env._env.unwrapped.ij_to_xy((4, 6))))
        paths.append([env.step(np.zeros(2, np.float32)).observation for _ in range(3)])
    np.testing.assert_array_equal(paths[0], paths[1])
    assert np.abs(paths[0][-1] - env._env.unwrapped.ij_to_xy((4, 6))).max() > 2


@pytest.mark.parametrize("name", ["cube-double-play", "pointmaze-medium-navigate"])
def test_acting_needs_no_rendering(name):
    # A process without a display, EGL or OSMesa, as on a cluster's node; no warning either.
    script = f"""
import os, sys
os.environ.pop("DISPLAY", None)
os.environ.pop("MUJOCO_GL", None)
sys.modules["OpenGL"] = None
import numpy as np
from qamx.envs import OGBenchEnvironment
env = OGBenchEnvironment({name!r}, 1)
print(env.reset(0).shape, env.step(np.zeros(env.action_size)).success)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "False" in done.stdout
    assert "warn" not in done.stderr.lower()


def test_rewards_of_the_default_and_the_sparse_kind():
    default, sparse = (OGBenchEnvironment("scene-play", 2, kind) for kind in ("default", "sparse"))
    default.reset(0)
    sparse.reset(0)
    still = np.zeros(5, np.float32)
    rewards = [env.step(still) for env in (default, sparse)]
    assert rewards[0].reward < -1.0
    assert rewards[1].reward == -1.0
    assert not rewards[1].success


def test_a_chunk_is_played_whole():
    executor = ActionQueue(2)
    assert executor.needs_chunk
    executor.load(np.arange(6))
    np.testing.assert_array_equal(executor.pop(), [0, 1])
    np.testing.assert_array_equal(executor.pop(), [2, 3])
    assert not executor.needs_chunk
    executor.drop()
    assert executor.needs_chunk


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in ("puzzle-3x3-play", "pointmaze-medium-navigate"):
        generate(name, episodes=2, directory=folder, workers=1, progress=False)
    return folder


@pytest.mark.parametrize("name", ["puzzle-3x3-play", "pointmaze-medium-navigate"])
def test_transitions_equal_ogbench_s_own_relabelling(folder, name):
    task = f"{name}-singletask-task1-v0"
    made: Any = ogbench.make_env_and_datasets(task, dataset_dir=str(folder))
    _, theirs, apart = made
    files = find_files(f"{name}-v0", folder)
    ours = ValidatedData(OGBenchData(name, 1, "default", files), name, 5).load(0)
    np.testing.assert_array_equal(ours.observations, theirs["observations"])
    np.testing.assert_array_equal(ours.next_observations, theirs["next_observations"])
    np.testing.assert_array_equal(ours.rewards, theirs["rewards"])
    np.testing.assert_array_equal(ours.masks, theirs["masks"])
    np.testing.assert_array_equal(ours.ends, theirs["terminals"])
    np.testing.assert_allclose(ours.actions, theirs["actions"], atol=1.1e-5)
    assert np.abs(ours.actions).max() <= 1 - 1e-5
    validation = OGBenchData(name, 1, "default", files).load_validation()
    assert validation is not None
    np.testing.assert_array_equal(validation.observations, apart["observations"])
    np.testing.assert_array_equal(validation.rewards, apart["rewards"])
    sparse = OGBenchData(name, 1, "sparse", files).load(0)
    np.testing.assert_array_equal(sparse.rewards, np.where(theirs["rewards"] != 0, -1, 0))


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setenv("QAMX_MIRROR", "http://127.0.0.1:9")  # a port that nothing listens on


@pytest.mark.usefixtures("no_network")
def test_a_missing_set_names_the_command_that_makes_it(folder):
    with pytest.raises(UserError, match="qamx data generate cube-double-play --directory"):
        find_files("cube-double-play-v0", folder)
    with pytest.raises(UserError, match=r"generate cube-quadruple-play .*--shards 100"):
        find_files("cube-quadruple-play-100m-v0", folder)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("name", "sharded"),
    [("antmaze-large-navigate-v0", False), ("antmaze-giant-navigate-100m-v0", True)],
)
def test_an_expert_s_set_names_the_training_that_comes_first(folder, name, sharded):
    bare = name.removesuffix("-v0").removesuffix("-100m")
    with pytest.raises(UserError) as caught:
        find_files(name, folder)
    assert f"""
  qamx data expert ant --directory {folder}
  qamx data generate {bare} --directory {folder}""" in str(caught.value)
    assert str(caught.value).endswith("--shards 100") == sharded


@pytest.fixture
def three_shards(tmp_path):
    """A folder of three shards by name, with the held-out file that belongs to each."""
    shards = tmp_path / "cube-triple-play-100m-v0"
    shards.mkdir()
    for index in (2, 0, 1):
        (shards / f"cube-triple-play-v0-00{index}.npz").touch()
        (shards / f"cube-triple-play-v0-00{index}-val.npz").touch()
    return tmp_path


@pytest.mark.parametrize(("wanted", "taken"), [(None, "012"), (2, "01"), (3, "012")])
def test_the_first_shards_by_name_are_taken(three_shards, wanted, taken):
    files = find_files("cube-triple-play-100m-v0", three_shards, shards=wanted)
    assert [file.name for file in files] == [f"cube-triple-play-v0-00{i}.npz" for i in taken]


def test_generated_shards_are_not_filled_up_with_downloaded_ones(tmp_path):
    name = "pointmaze-medium-navigate"
    generate(name, episodes=1, shards=2, directory=tmp_path, workers=1, progress=False)
    assert len(find_files(f"{name}-100m-v0", tmp_path, shards=2)) == 2
    with pytest.raises(UserError, match=r"data\.shards asks for 10, and there are 2, generated"):
        find_files(f"{name}-100m-v0", tmp_path, shards=10)


def test_shards_of_unequal_length_are_refused_at_the_start(folder, tmp_path):
    generate("pointmaze-medium-navigate", episodes=1, directory=tmp_path, workers=1, progress=False)
    name = "pointmaze-medium-navigate-v0.npz"
    with pytest.raises(UserError, match=r"1,000 transitions, .* has 2,000"):
        OGBenchData(
            "pointmaze-medium-navigate", 1, "default", [folder / name, tmp_path / name], 1000
        )


def test_a_generated_set_of_another_size_is_not_taken_silently(folder):
    files = find_files("pointmaze-medium-navigate-v0", folder, generate_episodes=2)
    assert files[0].exists()
    with pytest.raises(UserError, match="pointmaze-medium-navigate-v0"):
        find_files("pointmaze-medium-navigate-v0", folder, generate_episodes=3)


@pytest.mark.parametrize("size", [0, 5000])
def test_a_broken_file_is_one_clear_message(folder, size):
    broken = folder / "cube-double-play-v0.npz"
    broken.write_bytes((folder / "puzzle-3x3-play-v0.npz").read_bytes()[:size])
    with pytest.raises(UserError, match=r"cube-double-play-v0\.npz: not a data set"):
        OGBenchData("cube-double-play", 1, "default", [broken]).load(0)


def test_a_cached_shard_is_the_shard_itself_for_each_task_and_reward(folder, tmp_path, monkeypatch):
    name = "puzzle-3x3-play"
    for index in (0, 1):
        copied = (folder / f"{name}-v0.npz").read_bytes()
        (tmp_path / f"{name}-v0-00{index}.npz").write_bytes(copied)
    files = sorted(tmp_path.glob("*.npz"))
    cases: list[tuple[int, Reward]] = [(1, "default"), (2, "default"), (2, "sparse")]
    for task, reward in cases:
        plain = OGBenchData(name, task, reward, files, 10).load(1)
        for cached in (OGBenchData(name, task, reward, files, 10, cached=True) for _ in range(2)):
            for one, other in zip(vars(plain).values(), vars(cached.load(1)).values(), strict=True):
                np.testing.assert_array_equal(one, other)
    # What has been read once is not unpacked again.
    monkeypatch.setattr(OGBenchData, "_read", None)
    assert len(OGBenchData(name, 2, "sparse", files, 10, cached=True).load(1)) == 2000
