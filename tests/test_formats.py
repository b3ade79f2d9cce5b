"""Readers of data of one's own, on small files that each format's own library has written."""

import json
import shutil
import sys
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from samples import collect, columns, source_of

from qamx.data.sequences import Transitions
from qamx.errors import UserError

FIXTURES = Path(__file__).parent / "data"

ROWS = 7
COLUMN = np.arange(ROWS, dtype=np.float64)
TABLE = {
    "observations": np.stack([COLUMN, -COLUMN], axis=1),
    "actions": COLUMN[:, None] / 10,
    "rewards": 100 + COLUMN,
}
"""Seven rows that say in every array where they stand."""


def marks(*rows: int) -> np.ndarray:
    return np.isin(np.arange(ROWS), rows)


def expect(
    found: Transitions, rows: list[int], after: list[float], masks: list[int], ends: list[int]
) -> None:
    """Steps of the table, by row; `after` are the first entries of the next observations."""
    np.testing.assert_allclose(found.observations, TABLE["observations"][rows])
    np.testing.assert_allclose(found.actions, TABLE["actions"][rows], rtol=1e-6)
    np.testing.assert_array_equal(found.masks, masks)
    np.testing.assert_array_equal(found.ends, ends)
    np.testing.assert_allclose(np.asarray(found.next_observations)[:, 0], after)
    assert {array.dtype for array in vars(found).values()} == {np.dtype(np.float32)}


# Flat tables, as npz and as HDF5


def write_npz(path: Path, arrays: dict) -> str:
    np.savez(path.with_suffix(".npz"), **arrays)
    return f"npz:{path.with_suffix('.npz')}"


def write_hdf5(path: Path, arrays: dict) -> str:
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file["metadata/algorithm"] = "none"  # as D4RL's files have
    return f"hdf5:{path.with_suffix('.hdf5')}"


@pytest.fixture(params=[write_npz, write_hdf5])
def written(request, tmp_path):
    """Writes a table, and gives the source that names it."""
    return lambda arrays, name="table": request.param(tmp_path / name, arrays)


def test_ogbench_s_layout(written):
    source = written(TABLE | {"terminals": marks(2, 3, 6), "masks": 1.0 - marks(1)})
    found = source_of(source).load(0)
    # Rows 2, 3 and 6 are observations alone; row 3 is an episode without a step.
    expect(found, [0, 1, 4, 5], [1, 2, 5, 6], masks=[1, 0, 1, 1], ends=[0, 1, 0, 1])
    np.testing.assert_array_equal(found.rewards, [100, 101, 104, 105])


def test_ogbench_s_layout_without_rewards(written):
    bare = {name: array for name, array in TABLE.items() if name != "rewards"}
    source = written(bare | {"terminals": marks(2, 6), "solved": marks(1, 4)})
    env = {"reward": "sparse"}
    found = source_of(source, env, success="solved", terminal="success").load(0)
    expect(found, [0, 1, 3, 4, 5], [1, 2, 4, 5, 6], masks=[1, 0, 1, 0, 1], ends=[0, 1, 0, 0, 1])
    np.testing.assert_array_equal(found.rewards, [-1, 0, -1, 0, -1])
    with pytest.raises(UserError, match=r'terminations: missing; write data.terminal = "success"'):
        source_of(source, env, success="solved").load(0)
    with pytest.raises(UserError, match=r'rewards: missing; write environment.reward = "sparse"'):
        source_of(source).load(0)


def test_ogbench_s_layout_with_next_observations_has_a_step_in_each_row(written):
    following = {"next_observations": TABLE["observations"] + 0.5}
    source = written(TABLE | following | {"terminals": marks(2, 6), "masks": 1.0 - marks(6)})
    found = source_of(source).load(0)
    after = [row + 0.5 for row in range(7)]
    expect(found, [*range(7)], after, masks=[1] * 6 + [0], ends=[0, 0, 1, 0, 0, 0, 1])


D4RL = TABLE | {"terminals": marks(2), "timeouts": marks(4)}


@pytest.mark.parametrize(
    ("ended", "cut"), [("terminals", "timeouts"), ("terminations", "truncations")]
)
def test_d4rl_s_and_gymnasium_s_layout(written, ended, cut):
    found = source_of(written(TABLE | {ended: marks(2), cut: marks(4)})).load(0)
    # Row 2 terminated, so that nothing need follow. Rows 4 and 6 were cut: nothing follows them.
    expect(found, [0, 1, 2, 3, 5], [1, 2, 2, 4, 6], masks=[1, 1, 0, 1, 1], ends=[0, 0, 1, 1, 1])
    np.testing.assert_array_equal(found.rewards, [100, 101, 102, 103, 105])


def test_d4rl_s_layout_with_next_observations(written):
    source = written(D4RL | {"next_observations": TABLE["observations"] + 0.5})
    after = [row + 0.5 for row in range(7)]
    found = source_of(source).load(0)
    expect(found, [*range(7)], after, masks=[1, 1, 0, 1, 1, 1, 1], ends=[0, 0, 1, 0, 1, 0, 1])


def test_dictionary_observations_of_a_table(written):
    dictionary = {
        "observations/goal/y": COLUMN + 0.2,
        "observations/goal/x": COLUMN[:, None] + 0.1,
        "observations/position": TABLE["observations"],
    }
    arrays = {name: array for name, array in D4RL.items() if name != "observations"} | dictionary
    source = written(arrays)
    found = source_of(source).load(0)
    np.testing.assert_allclose(found.observations[1], [1.1, 1.2, 1, -1], rtol=1e-6)
    keys = ["position", "goal.y"]
    found = source_of(source, observation_keys=keys).load(0)
    np.testing.assert_allclose(found.observations[1], [1, -1, 1.2], rtol=1e-6)
    # The environment's order holds too, unless the data has one of its own.
    again = source_of(source, {"observation_keys": keys}).load(0)
    np.testing.assert_array_equal(again.observations, found.observations)


def test_an_order_of_the_environment_s_entries_does_not_concern_plain_observations(written):
    found = source_of(written(D4RL), {"observation_keys": ["observation", "goal"]}).load(0)
    assert found.observations.shape == (5, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terminals": None, "timeouts": None}, "no array marks the ends of episodes; add term"),
        ({"timeouts": None}, "terminals: it is not clear whether they mark the last row"),
        ({"terminals": None}, "timeouts: found without terminals; add it"),
        ({"terminals": None, "timeouts": None, "truncations": marks(6)}, "without terminations"),
        ({"truncations": marks(6)}, "terminals, timeouts, truncations: they mark ends in two ways"),
        ({"masks": marks(6)}, "masks: found beside terminals"),
        ({"terminals": marks(), "timeouts": marks()}, "terminals and timeouts: no row of 7 ends"),
        ({"timeouts": marks()[:5]}, "timeouts: 5 rows, and terminals have 7"),
        ({"rewards": COLUMN[:5]}, "rewards: 5 rows, and the marks of the ends of episodes have 7"),
        ({"actions": None}, "actions: missing; there are "),
        ({"observations": None}, "observations: missing; there are "),
        ({"actions": np.array([[b"left"]] * ROWS)}, r"actions: found \|S4; store it as numbers"),
        ({"timeouts": TABLE["observations"]}, r"timeouts: found float64 of shape \(7, 2\)"),
    ],
)
def test_what_a_table_must_be(written, changes, message):
    arrays = {name: array for name, array in (D4RL | changes).items() if array is not None}
    with pytest.raises(UserError, match=message):
        source_of(written(arrays)).load(0)


def test_a_success_that_is_not_there_is_refused(written):
    source = written(D4RL | {"goal_reached": marks(2)})
    with pytest.raises(UserError, match=r'found "goal_reach".*did you mean "goal_reached"'):
        source_of(source, success="goal_reach").load(0)


# Archives


def test_a_folder_of_archives_is_shards_and_validation(tmp_path):
    for number in (1, 0):
        shifted = D4RL | {"observations": TABLE["observations"] + 1000 * number}
        write_npz(tmp_path / f"part-{number}", shifted)
    write_npz(tmp_path / "part-0-val", D4RL | {"rewards": -COLUMN})
    source = source_of(f"npz:{tmp_path}", updates_per_shard=10)
    assert (source.shards, source.updates_per_shard) == (2, 10)
    assert [file.name for file in source.files] == ["part-0.npz", "part-1.npz"]
    assert source.load(0).observations[0, 0] == 0
    assert source.load(1).observations[0, 0] == 1000
    np.testing.assert_array_equal(source.load_validation().rewards, [0, -1, -2, -3, -5])
    assert source_of(f"npz:{tmp_path / 'part-1.npz'}").load_validation() is None


def test_shards_must_be_equally_long(tmp_path):
    # Equally many rows and episodes; but where an episode was cut, its last step is left out.
    write_npz(tmp_path / "a", D4RL | {"terminals": marks(), "timeouts": marks(1, 3)})
    write_npz(tmp_path / "b", D4RL | {"terminals": marks(1), "timeouts": marks(3)})
    with pytest.raises(UserError, match=r"b\.npz: 5 transitions, and a\.npz has 4") as error:
        source_of(f"npz:{tmp_path}", updates_per_shard=10)
    assert "equally long" in str(error.value)


def test_an_archive_or_folder_that_does_not_fit(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no npz file"):
        source_of(f"npz:{tmp_path / 'none'}")
    one = write_npz(tmp_path / "one", D4RL)
    with pytest.raises(UserError, match=r"updates_per_shard: found 10, but .*one\.npz is one file"):
        source_of(one, updates_per_shard=10)
    write_npz(tmp_path / "two", D4RL)
    with pytest.raises(UserError, match=r"updates_per_shard: missing, and .* holds 2 files"):
        source_of(f"npz:{tmp_path}")
    with pytest.raises(UserError, match=r'ones\.npz does not exist .*did you mean "one\.npz"'):
        source_of(f"npz:{tmp_path / 'ones.npz'}")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "one.npz").read_bytes()[:300])
    with pytest.raises(UserError, match=r"cut\.npz: not data that can be read \(BadZipFile"):
        source_of(f"npz:{tmp_path / 'cut.npz'}").load(0)


def test_pickled_objects_are_not_read(tmp_path):
    source = write_npz(tmp_path / "objects", D4RL | {"infos": np.array([{}] * ROWS)})
    with pytest.raises(UserError, match=r"infos: holds Python objects \(pickled\)"):
        source_of(source).load(0)


# robomimic's demonstrations


def write_robomimic(path: Path, numbers=(0, 2, 10), following=True, **extra) -> str:
    """Demonstrations of two steps: every number is 100 · demonstration + step."""
    with h5py.File(path, "w") as file:
        for number in numbers:
            demo = file.create_group(f"data/demo_{number}")
            steps = 100.0 * number + np.arange(2.0)
            demo["actions"] = steps[:, None] / 1000
            demo["rewards"] = demo["dones"] = np.array([0.0, 1.0])
            demo["obs/object"] = steps[:, None] + 0.5
            demo["obs/eef"] = np.stack([steps, steps], axis=1)
            demo["obs/agentview_image"] = np.zeros((2, 8, 8, 3), np.uint8)
            if following:
                demo["next_obs/object"] = steps[:, None] + 1.5
                demo["next_obs/eef"] = np.stack([steps, steps], axis=1) + 1
        for name, members in extra.items():
            file[f"mask/{name}"] = np.array([f"demo_{number}" for number in members], "S")
    return f"hdf5:{path}"


KEYS = ["object", "eef"]


def test_robomimic_s_demonstrations_in_the_order_of_their_numbers(tmp_path):
    source = source_of(write_robomimic(tmp_path / "a.hdf5"), observation_keys=KEYS)
    found = source.load(0)
    steps = np.array([0, 1, 200, 201, 1000, 1001])
    np.testing.assert_array_equal(found.observations, np.stack([steps + 0.5, steps, steps], 1))
    np.testing.assert_array_equal(
        found.next_observations, np.stack([steps + 1.5, steps + 1, steps + 1], 1)
    )
    np.testing.assert_allclose(found.actions, steps[:, None] / 1000, rtol=1e-6)
    np.testing.assert_array_equal(found.rewards, [0, 1] * 3)
    np.testing.assert_array_equal(found.masks, [1, 0] * 3)
    np.testing.assert_array_equal(found.ends, [0, 1] * 3)
    assert source.load_validation() is None
    assert source.files == (tmp_path / "a.hdf5",)


def test_robomimic_s_demonstrations_without_next_observations(tmp_path):
    source = write_robomimic(tmp_path / "a.hdf5", following=False)
    found = source_of(source, observation_keys=["object"]).load(0)
    assert len(found) == 6  # The last step terminates: what follows is never looked at.
    found = source_of(source, observation_keys=["object"], terminal="never").load(0)
    np.testing.assert_array_equal(np.asarray(found.observations)[:, 0], [0.5, 200.5, 1000.5])
    np.testing.assert_array_equal(np.asarray(found.next_observations)[:, 0], [1.5, 201.5, 1001.5])


def test_robomimic_s_rewards_as_successes(tmp_path):
    source = write_robomimic(tmp_path / "a.hdf5")
    keys = {"observation_keys": KEYS, "success": "rewards", "terminal": "success"}
    found = source_of(source, {"reward": "sparse"}, **keys).load(0)
    np.testing.assert_array_equal(found.rewards, [-1, 0] * 3)
    np.testing.assert_array_equal(found.masks, [1, 0] * 3)


def test_robomimic_s_filter_keys(tmp_path):
    source = write_robomimic(tmp_path / "a.hdf5", valid=(2,), worse=(10, 2))
    data = source_of(source, observation_keys=["object"])
    firsts = [float(part.observations[0, 0]) for part in (data.load(0), data.load_validation())]
    assert firsts == [0.5, 200.5]
    assert (len(data.load(0)), len(data.load_validation())) == (4, 2)
    chosen = source_of(source, observation_keys=["object"], filter="worse").load(0)
    np.testing.assert_array_equal(chosen.observations[:, 0], [200.5, 201.5, 1000.5, 1001.5])
    with pytest.raises(UserError, match=r'data.filter: found "worst".*did you mean "worse"'):
        source_of(source, filter="worst")


def test_images_of_demonstrations_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"agentview_image: images of shape \(8, 8, 3\)"):
        source_of(write_robomimic(tmp_path / "a.hdf5")).load(0)


def test_files_that_are_not_demonstrations(tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["data/demo_0/states"] = np.zeros((2, 3))
        file["data/demo_0/actions"] = np.zeros((2, 3))
    with pytest.raises(UserError, match=r"demo_0: obs: missing; there are actions, states"):
        source_of(f"hdf5:{path}").load(0)
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(2)
    with pytest.raises(UserError, match=r"neither robomimic's layout .* the file has weights"):
        source_of(f"hdf5:{path}")
    path.write_bytes(b"not one")
    with pytest.raises(UserError, match=r"not an HDF5 file that can be read \(OSError"):
        source_of(f"hdf5:{path}")
    flat = write_hdf5(tmp_path / "flat", D4RL)
    with pytest.raises(UserError, match=r'data.filter: found "train", but .* no demonstrations'):
        source_of(flat, filter="train")


# Minari


@pytest.fixture
def minari_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


@pytest.mark.usefixtures("minari_folder")
def test_a_minari_data_set_is_what_was_played():
    env = gymnasium.make("Pendulum-v1", max_episode_steps=5)
    rows = collect(env, "pendulum/random-v0", episodes=3)
    source = source_of("minari:pendulum/random-v0")
    found = source.load(0)
    for array, wanted in zip(vars(found).values(), columns(rows), strict=True):
        np.testing.assert_array_equal(array, wanted)
    assert {"main_data.hdf5", "metadata.json"} <= {file.name for file in source.files}
    assert source.load_validation() is None


class Goals(gymnasium.Env):
    """Counts to three; its observations are dictionaries inside dictionaries."""

    observation_space = Dict(
        {
            "position": Box(-np.inf, np.inf, (2,)),
            "goal": Dict({"b": Box(-9, 9, (1,)), "a": Box(-9, 9, (1,))}),
        }
    )
    action_space = Box(-2, 2, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._count = 0
        return self._observation(), {"is_success": False, "count": 0}

    def step(self, action):
        self._count += 1
        solved = self._count == 3
        return (
            self._observation(),
            -1.0,
            solved,
            False,
            {"is_success": solved, "count": self._count},
        )

    def _observation(self):
        count = float(self._count)
        position = np.array([count, -count], np.float32)
        goal = {"b": np.array([2], np.float32), "a": np.array([1], np.float32)}
        return {"position": position, "goal": goal}


@pytest.mark.usefixtures("minari_folder")
def test_minari_s_dictionaries_and_infos():
    collect(Goals(), "goals-v0", episodes=2)
    found = source_of("minari:goals-v0", {"reward": "sparse"}, terminal="success").load(0)
    wanted = [gymnasium.spaces.flatten(Goals.observation_space, observe(n)) for n in range(3)]
    np.testing.assert_array_equal(found.observations, wanted * 2)
    np.testing.assert_array_equal(found.rewards, [-1, -1, 0] * 2)
    np.testing.assert_array_equal(found.masks, [1, 1, 0] * 2)
    counted = source_of("minari:goals-v0", success="count", observation_keys=["goal.b"])
    np.testing.assert_array_equal(counted.load(0).observations, [[2]] * 6)
    with pytest.raises(UserError, match=r'infos: data.success: found "counts".*"count"'):
        source_of("minari:goals-v0", success="counts").load(0)


@pytest.mark.usefixtures("minari_folder")
def test_choices_are_no_vectors_of_actions():
    collect(gymnasium.make("CartPole-v1", max_episode_steps=3), "cart-v0", episodes=1)
    with pytest.raises(UserError, match=r"minari:cart-v0: actions are in Discrete\(2\); name"):
        source_of("minari:cart-v0")


def observe(count: int) -> dict:
    env = Goals()
    env._count = count
    return env._observation()


def test_a_minari_data_set_that_is_not_there(minari_folder):
    with pytest.raises(UserError, match=r"minari download pendulum/expert-v0") as error:
        source_of("minari:pendulum/expert-v0")
    assert "MINARI_DATASETS_PATH" in str(error.value)


# LeRobot


@pytest.mark.parametrize("version", ["v3", "v21"])
def test_lerobot_s_frames(version):
    source = source_of(f"lerobot:{FIXTURES / f'lerobot_{version}'}")
    found = source.load(0)
    # Four frames that end in success, and three that were cut: the last has no next observation.
    steps = np.array([0, 1, 2, 3, 100, 101], np.float32)
    state = steps[:, None] + np.array([0.0, 0.1, 0.2], np.float32)
    np.testing.assert_allclose(found.observations, np.hstack([state[:, :2], state]), rtol=1e-6)
    np.testing.assert_allclose(found.actions, state[:, :2], rtol=1e-6)
    np.testing.assert_array_equal(found.rewards, -steps)
    np.testing.assert_array_equal(found.masks, [1, 1, 1, 0, 1, 1])
    np.testing.assert_array_equal(found.ends, [0, 0, 0, 1, 0, 1])
    after = np.asarray(found.next_observations)[:, 0]
    np.testing.assert_allclose(after, [1, 2, 3, 3, 101, 102])
    assert source.files[0].name == "info.json"
    assert all(file.suffix == ".parquet" for file in source.files[1:])


def test_lerobot_s_success_and_chosen_state():
    source = source_of(
        f"lerobot:{FIXTURES / 'lerobot_v3'}",
        {"reward": "sparse"},
        observation_keys=["observation.state"],
        terminal="success",
    )
    found = source.load(0)
    assert found.observations.shape == (6, 3)
    np.testing.assert_array_equal(found.rewards, [-1, -1, -1, 0, -1, -1])
    np.testing.assert_array_equal(found.masks, [1, 1, 1, 0, 1, 1])


def lerobot_copy(folder: Path, **changes) -> str:
    """The fixture with another `info.json`; a change of None takes a feature out."""
    shutil.copytree(FIXTURES / "lerobot_v3", folder)
    info = json.loads((folder / "meta" / "info.json").read_text())
    info |= {key: value for key, value in changes.items() if key != "features"}
    for name, feature in changes.get("features", {}).items():
        info["features"].pop(name, None)
        if feature:
            info["features"][name] = feature
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    return f"lerobot:{folder}"


IMAGE = {"dtype": "video", "shape": [96, 96, 3], "names": None}


def test_lerobot_s_images_are_left_aside(tmp_path, capsys):
    source = lerobot_copy(tmp_path / "a", features={"observation.images.front": IMAGE})
    assert source_of(source).load(0).observations.shape == (6, 5)
    assert "ignores observation.images.front" in capsys.readouterr().err
    blind = {"observation.state": None, "observation.environment_state": None}
    images = lerobot_copy(tmp_path / "b", features={**blind, "observation.image": IMAGE})
    with pytest.raises(UserError, match=r"observations: found observation.image alone, and"):
        source_of(images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebase_version": "v1.6"}, "of version v1.6; versions 2 and 3 can be read"),
        ({"total_frames": 9}, "7 frames, and meta/info.json says 9"),
        ({"features": {"action": None}}, "action: missing among observation.state"),
    ],
)
def test_what_a_lerobot_data_set_must_be(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        source_of(lerobot_copy(tmp_path / "a", **changes)).load(0)


def test_a_lerobot_folder_without_its_files(tmp_path):
    source = lerobot_copy(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "data")
    with pytest.raises(UserError, match="no parquet files"):
        source_of(source)
    shutil.rmtree(tmp_path / "a" / "meta")
    with pytest.raises(UserError, match=r"not a LeRobot data set that can be read \(FileNotFound"):
        source_of(source)


# Libraries


@pytest.mark.parametrize(
    ("module", "source", "extra"),
    [
        ("h5py", "hdf5:a.hdf5", "hdf5"),
        ("minari", "minari:a-v0", "minari"),
        ("pyarrow.parquet", "lerobot:folder", "lerobot"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(module, source, extra, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / source.partition(":")[2]).mkdir()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf'pip install "qamx\[{extra}\]"'):
        source_of(source)
