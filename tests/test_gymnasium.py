"""Environments with Gymnasium's interface."""

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from qamx import registry
from qamx.config import ConfigError, load
from qamx.config.gymnasium import GymnasiumEnvironmentSettings
from qamx.envs import close_players, open_players
from qamx.envs.gymnasium import GymnasiumEnvironment
from qamx.errors import UserError
from qamx.worlds import build_environment


class Walk(gymnasium.Env):
    """A number that an action moves; solved beyond 2. It draws from NumPy's global state too."""

    action_space = Box(np.array([-1.0, 0.0]), np.array([1.0, 4.0]), dtype=np.float64)
    observation_space = Dict(
        {
            "position": Box(-np.inf, np.inf, ()),
            "goal": Box(-9, 9, (2, 1)),
            "camera": Box(0, 1, (1,)),
        }
    )

    def __init__(self, name: str = "is_success", ends: bool = False):
        self._name, self._ends = name, ends

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._position = float(self.np_random.normal())
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        assert action.shape == self.action_space.shape
        self._position += float(action[0]) + 0.01 * np.random.normal()
        solved = self._position > 2
        return self._observation(), self._position, self._ends and solved, False, self._info(solved)

    def _info(self, solved: bool) -> dict[str, Any]:
        return {self._name: solved}

    def _observation(self) -> dict[str, Any]:
        goal, camera = np.array([[2.0], [3.0]]), np.zeros(1)
        return {"position": np.array(self._position), "goal": goal, "camera": camera}


WALK = "test_gymnasium:Walk"
UP = np.array([1.0, 0.0], np.float32)


def walk(**keywords: Any) -> GymnasiumEnvironment:
    return GymnasiumEnvironment(WALK, max_episode_steps=20, **keywords)


def play(env: GymnasiumEnvironment, seed: int, steps: int = 15) -> np.ndarray:
    rng, rewards = np.random.default_rng(0), [0.0]
    seen = [env.reset(seed)]
    for _ in range(steps):
        step = env.step(rng.uniform(env.action_low, env.action_high).astype(np.float32))
        seen.append(step.observation)
        rewards.append(step.reward)
    return np.column_stack([seen, rewards])


@pytest.mark.parametrize("address", ["Pendulum-v1", WALK])
def test_an_episode_is_a_function_of_its_seed_and_actions(address):
    keywords: dict[str, Any] = {"success_return": 0.0, "max_episode_steps": 20}
    one, other = (GymnasiumEnvironment(address, **keywords) for _ in range(2))
    first = play(one, 7)
    assert np.abs(play(one, 8) - first).max() > 0.01
    np.random.seed(3)
    np.testing.assert_array_equal(play(other, 7), first)
    # The global random state is as before: other users of it are not disturbed.
    undisturbed = np.random.RandomState(3).uniform()
    assert np.random.uniform() == undisturbed
    assert one.reset(2**40 + 7).dtype == np.float32  # Gymnasium's own seeds have 31 bits.


def test_an_environment_is_what_gymnasium_makes_of_it():
    env, theirs = GymnasiumEnvironment("Pendulum-v1", success_return=0.0), _pendulum()
    assert (env.observation_size, env.action_size) == (3, 1)
    np.testing.assert_array_equal([env.action_low, env.action_high], [[-2], [2]])
    seen, _ = theirs.reset(seed=4)
    np.testing.assert_array_equal(env.reset(4), seen)
    for torque in (0.5, -2.0, 1.0):
        step = env.step(np.array([torque], np.float32))
        seen, reward, terminated, truncated, _ = theirs.step(np.array([torque], np.float32))
        np.testing.assert_array_equal(step.observation, seen)
        assert (step.reward, step.terminated) == (float(reward), terminated)
        assert (step.truncated, step.success) == (truncated, False)
    env.close()


def _pendulum() -> gymnasium.Env:
    return gymnasium.make("Pendulum-v1")


@pytest.mark.parametrize(
    ("keywords", "limit"), [({"success_return": 0.0}, 200), ({"max_episode_steps": 5}, 5)]
)
def test_the_time_limit(keywords, limit):
    env = GymnasiumEnvironment("Pendulum-v1", **({"success_return": 0.0} | keywords))
    env.reset(0)
    steps = [env.step(np.zeros(1, np.float32)) for _ in range(limit)]
    assert [step.truncated for step in steps] == [False] * (limit - 1) + [True]
    assert not any(step.terminated for step in steps)


def test_dictionary_observations_and_their_order():
    env = walk()
    assert env.observation_size == 4
    observation = env.reset(0)
    # In alphabetical order: camera, goal, position.
    np.testing.assert_array_equal(observation[:3], [0, 2, 3])
    chosen = walk(observation_keys=["position", "goal"])
    np.testing.assert_array_equal(chosen.reset(0), [observation[3], 2, 3])
    with pytest.raises(UserError, match=r"environment.observation_keys: found 'goals'.*\"goal\""):
        walk(observation_keys=["goals"])


@pytest.mark.parametrize("name", ["success", "is_success", "arrived"])
def test_success_is_an_entry_of_info(name):
    usual = {} if name != "arrived" else {"success_key": name}
    env = walk(arguments={"name": name}, **usual)
    env.reset(1)
    steps = [env.step(UP) for _ in range(5)]
    assert [step.success for step in steps] == [step.observation[3] > 2 for step in steps]
    assert not any(step.terminated for step in steps)
    assert steps[-1].success


def test_success_is_a_return():
    env = walk(success_return=6.0)
    for seed in (1, 2):  # The return of one episode does not count for the next.
        env.reset(seed)
        steps = [env.step(UP) for _ in range(8)]
        returns = np.cumsum([step.reward for step in steps])
        assert [step.success for step in steps] == [total >= 6.0 for total in returns]
        assert (steps[0].success, steps[-1].success) == (False, True)


def test_sparse_rewards_and_the_end_at_success():
    env = walk(sparse=True, ends_at_success=True)
    env.reset(1)
    steps = [env.step(UP)]
    while not steps[-1].done:
        steps.append(env.step(UP))
    assert [step.reward for step in steps] == [-1.0] * (len(steps) - 1) + [0.0]
    assert (steps[-1].success, steps[-1].terminated) == (True, True)
    goes_on = walk(sparse=True)
    goes_on.reset(1)
    rewards = [goes_on.step(UP).reward for _ in range(len(steps) + 1)]
    assert rewards[-2:] == [0.0, 0.0]


def test_an_environment_may_end_by_itself():
    env = walk(arguments={"ends": True})
    env.reset(1)
    while not (step := env.step(UP)).done:
        assert not step.success
    assert (step.success, step.terminated, step.truncated) == (True, True, False)


class Images(Walk):
    observation_space = Dict({"camera": Box(0, 255, (8, 8, 3), np.uint8), "state": Box(0, 1, (1,))})


class Choices(Walk):
    action_space = Discrete(3)


class Tokens(Walk):
    observation_space = Discrete(5)


@pytest.mark.parametrize(
    ("address", "keywords", "message"),
    [
        ("Pendulm-v1", {}, r"found 'Pendulm-v1', which cannot be made \(NameNotFound"),
        ("nowhere:Env", {}, r"found 'nowhere:Env', which cannot be made \(ModuleNotFoundError"),
        ("test_gymnasium:Run", {}, r"cannot be made \(AttributeError"),
        (WALK, {"arguments": {"speed": 2}}, r"cannot be made \(TypeError: .*speed"),
        (WALK, {"max_episode_steps": None}, r"environment.max_episode_steps: missing, and test_"),
        ("test_gymnasium:Choices", {}, r"the action space of .* is Discrete\(3\); qamx needs"),
        ("test_gymnasium:Tokens", {}, r"the observation space of .* is Discrete\(5\)"),
        ("test_gymnasium:Images", {}, r"the observation camera of .* is an image of shape"),
        ("test_gymnasium:Images", {"observation_keys": ["camera"]}, "is an image of shape"),
    ],
)
def test_an_environment_that_does_not_fit(address, keywords, message):
    with pytest.raises(UserError, match=message):
        GymnasiumEnvironment(address, **({"max_episode_steps": 20} | keywords))
    GymnasiumEnvironment("test_gymnasium:Images", max_episode_steps=9, observation_keys=["state"])


def test_what_success_is_must_be_said():
    env = walk(arguments={"name": "arrived"})
    env.reset(0)
    with pytest.raises(UserError, match=r"success_key: missing, and info of .* has arrived; name"):
        env.step(UP)
    env = walk(success_key="there")
    env.reset(0)
    with pytest.raises(UserError, match=r"success_key: found 'there', and info of .* is_success"):
        env.step(UP)


def test_ids_that_importing_a_module_registers():
    address = "test_gymnasium:TestWalk-v0"
    gymnasium.register("TestWalk-v0", entry_point=WALK, max_episode_steps=7)
    try:
        env = GymnasiumEnvironment(address)
        env.reset(0)
        assert [env.step(UP).truncated for _ in range(7)] == [False] * 6 + [True]
    finally:
        gymnasium.registry.pop("TestWalk-v0")


@pytest.fixture
def tidy(monkeypatch):
    """What a plugin and a script leave in this process."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(registry, "_imported", {})
    known = set(gymnasium.registry)
    yield
    for name in set(gymnasium.registry) - known:
        gymnasium.registry.pop(name)


@pytest.mark.parametrize("name", ["TestPlugin-v0", "TestPlugin"])
@pytest.mark.usefixtures("tidy")
def test_an_id_that_a_plugin_registers_is_known_in_other_processes(tmp_path, name):
    text = "import gymnasium\n"
    text += f'gymnasium.register("TestPlugin-v0", entry_point="{WALK}", max_episode_steps=7)\n'
    (tmp_path / "registers_walk.py").write_text(text)
    registry.load_plugin("registers_walk", tmp_path)
    try:
        settings = GymnasiumEnvironmentSettings.model_validate({"id": f"gymnasium:{name}"})
        players = open_players(build_environment(settings), 1, 1, 20.0)
        assert players[0].observation_size == walk().observation_size
        close_players(players)
    finally:
        sys.modules.pop("registers_walk")


@pytest.mark.usefixtures("tidy")
def test_an_id_of_a_script_alone_is_said_to_be_unknown_elsewhere():
    gymnasium.register("TestOwn-v0", entry_point=WALK, max_episode_steps=7)
    settings = GymnasiumEnvironmentSettings.model_validate({"id": "gymnasium:TestOwn-v0"})
    make = build_environment(settings)
    make().close()
    with pytest.raises(UserError, match=r"known here, and not in the processes .*under plugins"):
        open_players(make, 1, 1, 20.0)


@pytest.mark.usefixtures("tidy")
def test_a_plugin_that_fails_elsewhere_is_named(tmp_path, monkeypatch):
    (tmp_path / "registers_once.py").write_text("import os\nassert 'ONCE' in os.environ\n")
    monkeypatch.setenv("ONCE", "1")
    registry.load_plugin("registers_once", tmp_path)
    monkeypatch.delenv("ONCE")
    settings = GymnasiumEnvironmentSettings.model_validate(
        {"id": f"gymnasium:{WALK}", "max_episode_steps": 9}
    )
    with pytest.raises(UserError, match=r'plugin "registers_once" does not import in the process'):
        open_players(build_environment(settings), 1, 1, 20.0)
    sys.modules.pop("registers_once")


def test_the_keys_of_a_file_reach_the_environment():
    settings = GymnasiumEnvironmentSettings.model_validate(
        {
            "id": f"gymnasium:{WALK}",
            "arguments": {"name": "arrived"},
            "max_episode_steps": 9,
            "observation_keys": ["position"],
            "success_key": "arrived",
            "reward": "sparse",
            "terminate_at_success": True,
        }
    )
    env = build_environment(settings)()
    assert env.observation_size == 1
    env.reset(1)
    steps = [env.step(UP)]
    while not steps[-1].done:
        steps.append(env.step(UP))
    assert (steps[-1].terminated, steps[-1].success, steps[-1].reward) == (True, True, 0.0)


def test_the_passport_says_what_counts_as_success():
    rules = [
        GymnasiumEnvironmentSettings.model_validate(
            {"id": "gymnasium:Reach-v1"} | keys
        ).success_rule
        for keys in ({"success_return": -300.0}, {"success_key": "arrived"}, {})
    ]
    assert rules[0] == "a return of at least -300 at an episode's last step"
    assert rules[1] == "arrived in info of an episode's last step"
    assert rules[2] == "success, or is_success, in info of an episode's last step"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('id = "gymnasium:"', r'environment.id: found "gymnasium:"; write "gymnasium:" and an id'),
        (
            'id = "gymnasium:Pendulum-v1"\nsuccess_key = "a"\nsuccess_return = 1.0',
            "environment.success_return: found 1.0 beside success_key; write one of the two",
        ),
        (
            'id = "gymnasium:Pendulum-v1"\nsuccess_return = -9.0\nterminate_at_success = true',
            "terminate_at_success: found true, but a success_return of 0 or less is reached before",
        ),
        (
            'id = "gymnasium:Pendulum-v1"\nsuccess_return = 0.0\nreward = "sparse"',
            r'success_return: found 0.0 beside reward = "sparse", but .*; name a success_key',
        ),
    ],
)
def test_the_keys_are_checked(keys, message, tmp_path):
    (tmp_path / "mine.toml").write_text(f"[environment]\n{keys}\n")
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "mine.toml")
