"""Runs on data and environments of one's own: every format trains, in the units it should."""

import importlib
import json
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box
from samples import collect, columns

from qamx import load_agent, run
from qamx._utils.defaults import TRAINING_STREAM, derived_seed
from qamx.building import build_task
from qamx.config import load
from qamx.errors import ExitCode, RunError, UserError

FIXTURE = Path(__file__).parents[1] / "data" / "lerobot_v3"
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
LIMIT = 10

EXPERIMENT = """
name = "own"
seed = 7

[environment]
id = "{environment}"
max_episode_steps = 10
success_return = -30.0
reward_scale = 0.5
reward_shift = 1.0

[data]
source = "{source}"
normalise_observations = true
{data}

[agent]  # the quickstart's, with smaller networks
method = "qam"
inverse_temperature = 10.0
horizon = 2
discount = 0.99
pessimism = 0.5
target_rate = 0.02
ensemble_size = 2
flow_steps = 2
actor_hidden = [8]
critic_hidden = [8]
batch_size = 16
learning_rate = 1e-3

[schedule]
{schedule}

[evaluation]
every = 200
episodes = 2
environments = 2
workers = 0

[checkpoint]
every = 10

[logging]
every = 100
"""
FIVE, PENDULUM = "gymnasium:test_own_data:Five", "gymnasium:test_own_data:Pendulum"
UNSCALED = 'scale_actions = "none"'
OFFLINE = 'kind = "offline"\noffline_steps = 200'
BOTH = "offline_steps = 10\nonline_steps = 40\nonline_warmup = 5"


class Pendulum(gymnasium.Wrapper):
    """Gymnasium's pendulum, which fails in its reset once so many episodes have begun."""

    episodes, fails_after = 0, 10**9

    def __init__(self) -> None:
        super().__init__(gymnasium.make("Pendulum-v1", max_episode_steps=LIMIT))

    def reset(self, **keywords: Any) -> Any:
        Pendulum.episodes += 1
        if Pendulum.episodes > Pendulum.fails_after:
            raise OSError("the pendulum is stuck")
        return self.env.reset(**keywords)


class Five(gymnasium.Env):
    """Has the sizes of the LeRobot fixture: observations of five entries, actions of two."""

    observation_space = Box(-np.inf, np.inf, (5,))
    action_space = Box(0, 200, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=5), {}

    def step(self, action):
        return self.np_random.normal(size=5), -float(action[0]), False, False, {}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Random play of the pendulum, as a Minari data set, and as it was."""
    folder = tmp_path_factory.mktemp("minari")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MINARI_DATASETS_PATH", str(folder))
        env = gymnasium.make("Pendulum-v1", max_episode_steps=LIMIT)
        yield columns(collect(env, "pendulum-v0", episodes=6))


def as_minari(folder: Path, rows: list[np.ndarray]) -> str:
    return "minari:pendulum-v0"


def as_npz(folder: Path, rows: list[np.ndarray]) -> str:
    arrays: dict[str, Any] = table(rows)
    np.savez(folder / "pendulum.npz", **arrays)
    return f"npz:{folder / 'pendulum.npz'}"


def as_d4rl(folder: Path, rows: list[np.ndarray]) -> str:
    with h5py.File(folder / "pendulum.hdf5", "w") as file:
        file.update(table(rows))
    return f"hdf5:{folder / 'pendulum.hdf5'}"


def as_robomimic(folder: Path, rows: list[np.ndarray]) -> str:
    with h5py.File(folder / "demos.hdf5", "w") as file:
        for demo in range(len(rows[0]) // LIMIT):
            steps = slice(demo * LIMIT, (demo + 1) * LIMIT)
            observations, actions, rewards, masks, _, following = (c[steps] for c in rows)
            file[f"data/demo_{demo}/obs/state"] = observations
            file[f"data/demo_{demo}/next_obs/state"] = following
            file[f"data/demo_{demo}/actions"] = actions
            file[f"data/demo_{demo}/rewards"] = rewards
            file[f"data/demo_{demo}/dones"] = 1 - masks
    return f"hdf5:{folder / 'demos.hdf5'}"


def table(rows: list[np.ndarray]) -> dict[str, np.ndarray]:
    observations, actions, rewards, masks, ends, following = rows
    return {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "terminals": 1 - masks,
        "timeouts": ends,
        "next_observations": following,
    }


def experiment(
    folder: Path,
    source: str,
    schedule: str = OFFLINE,
    environment: str = "gymnasium:Pendulum-v1",
    data: str = "",
) -> Any:
    file = folder / "own.toml"
    file.write_text(
        EXPERIMENT.format(source=source, schedule=schedule, environment=environment, data=data)
    )
    return load(file)


def json_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("write", [as_minari, as_npz, as_d4rl, as_robomimic])
def test_every_format_trains(write, rows, tmp_path):
    out = tmp_path / "run"
    mine = experiment(tmp_path, write(tmp_path, rows))
    assert run(mine, out) == ExitCode.DONE
    (metrics, _) = json_lines(out / "metrics.jsonl")
    assert all(np.isfinite(v) for v in metrics.values() if isinstance(v, float))
    evaluation = json_lines(out / "evaluations.jsonl")[-1]
    assert (evaluation["step"], evaluation["length"]) == (200, LIMIT)
    assert -16.3 * LIMIT < evaluation["return"] < 0  # the environment's own rewards
    assert load_agent(out).act(jnp.zeros((1, 3)), jax.random.key(0)).shape == (1, 2)
    files = json.loads((out / "passport.json").read_text())["data"]
    assert len(files) == len(build_task(mine.data, mine.environment, 2).data.files)


def test_a_lerobot_data_set_trains(tmp_path):
    # Its actions are recorded in other units than [-1, 1]: the range of the data is scaled.
    scaled = 'scale_actions = "data"'
    mine = experiment(tmp_path, f"lerobot:{FIXTURE}", environment=FIVE, data=scaled)
    assert run(mine, tmp_path / "run") == ExitCode.DONE
    scaling = json.loads((tmp_path / "run" / "scaling.json").read_text())
    np.testing.assert_allclose(scaling["action_low"], [0, 0.1], rtol=1e-5)
    np.testing.assert_allclose(scaling["action_high"], [101, 101.1], rtol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
def test_the_tutorial_s_experiment_runs_on_the_data_that_it_makes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    example = importlib.import_module("own_data")
    monkeypatch.setattr(example, "EPISODES", 1)
    (total,) = example.collect()
    assert -2000 < total < 0
    short = ["schedule.offline_steps=20", "evaluation.episodes=1", "evaluation.workers=0"]
    tiny = ["agent.actor_hidden=[8]", "agent.critic_hidden=[8]", "agent.flow_steps=2"]
    assert run(load(EXAMPLES / "own_data.toml", short + tiny), tmp_path / "run") == ExitCode.DONE
    (evaluation,) = json_lines(tmp_path / "run" / "evaluations.jsonl")
    assert (evaluation["length"], "behaviour_success" in evaluation) == (200, True)


def test_actions_outside_the_space_are_refused(tmp_path):
    mine = experiment(tmp_path, f"lerobot:{FIXTURE}", environment=FIVE, data=UNSCALED)
    with pytest.raises(UserError, match=r"actions: 5 of 6 rows lie outside \[-1, 1\]"):
        run(mine, tmp_path / "run")


# What is played


@pytest.fixture(scope="module")
def online(rows, tmp_path_factory):
    """A run with both phases, in the pendulum that can fail."""
    folder = tmp_path_factory.mktemp("online")
    mine = experiment(folder, as_npz(folder, rows), BOTH, PENDULUM)
    assert run(mine, folder / "run") == ExitCode.DONE
    return mine, folder / "run"


def collected(out: Path) -> dict[str, np.ndarray]:
    """The transitions that a run collected online."""
    parts = [np.load(file) for file in sorted((out / "replay").glob("*.npz"))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_what_is_played_and_learned_is_scaled_as_by_hand(online, rows):
    mine, out = online
    observations = rows[0]
    mean, deviation = observations.mean(axis=0), observations.std(axis=0)
    steps, env = collected(out), gymnasium.make("Pendulum-v1", max_episode_steps=LIMIT)
    assert len(steps["rewards"]) == 40
    for episode in range(4):
        seed = derived_seed(mine.seed, TRAINING_STREAM, episode)
        seen, _ = env.reset(seed=seed % 2**31)
        for row in range(episode * LIMIT, (episode + 1) * LIMIT):
            np.testing.assert_allclose(
                steps["observations"][row], (seen - mean) / deviation, rtol=1e-3, atol=1e-4
            )
            # The pendulum's torque is in [-2, 2].
            seen, reward, _, _, _ = env.step(2 * steps["actions"][row])
            assert steps["rewards"][row] == pytest.approx(0.5 * float(reward) + 1, rel=1e-3)
    # Many actions differ from each other and reach beyond half of the range: they are real ones.
    assert np.abs(steps["actions"]).max() > 0.5
    assert np.abs(steps["actions"]).max() <= 1


def test_a_policy_acts_in_the_environment_s_units(online):
    mine, out = online
    scaling = json.loads((out / "scaling.json").read_text())
    world, agent = build_task(mine.data, mine.environment, 2), load_agent(out)
    scaled, raw = world.make_environment(), gymnasium.make("Pendulum-v1", max_episode_steps=LIMIT)
    observation, seen, truncated = scaled.reset(5), raw.reset(seed=5)[0], []
    for call in range(5):
        mean, deviation = scaling["observation_mean"], scaling["observation_deviation"]
        by_hand = ((seen - np.array(mean)) / np.array(deviation)).astype(np.float32)
        np.testing.assert_allclose(observation, by_hand, rtol=1e-5, atol=1e-6)
        (chunk,) = np.asarray(agent.act(jnp.asarray(by_hand[None]), jax.random.key(call)))
        for action in chunk:
            step, (seen, reward, *_) = scaled.step(action[None]), raw.step(2 * action[None])
            assert step.reward == pytest.approx(float(reward), rel=1e-5)
            observation = step.observation
            truncated.append(step.truncated)
    assert truncated == [False] * (LIMIT - 1) + [True]


def test_a_resumed_run_with_normalisation_equals_an_uninterrupted_one(
    online, tmp_path, monkeypatch
):
    mine, whole = online
    monkeypatch.setattr(Pendulum, "episodes", 0)
    monkeypatch.setattr(Pendulum, "fails_after", 3)
    with pytest.raises(RunError, match="the pendulum is stuck"):
        run(mine, tmp_path / "run")
    kept = (tmp_path / "run" / "scaling.json").read_bytes()
    assert len(json_lines(tmp_path / "run" / "metrics.jsonl")) < len(metrics_of(whole))
    monkeypatch.setattr(Pendulum, "fails_after", 10**9)
    # The units are those that the run began with: they are not found out again.
    monkeypatch.setattr("qamx.building.mean_std", None)
    assert run(mine, tmp_path / "run") == ExitCode.DONE
    assert (tmp_path / "run" / "scaling.json").read_bytes() == kept
    assert metrics_of(tmp_path / "run") == metrics_of(whole)
    rows_of_both = [json_lines(out / "evaluations.jsonl") for out in (tmp_path / "run", whole)]
    assert rows_of_both[0] == rows_of_both[1]
    for name, array in collected(whole).items():
        np.testing.assert_array_equal(collected(tmp_path / "run")[name], array)
    one, other = (jax.tree.leaves(load_agent(out)) for out in (whole, tmp_path / "run"))
    for mine_leaf, their_leaf in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine_leaf, their_leaf)


def metrics_of(out: Path) -> list[dict[str, Any]]:
    """The rows of metrics, without what depends on the clock."""
    return [
        {key: value for key, value in row.items() if "second" not in key}
        for row in json_lines(out / "metrics.jsonl")
    ]
