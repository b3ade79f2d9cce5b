"""Readers of data of one's own, on small files that each format's own library has written."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pyarrow as pa
import pytest
from gymnasium.spaces import Box, Dict
from pyarrow import parquet
from samples import collect, columns, source_of

from qamx.data.ogbench.dataset import find_files
from qamx.data.transitions import Transitions
from qamx.errors import UserError

FIXTURES = Path(__file__).parents[1] / "data"

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
        (
            {"actions": np.array(1.0)},
            "actions: 1 rows, and the marks of the ends of episodes have 7",
        ),
        ({"timeouts": np.array(1.0)}, "timeouts: 1 rows, and terminals have 7"),
        (
            {"observations": np.zeros((ROWS, 32, 32, 3))},
            r"observations: images of shape \(32, 32, 3",
        ),
        ({"timeouts": marks() * np.nan}, "timeouts: not finite in row 0; write 1 for yes or 0 for"),
        ({"terminals": np.append(marks()[1:], np.nan)}, "terminals: not finite in row 6"),
        ({"success": np.append(marks()[1:], np.nan)}, "successes: not finite in row "),
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


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_images_of_demonstrations_are_refused(tmp_path, dtype):
    source = write_robomimic(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        for number in (0, 2, 10):
            del file[f"data/demo_{number}/obs/agentview_image"]
            file[f"data/demo_{number}/obs/camera"] = np.zeros((2, 16, 16, 3), dtype)
    with pytest.raises(
        UserError, match=r"demo_0: observations camera: images of shape \(16, 16, 3"
    ):
        source_of(source).load(0)
    assert len(source_of(source, observation_keys=["object"]).load(0)) == 6


def replaced(path: str, value: Any) -> Callable[[h5py.File], None]:
    """Puts something in the place of what is at a path of a file; None takes it out."""

    def change(file: h5py.File) -> None:
        if path in file:
            del file[path]
        if value is not None:
            file[path] = value

    return change


def told(number: Any) -> Callable[[h5py.File], None]:
    """Writes robomimic's attribute of how many steps there are."""
    return lambda file: file["data/demo_2"].attrs.update(num_samples=number)


def without_a_step(file: h5py.File) -> None:
    for name in ("actions", "rewards", "dones"):
        replaced(f"data/demo_2/{name}", np.zeros((0, 1)))(file)


LEFT_OUT = r'data/demo_2, or list the others in mask/NAME and write data.filter = "NAME"$'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file["data/demo_2"].clear(), f"the demonstration is empty; .*{LEFT_OUT}"),
        (replaced("data/demo_2", np.zeros(3)), f"found an array, and no group; .*{LEFT_OUT}"),
        (replaced("data/demo_2", h5py.SoftLink("/gone")), f"found a link to nothing, .*{LEFT_OUT}"),
        (replaced("data/demo_2/obs", None), f"obs: missing; there are actions, .*{LEFT_OUT}"),
        (lambda file: file["data/demo_2/obs"].clear(), "observations: there are none"),
        (replaced("data/demo_2/actions", None), f"actions: missing, as an array .*{LEFT_OUT}"),
        (replaced("data/demo_2/actions", 1.0), f"actions: missing, as an array .*{LEFT_OUT}"),
        (replaced("data/demo_2/actions", np.zeros(3)), "rewards: 2 rows, and there are 3 actions"),
        (replaced("data/demo_2/rewards", np.zeros(3)), "rewards: 3 rows, and there are 2 actions"),
        (replaced("data/demo_2/rewards", 1.0), "rewards: found float64 of shape"),
        (told(5), f"actions: 2 rows, and its attribute num_samples says 5; .*{LEFT_OUT}"),
    ],
)
def test_a_demonstration_that_is_not_whole_says_how_to_leave_it_out(tmp_path, change, message):
    source = write_robomimic(tmp_path / "a.hdf5", numbers=(2, 10), rest=(10,))
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        change(file)
    with pytest.raises(UserError, match=rf"a\.hdf5, demo_2: {message}"):
        source_of(source, observation_keys=["object"]).load(0)
    assert len(source_of(source, observation_keys=["object"], filter="rest").load(0)) == 2


@pytest.mark.parametrize(
    ("change", "steps"), [(told(2), 4), (without_a_step, 2), (lambda file: None, 4)]
)
def test_demonstrations_that_are_whole_or_without_a_step(tmp_path, capsys, change, steps):
    source = write_robomimic(tmp_path / "a.hdf5", numbers=(2, 10))
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        change(file)
        file["store"] = file["data/demo_10"]  # links are followed, also those that lead back
        replaced("data/demo_10", h5py.SoftLink("/store"))(file)
        file["store/back"] = h5py.SoftLink("/data")
    # No step needs an array of successes.
    found = source_of(source, observation_keys=["object"], success="rewards").load(0)
    assert len(found) == steps
    message = capsys.readouterr().err
    assert message.endswith("holds no whole step: demo_2\n" if steps == 2 else "")


@pytest.mark.parametrize(
    ("masks", "keys", "message"),
    [
        ({"some": (0, 7)}, {"filter": "some"}, 'mask/some: names "demo_7", and there is no such'),
        ({"some": (7, 10, 12)}, {"filter": "some"}, 'names "demo_7" and 1 more, and there is no'),
        ({"valid": (0, 7)}, {}, 'mask/valid: names "demo_7", and there is no such group in data'),
        ({"valid": (0, 2, 10)}, {}, "mask/valid: of the demonstrations it lists all, to be kept"),
        ({"some": ()}, {"filter": "some"}, "mask/some: of the demonstrations it lists none, so"),
    ],
)
def test_a_mask_that_does_not_fit_its_file(tmp_path, masks, keys, message):
    source = write_robomimic(tmp_path / "a.hdf5", **masks)
    with pytest.raises(UserError, match=message):
        source_of(source, **keys)
    if "some" in masks:  # not asked for
        assert len(source_of(source, observation_keys=["object"]).load(0)) == 6


def test_files_that_are_not_demonstrations(tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["data/demo_0/states"] = np.zeros((2, 3))
        file["data/demo_0/actions"] = np.zeros((2, 3))
    with pytest.raises(UserError, match=r"demo_0: obs: missing; there are actions, states"):
        source_of(f"hdf5:{path}").load(0)
    with h5py.File(path, "w") as file:
        file["data/demo_²/states"] = np.zeros((2, 3))
    with pytest.raises(UserError, match=r"demo_²: obs: missing; there are states"):
        source_of(f"hdf5:{path}").load(0)
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(2)
    with pytest.raises(UserError, match=r"neither robomimic's layout .* the file has weights"):
        source_of(f"hdf5:{path}")
    with h5py.File(path, "w") as file:
        file["data/demo_0/actions"] = np.zeros((2, 3))
        file["mask"] = np.array([b"demo_0"])
    with pytest.raises(UserError, match=r"a\.hdf5: mask: found an array, and no group; make it"):
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


def emptied(file: h5py.File) -> None:
    for name in ("actions", "rewards", "terminations", "truncations"):
        replaced(f"episode_1/{name}", np.zeros((0, 1) if name == "actions" else 0))(file)
    del file["episode_1/infos"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (emptied, None),
        (lambda file: file["episode_1"].clear(), "episode 1: not an episode that can be read"),
        (replaced("episode_1", None), "episode 1: not an episode that can be read"),
        (lambda file: replaced("episode_1/actions", file["episode_0/infos"])(file), "episode 1: "),
        (replaced("episode_1/rewards", np.zeros(2)), "episode 1: "),
    ],
)
def test_a_minari_episode_that_is_not_whole_is_named(minari_folder, capsys, change, message):
    collect(Goals(), "goals-v0", episodes=3)
    with h5py.File(minari_folder / "goals-v0" / "data" / "main_data.hdf5", "a") as file:
        change(file)
    source = source_of("minari:goals-v0", success="count")
    if message:
        with pytest.raises(UserError, match=f"minari:goals-v0, {message}"):
            source.load(0)
    else:
        assert len(source.load(0)) == 6
        assert capsys.readouterr().err.endswith("holds no whole step: episode 1\n")


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


def numeric(*shape: int) -> dict[str, Any]:
    return {"dtype": "float32", "shape": [*shape], "names": None}


@pytest.mark.parametrize("shape", [(84, 84, 3), (3, 16, 16), (4, 16, 16, 1)])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "video"])
def test_lerobot_s_arrays_with_the_shape_of_an_image_are_left_aside(tmp_path, capsys, shape, dtype):
    camera = {"observation.camera": numeric(*shape) | {"dtype": dtype}}
    assert (
        source_of(lerobot_copy(tmp_path / "a", features=camera)).load(0).observations.shape[1] == 5
    )
    assert "ignores observation.camera" in capsys.readouterr().err


def with_column(source: str, name: str, column: pa.Array, **options: Any) -> str:
    """A LeRobot data set with another column in its table."""
    (file,) = Path(source.partition(":")[2]).glob("data/*/*.parquet")
    table = parquet.read_table(file)
    place = table.column_names.index(name)
    parquet.write_table(table.set_column(place, name, column), file, **options)
    return source


PAIRS = [[row, row + 0.5] for row in range(ROWS)]
LIST, LARGE, FIXED = pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 2)
NESTED = pa.list_(pa.list_(pa.float32()))
SQUARES = [[pair, pair] for pair in PAIRS]


def but(row: int, value: Any, rows: list[Any] = PAIRS) -> list[Any]:
    return [*rows[:row], value, *rows[row + 1 :]]


@pytest.mark.parametrize("options", [{}, {"row_group_size": 2}], ids=["one group", "row groups"])
@pytest.mark.parametrize(
    ("rows", "kind", "shape", "message"),
    [
        ([[0, 1, 9], [2], *PAIRS[2:]], LIST, (2,), "row 0 holds a list of 3, and .* a row has 2 n"),
        (but(5, [2]), LIST, (2,), "row 5 holds a list of 1, and by meta/info.json a row has 2"),
        (but(5, []), LARGE, (2,), "row 5 holds a list of 0"),
        (but(2, None), LIST, (2,), "row 2 holds a null; correct the row, or drop its episode"),
        (but(2, [1, None]), LIST, (2,), "row 2 holds a null"),
        (but(6, None), FIXED, (2,), "row 6 holds a null"),
        (PAIRS, FIXED, (3,), "row 0 holds a list of 2, and by meta/info.json a row has 3 numbers"),
        (but(3, [[1, 2, 3], [4]], SQUARES), NESTED, (2, 2), "row 3 holds a list of 3, .* 2 x 2"),
        (but(3, [[1, 2]], SQUARES), NESTED, (2, 2), "row 3 holds a list of 1"),
        (but(3, [[1, 2], None], SQUARES), NESTED, (2, 2), "row 3 holds a null"),
        (list(range(ROWS)), pa.int64(), (2,), "row 0 holds one, and by meta/info.json a row has 2"),
        ([["a", "b"]] * ROWS, pa.list_(pa.string()), (2,), "holds string; store it as numbers"),
    ],
)
def test_a_row_of_lerobot_s_that_does_not_fit_is_named(
    tmp_path, rows, kind, shape, message, options
):
    source = lerobot_copy(tmp_path / "a", features={"action": numeric(*shape)})
    with_column(source, "action", pa.array(rows, kind), **options)
    with pytest.raises(UserError, match=rf"file-000\.parquet: action: {message}"):
        source_of(source).load(0)


@pytest.mark.parametrize(
    ("rows", "kind", "shape"),
    [
        (PAIRS, LIST, (2,)),
        (PAIRS, LARGE, (2,)),
        (PAIRS, FIXED, (2,)),
        (SQUARES, NESTED, (2, 2)),
        ([[*pair, *pair] for pair in PAIRS], LIST, (2, 2)),  # all entries of a row in one list
        ([[row] for row in range(ROWS)], LIST, (1,)),
        (list(range(ROWS)), pa.int64(), (1,)),
        (list(range(ROWS)), pa.float16(), (1,)),
        ([row % 2 == 0 for row in range(ROWS)], pa.bool_(), (1,)),
        (but(2, [np.nan, 2]), LIST, (2,)),  # a number that an inspection finds
    ],
)
def test_lerobot_s_columns_of_every_type_keep_their_rows(tmp_path, rows, kind, shape):
    source = lerobot_copy(tmp_path / "a", features={"action": numeric(*shape)})
    with_column(source, "action", pa.array(rows, kind), row_group_size=2)
    wanted = np.asarray(rows, np.float32).reshape(ROWS, -1)[[0, 1, 2, 3, 4, 5]]
    np.testing.assert_array_equal(source_of(source).load(0).actions, wanted)


ENDLESS = '{"codebase_version": "v3.0", "features": {}, "total_frames": Infinity}'


@pytest.mark.parametrize(
    "text", ["[]", "null", '{"codebase_version": "v3.0", "features": [1]}', ENDLESS]
)
def test_a_description_that_is_other_json_is_one_line(tmp_path, text):
    source = lerobot_copy(tmp_path / "a")
    (tmp_path / "a" / "meta" / "info.json").write_text(text)
    with pytest.raises(UserError, match=r"info\.json: not a description of LeRobot's \("):
        source_of(source)


def test_a_description_is_read_as_editors_save_it(tmp_path):
    source = lerobot_copy(tmp_path / "a")
    file = tmp_path / "a" / "meta" / "info.json"
    text = file.read_bytes()
    file.write_bytes(b"\xef\xbb\xbf" + text)
    assert len(source_of(source).load(0)) == 6
    file.write_bytes(text.decode().encode("utf-16"))
    with pytest.raises(UserError, match=r"info\.json: not a UTF-8 text file: it is in UTF-16"):
        source_of(source)


# Symbolic links


def moved(path: Path, store: Path) -> Path:
    """Puts a file or folder elsewhere, with a link in its place."""
    place = path.rename(store / path.name)
    path.symlink_to(place)
    return place


LINKED = {
    "lerobot": ("a", "a/data", "a/data/chunk-000", "a/data/chunk-000/file-000.parquet", "a/meta"),
    "npz": ("shards", "shards/0.npz", "shards/0-val.npz", "one.npz"),
    "hdf5": ("demos.hdf5",),
    "minari": ("minari/goals-v0", "minari/goals-v0/data"),
}


def rows_of(kind: str, folder: Path) -> int:
    """Reads every file of a format's data set."""
    if kind == "npz":
        one = source_of(f"npz:{folder / 'one.npz'}").load(0)
        source = source_of(f"npz:{folder / 'shards'}", updates_per_shard=1)
        return sum(map(len, (one, source.load(1), source.load_validation())))
    names = {
        "lerobot": f"lerobot:{folder / 'a'}",
        "hdf5": f"hdf5:{folder / 'demos.hdf5'}",
        "minari": "minari:goals-v0",
    }
    source = source_of(names[kind], observation_keys=["object"] if kind == "hdf5" else None)
    assert all(file.is_file() for file in source.files)
    assert len(source.files) == {"lerobot": 2, "hdf5": 1, "minari": 2}[kind]
    return len(source.load(0))


@pytest.fixture
def linked(tmp_path, minari_folder):
    """Writes a data set of a format into a folder."""

    def write(kind: str) -> Path:
        if kind == "lerobot":
            lerobot_copy(tmp_path / "a")
        elif kind == "hdf5":
            write_robomimic(tmp_path / "demos.hdf5")
        elif kind == "minari":
            collect(Goals(), "goals-v0", episodes=2)
        else:
            (tmp_path / "shards").mkdir()
            for name in ("shards/0", "shards/1", "shards/0-val", "one"):
                write_npz(tmp_path / name, D4RL)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("kind", "part"), [(kind, part) for kind, parts in LINKED.items() for part in parts]
)
def test_links_are_followed_and_those_to_nothing_are_named(linked, kind, part, tmp_path_factory):
    folder = linked(kind)
    wanted = rows_of(kind, folder)
    place = moved(folder / part, tmp_path_factory.mktemp("store"))
    assert rows_of(kind, folder) == wanted
    place.rename(place.with_name("elsewhere"))
    with pytest.raises(UserError) as caught:
        rows_of(kind, folder)
    if kind != "minari":  # whose library does not see such a data set
        message = f"{folder / part}: a symbolic link to {place}, where there is nothing to be read"
        assert str(caught.value).startswith(message)


def test_links_that_lead_in_circles_end(linked):
    folder = linked("lerobot")
    (folder / "a" / "data" / "chunk-000" / "up").symlink_to("..")
    (folder / "a" / "data" / "top").symlink_to(folder / "a")
    (folder / "a" / "data" / "root").symlink_to("/")
    (folder / "a" / "data" / ".#lock").symlink_to("an.editor's")
    assert rows_of("lerobot", folder) == 6
    (folder / "a" / "data" / "self").symlink_to("self")
    with pytest.raises(UserError, match="data/self: a symbolic link to self, where"):
        rows_of("lerobot", folder)


@pytest.mark.parametrize("part", ["", "cube-double-play-v0.npz", "cube-double-play-100m-v0"])
@pytest.mark.parametrize("episodes", [None, 1])
def test_a_link_to_nothing_is_no_reason_to_download_or_make_an_ogbench_set(
    tmp_path, part, episodes
):
    folder = tmp_path / "ogbench"
    if part:
        folder.mkdir()
    (folder / part).symlink_to(tmp_path / "gone")
    name = part.removesuffix(".npz") or "cube-double-play-v0"
    with pytest.raises(UserError, match=r"a symbolic link to .*gone, where there is nothing"):
        find_files(name, folder, generate_episodes=episodes)
    assert (folder / part).is_symlink()


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
    with pytest.raises(UserError, match=rf'pip install -e "\.\[{extra}\]" in'):
        source_of(source)
