"""Faults in data and configuration, each injected and each answered by one message."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from qamx.data.ogbench.dataset import OGBenchData
from qamx.data.ogbench.generate import generate
from qamx.data.source import ValidatedData
from qamx.data.transitions import Transitions
from qamx.errors import UserError

ROOT = Path(__file__).parents[2]
NAME = "pointmaze-medium-navigate"


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """A sound data set of two episodes, of 1,001 rows each."""
    folder = tmp_path_factory.mktemp("data")
    generate(NAME, episodes=2, directory=folder, workers=1, progress=False)
    with np.load(folder / f"{NAME}-v0.npz") as file:
        return {name: file[name] for name in file.files}


def refusal(folder, arrays, **changes):
    """The message of loading a set with some arrays replaced."""
    path = folder / f"{NAME}-v0.npz"
    np.savez(path, **(arrays | changes))
    with pytest.raises(UserError) as refused:
        OGBenchData(NAME, 1, "default", [path]).load(0)
    assert str(refused.value).startswith(f"{path}: ")
    return str(refused.value).removeprefix(f"{path}: ")


def changed(array, row, value):
    array = array.copy()
    array[row] = value
    return array


@pytest.mark.parametrize("name", ["observations", "actions", "qpos"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_the_first_row(arrays, tmp_path, name, value):
    broken = changed(changed(arrays[name], 1500, value), 1200, value)
    assert refusal(tmp_path, arrays, **{name: broken}).startswith(
        f"{name}: found {value} in row 1,200 (2 rows in all); remove the episode"
    )


def test_the_last_observation_of_an_episode_is_looked_at_too(arrays, tmp_path):
    end = int(np.flatnonzero(arrays["terminals"])[0])
    broken = changed(arrays["observations"], end, np.nan)
    message = refusal(tmp_path, arrays, observations=broken)
    assert message.startswith(f"observations: found nan in row {end:,}")


def test_actions_outside_their_range_are_counted(arrays, tmp_path):
    wild = changed(changed(arrays["actions"], 7, 1.5), 11, -3.0)
    message = refusal(tmp_path, arrays, actions=wild)
    assert message.startswith("actions: 2 of 2,000 rows lie outside [-1, 1], the farthest is ")
    assert "-3 in row 11; scale the actions" in message


def test_rounding_beyond_the_range_is_clipped(arrays, tmp_path):
    path = tmp_path / f"{NAME}-v0.npz"
    np.savez(path, **(arrays | {"actions": changed(arrays["actions"], 7, 1.0005)}))
    source = OGBenchData(NAME, 1, "default", [path])
    loaded = ValidatedData(source, "mine", 1).load(0)
    np.testing.assert_allclose(loaded.actions[7], 1 - 1e-5)


def test_a_set_without_ends_of_episodes_is_refused(arrays, tmp_path):
    none = np.zeros_like(arrays["terminals"])
    message = refusal(tmp_path, arrays, terminals=none)
    assert message.startswith("terminals: no row of 2,002 ends an episode")


def test_a_cut_off_set_is_refused(arrays, tmp_path):
    cut = {name: array[:1900] for name, array in arrays.items()}
    message = refusal(tmp_path, cut)
    assert message.startswith("terminals: the last episode, from row 1,001 on, has no end")


def test_ends_are_marked_with_ones(arrays, tmp_path):
    odd = changed(arrays["terminals"].astype(np.float32), 5, 0.5)
    assert refusal(tmp_path, arrays, terminals=odd).startswith("terminals: found 0.5 in row 5")


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("observations", (2002, 3), "observations: shape (2002, 3), and the environment's"),
        ("actions", (2002, 5), "actions: shape (2002, 5), and the environment's actions have 2"),
        ("actions", (1999, 2), "actions: shape (1999, 2), and terminals has (2002,)"),
    ],
)
def test_shapes_that_do_not_fit_name_the_array(arrays, tmp_path, name, shape, says):
    assert refusal(tmp_path, arrays, **{name: np.zeros(shape, np.float32)}).startswith(says)


def test_a_missing_array_is_named(arrays, tmp_path):
    less = {name: array for name, array in arrays.items() if name != "actions"}
    assert refusal(tmp_path, less).startswith("actions: missing; the file has observations")


def test_python_objects_are_refused_unread(arrays, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    trap = np.array([Trap()] * 2002, dtype=object)
    message = refusal(tmp_path, arrays, observations=trap)
    assert message.startswith("observations: holds Python objects (pickled)")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_file_is_refused(arrays, tmp_path, damage):
    path = tmp_path / f"{NAME}-v0.npz"
    np.savez_compressed(path, **arrays)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{NAME}-v0\.npz: not a data set of {NAME}"):
        OGBenchData(NAME, 1, "default", [path]).load(0)


def ends_of(*lengths):
    ends = np.zeros(sum(lengths), np.float32)
    ends[np.cumsum(lengths) - 1] = 1
    return ends


class Source:
    """A data source of a plugin, one array of it changed."""

    shards, updates_per_shard = 1, None

    def __init__(self, lengths=(8, 2), **changes):
        size = sum(lengths)
        columns = {
            "observations": np.zeros((size, 3), np.float32),
            "actions": np.zeros((size, 2), np.float32),
            "rewards": np.zeros(size, np.float32),
            "masks": np.ones(size, np.float32),
            "ends": ends_of(*lengths),
            "next_observations": np.zeros((size, 3), np.float32),
        }
        self._transitions = Transitions(**(columns | changes))

    def load(self, shard):
        return self._transitions


def test_a_plugin_s_data_are_checked_too(capsys):
    rewards = np.array([0, 0, np.nan] + [0] * 7, np.float32)
    with pytest.raises(UserError, match="mine:x: rewards: found nan in row 2"):
        ValidatedData(Source(rewards=rewards), "mine:x", 3).load(0)
    with pytest.raises(UserError, match="mine:x: actions: 10 of 10 rows lie outside"):
        ValidatedData(Source(actions=np.full((10, 2), 2, np.float32)), "mine:x", 3).load(0)
    data = ValidatedData(Source(), "mine:x", 3)
    data.load(0)
    data.load(0)
    assert capsys.readouterr().err.count("1 of 2 episodes are shorter") == 1


BAD = """
plugins = ["not_there"]
[environment]
id = "cube-duble-play"
task = 2
[agent]
method = "qan"
horizon = "5"
discount = nan
pessimism = -1.0
batch_sise = 8
"""


@pytest.mark.parametrize("command", ["check", "run"])
def test_every_mistake_of_a_file_comes_at_once_and_without_jax(tmp_path, command):
    (tmp_path / "bad.toml").write_text(BAD)
    code = "import sys; from qamx.cli import main; status = main(sys.argv[1:]); "
    code += "assert 'jax' not in sys.modules; sys.exit(status)"
    words = [sys.executable, "-c", code, command, str(tmp_path / "bad.toml")]
    began = time.monotonic()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert time.monotonic() - began < 10  # 0.3 s on an idle machine; tests share theirs
    for message in (
        'plugins: plugin "not_there"',
        'environment.id: found "cube-duble-play"; did you mean "cube-double-play"?',
        'agent.method: unknown method "qan"',
        'agent.horizon: found "5" (a string)',
        "agent.discount: found nan",
        "agent.pessimism: found -1.0",
    ):
        assert message in done.stderr
    assert not (tmp_path / "runs").exists()


# --- nothing that is loaded can run code ---

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch"}
MODULES |= {"yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}


def unsafe(source):
    """Parts of a module's source that could run code that was loaded."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] in MODULES:
                yield name
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in CALLS:
            yield node.func.id
        for keyword in node.keywords:
            refused = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg == "allow_pickle" and not refused:
                yield "allow_pickle"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "qamx").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT / "qamx"))
)
def test_nothing_in_the_package_runs_what_it_loads(path):
    # A run tells its own processes, over a pipe that nobody else has, which environment to make.
    pipe = {"envs/protocol.py": ["cloudpickle"], "envs/worker.py": ["cloudpickle"]}
    tensors = {"deploy/lerobot/modeling_qamx.py": ["torch"]}  # LeRobot's, of which it loads none
    expected = (pipe | tensors).get(path.relative_to(ROOT / "qamx").as_posix(), [])
    assert list(unsafe(path.read_text())) == expected


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import torch; torch.load('x')",
        "import yaml; yaml.load('x')",
        "np.load('x', allow_pickle=True)",
        "np.load('x', allow_pickle=flag)",
        "eval('1')",
        "exec('1')",
    ],
)
def test_the_search_finds_what_it_is_for(source):
    assert list(unsafe(source))
