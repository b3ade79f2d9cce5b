"""Environments with Gymnasium's interface."""

import sys
from decimal import Decimal
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from qamx import registry
from qamx.building import build_environment, in_policy_units
from qamx.config import ConfigError, load
from qamx.config.datasets import NpzDataSettings
from qamx.config.environments import GymnasiumEnvironmentSettings
from qamx.data.formats.episodes import EpisodeReader
from qamx.data.formats.source import EpisodicData
from qamx.envs import Step, close_envs, open_envs
from qamx.envs.gymnasium import GymnasiumEnvironment
from qamx.envs.protocol import EnvError
from qamx.envs.spaces import is_image
from qamx.errors import UserError
from qamx.normalisation import Units


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


class Photographs(Walk):
    observation_space = Box(0, 1, (84, 84, 3))


class Choices(Walk):
    action_space = Discrete(3)


class Whole(Walk):
    action_space = Box(-5, 5, (1,), np.int64)


class Nothing(Walk):
    action_space = observation_space = None


def leave():
    sys.exit(0)


def several() -> Any:
    return gymnasium.vector.SyncVectorEnv([Walk, Walk])


class Tokens(Walk):
    observation_space = Discrete(5)


@pytest.mark.parametrize(
    ("address", "keywords", "message"),
    [
        ("Pendulm-v1", {}, r"found 'Pendulm-v1', which cannot be made \(NameNotFound"),
        ("nowhere:Env", {}, r"found 'nowhere:Env', which cannot be made \(ModuleNotFoundError"),
        ("test_gymnasium:leave", {}, r"cannot be made \(RuntimeError: it called sys.exit\(0\)"),
        ("test_gymnasium:Run", {}, r"cannot be made \(AttributeError"),
        (WALK, {"arguments": {"speed": 2}}, r"cannot be made \(TypeError: .*speed"),
        (WALK, {"max_episode_steps": None}, r"environment.max_episode_steps: missing, and test_"),
        ("test_gymnasium:Choices", {}, r"the action space of .* is Discrete\(3\); qamx needs"),
        (
            "test_gymnasium:Whole",
            {},
            r"action space of .*int64\), whose entries are no real numbers",
        ),
        ("test_gymnasium:Nothing", {}, r"the observation space of .* is None; qamx needs a Box"),
        (
            "test_gymnasium:Photographs",
            {},
            r"the observation space of .* is an image of shape \(84",
        ),
        ("test_gymnasium:several", {}, "several makes a SyncVectorEnv, which steps several env"),
        ("test_gymnasium:Tokens", {}, r"the observation space of .* is Discrete\(5\)"),
        ("test_gymnasium:Images", {}, r"the observation camera of .* is an image of shape"),
        ("test_gymnasium:Images", {"observation_keys": ["camera"]}, "is an image of shape"),
    ],
)
def test_an_environment_that_does_not_fit(address, keywords, message):
    with pytest.raises(UserError, match=message):
        GymnasiumEnvironment(address, **({"max_episode_steps": 20} | keywords))
    GymnasiumEnvironment("test_gymnasium:Images", max_episode_steps=9, observation_keys=["state"])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"arguments": {"name": "arrived"}},
            r"success_key: missing, and info of .* has arrived; name",
        ),
        ({"success_key": "there"}, r"success_key: found 'there', and info of .* is_success"),
    ],
)
def test_what_success_is_must_be_said_by_an_episode_s_end(keywords, message):
    env = walk(**keywords)
    env.reset(0)
    assert {env.step(UP).success for _ in range(19)} == {None}
    with pytest.raises(UserError, match=message):
        env.step(UP)


class Says(Walk):
    """Returns what it is told to in the place of one part of a step, or of the step."""

    def __init__(self, part: str, value: Any, at: int = 1):
        super().__init__()
        self._part, self._value, self._at, self._steps = part, value, at, 0

    def step(self, action: Any) -> Any:
        names = ("observation", "reward", "terminated", "truncated", "info")
        step: dict[str, Any] = dict(zip(names, super().step(action), strict=True))
        self._steps += 1
        if self._steps < self._at:
            return (*step.values(),)
        if self._part == "step":
            return self._value
        if self._part in step["observation"]:
            step["observation"][self._part] = self._value
        elif self._part == "success":
            step["info"] = {"success": self._value}
        else:
            step[self._part] = self._value
        return (*step.values(),)


def says(part: str, value: Any, **keywords: Any) -> Step:
    arguments = {"part": part, "value": value}
    env = GymnasiumEnvironment(SAYS, max_episode_steps=9, arguments=arguments, **keywords)
    env.reset(0)
    return env.step(UP)


SAYS = "test_gymnasium:Says"


@pytest.mark.parametrize("wrapped", [False, True])
def test_success_may_be_said_at_the_end_alone(wrapped):
    address = SAYS
    if wrapped:
        gymnasium.register("Late-v0", entry_point=SAYS, max_episode_steps=3)
        address = "Late-v0"
    arguments = {"part": "info", "value": {}, "at": 1}
    late = GymnasiumEnvironment(
        address,
        max_episode_steps=None if wrapped else 3,
        arguments=arguments,
        success_key="solved",
        sparse=True,
    )
    assert late.max_episode_steps == 3
    late.reset(0)
    steps = [late.step(UP), late.step(UP)]
    arguments["value"]["solved"] = np.array([True])
    steps.append(late.step(UP))
    gymnasium.registry.pop("Late-v0", None)
    assert [step.success for step in steps] == [None, None, True]
    assert [step.reward for step in steps] == [-1.0, -1.0, 0.0]
    assert steps[-1].truncated


@pytest.mark.parametrize(
    ("value", "solved"),
    [
        (True, True),
        (np.False_, False),
        (0.5, True),
        (0, False),
        (-1, False),
        (np.array(1.0), True),
        (np.array([False]), False),
        ([True, False], False),
        (np.ones((2, 2)), True),
        ({"task": False}, False),
        ({"task": True, "grasp": {"left": 1, "right": 0}}, False),
        ({"task": np.array([1.0]), "grasp": {"left": True}}, True),
        (Decimal("0.5"), True),
    ],
)
def test_success_is_a_number_above_0_and_all_of_several(value, solved):
    assert says("success", value).success is solved


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"found None"),
        ("yes", r"found 'yes' \(str\); give True or a number above 0 where the task is solved"),
        (float("nan"), "found nan"),
        (object(), "found <object"),
        ([], r"found \[\]"),
        (np.zeros(0), r"found an array of shape \(0,\) and type float64"),
        (np.array(["a", "b"]), r"found an array of shape \(2,\) and type <U1"),
        ({}, "found a dictionary without entries"),
        ({"task": True, "grasp": {"left": None}}, r"entry 'grasp.left': found None"),
        ({1: None, "task": True}, r"entry '1': found None"),
    ],
)
def test_a_success_that_is_none_is_refused(value, message):
    with pytest.raises(UserError, match=rf"info\['success'\] of {SAYS}.*{message}"):
        says("success", value)


@pytest.mark.parametrize("value", [{"a": {"b": True}, "a.b": False}, {1: True, "1": False}])
def test_a_name_that_stands_twice_is_refused(value):
    with pytest.raises(UserError, match=r"^entry '(a\.b|1)': two entries of a dictionary"):
        says("success", value)


@pytest.mark.parametrize(
    ("part", "value", "name", "found"),
    [
        ("reward", np.array([2.5]), "reward", 2.5),
        ("reward", np.array(2), "reward", 2.0),
        ("reward", np.float16(0.5), "reward", 0.5),
        ("reward", True, "reward", 1.0),
        ("reward", Decimal("2.5"), "reward", 2.5),
        ("terminated", np.array([True]), "terminated", True),
        ("terminated", 0, "terminated", False),
        ("truncated", np.True_, "truncated", True),
        ("goal", [[1], [2]], "observation", [0, 1, 2, 3]),
        ("goal", np.array([[1], [2]], np.int64), "observation", [0, 1, 2, 3]),
        ("goal", np.ma.array([[1], [2]], mask=False), "observation", [0, 1, 2, 3]),
    ],
)
def test_what_a_step_returns_becomes_numbers(part, value, name, found):
    step = getattr(says(part, value), name)
    if name != "observation":
        assert step == found
        assert type(step) is type(found)
        return
    np.testing.assert_array_equal(step[:3], found[:3])
    assert step.dtype == np.float32


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("reward", np.zeros(3), r"a reward that is an array of shape \(3,\) and type float64"),
        ("reward", np.zeros((1, 1)), r"a reward that is array\(\[\[0\.\]\]\)"),
        ("reward", None, r"a reward that is None \(NoneType\); return one number"),
        ("reward", "1", r"a reward that is '1' \(str\)"),
        ("terminated", None, "terminated that is None .*; return True or False"),
        ("terminated", np.zeros(2, bool), r"terminated that is an array of shape \(2,\)"),
        ("truncated", 0.5, "truncated that is 0.5"),
        ("truncated", float("nan"), "truncated that is nan"),
        ("info", None, "an info that is None .*; info is a dict"),
        ("info", [], r"an info that is \[\]"),
        ("step", (np.zeros(4), 0.0, False, {}), r"4 values; return \(observation, reward, term"),
        ("step", None, "None .*; return"),
        (
            "observation",
            np.zeros(4),
            r"of shape \(4,\) .*must be a dictionary with camera, goal, p",
        ),
        ("observation", {"goal": np.zeros((2, 1))}, "an observation without 'camera'; there are g"),
        ("goal", np.zeros(2), r"observation 'goal' that is .* \(2,\) .*numbers of shape \(2, 1\)"),
        ("goal", np.array([["a"], ["b"]]), r"shape \(2, 1\) and type <U1; it must be numbers of"),
        ("goal", [[None], [1]], r"observation 'goal' that is \[\[None\], \[1\]\]"),
        (
            "goal",
            np.ma.array([[1.0], [2.0]], mask=[[False], [True]]),
            r"observation 'goal' that is a masked array of shape \(2, 1\)",
        ),
        ("reward", np.ma.masked, r"a reward that is masked \(MaskedConstant\)"),
        ("position", np.zeros(3), r"'position' that is an array of shape \(3,\)"),
    ],
)
def test_what_else_a_step_returns_is_refused(part, value, message):
    with pytest.raises(UserError, match=rf"^environment.id: its step returned .*{message}"):
        says(part, value, success_return=1.0)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("reward", float("nan"), "a reward of nan"),
        ("reward", 1e39, r"a reward of 1e\+39"),
        ("goal", np.array([[0.0], [np.inf]]), "an observation 'goal' with inf in entry 1"),
        ("position", 1e39, r"'position' with 1e\+39 in entry 0"),
    ],
)
def test_what_is_not_finite_is_the_environment_s_failure(part, value, message):
    with pytest.raises(EnvError, match=rf"its step returned .*{message}, which is not finite"):
        says(part, value, success_return=1.0)


class Plain(gymnasium.Env):
    """A point that returns its own buffer, changes the action it gets and keeps it."""

    observation_space = Box(-9, 9, (2,))
    action_space = Box(-1, 1, ())
    first: Any = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._x = np.zeros(2, np.float32)
        return (self._x, {}) if self.first is None else self.first

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        action *= 0.5
        self._x += action
        return self._x, 0.0, False, False, {"success": False}


class Bare(Plain):
    first = np.zeros(2)


class Short(Plain):
    first = (np.zeros(3), {})


class Unseeded(Plain):
    reset: Any = lambda self: (np.zeros(2), {})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Bare", r"its reset returned an array of shape \(2,\) .*; return \(observation, info\)"),
        ("Short", r"its reset returned an observation .* \(3,\) .*must be numbers of shape \(2,\)"),
        ("Unseeded", r"reset of .*Unseeded takes no seed \(.*\); write reset\(self, \*, seed=None"),
    ],
)
def test_what_a_reset_must_return(name, message):
    with pytest.raises(UserError, match=message):
        GymnasiumEnvironment(f"test_gymnasium:{name}", max_episode_steps=9).reset(0)


def test_nothing_is_shared_with_the_environment():
    env = GymnasiumEnvironment("test_gymnasium:Plain", max_episode_steps=9)
    action = np.ones(1, np.float32)
    action.setflags(write=False)
    seen = [env.reset(0), *(env.step(action).observation for _ in range(2))]
    np.testing.assert_array_equal(seen, [[0, 0], [0.5, 0.5], [1, 1]])


class Bounded(Plain):
    def __init__(self, low: Any, high: Any, dtype: Any = np.float64, shape: Any = (2, 1)):
        low, high = (np.full(shape, bound, dtype) for bound in (low, high))
        self.action_space = Box(low, high, dtype=dtype)

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        assert action.flags.writeable
        return super().reset()[0], 0.0, False, False, {"success": False}


ENDS = np.array([-1.0, 1.0], np.float32)
FAR, NONE = 3e38 * ENDS, np.zeros(0, np.float32)
ROUNDED = (0.05, 0.1, 0.2, 0.3, 0.4, 0.8, 1.2, float(np.pi), 1e-50, 2.0)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        *((-bound, bound, np.float64) for bound in ROUNDED),
        *((bound, 2.1 * bound, np.float64) for bound in ROUNDED if bound > 1e-9),
        (-1e39, 1e39, np.float64),
        (-np.inf, 0.1, np.float64),
        (0.1, 0.1, np.float64),
        (-0.1, 0.1, np.float16),
        (-0.1, 0.1, np.float32),
    ],
)
def test_actions_stay_inside_bounds_of_any_type(low, high, dtype):
    arguments = {"low": low, "high": high, "dtype": dtype}
    env = GymnasiumEnvironment("test_gymnasium:Bounded", max_episode_steps=99, arguments=arguments)
    assert env.action_low.dtype == env.action_high.dtype == np.float32
    assert env.action_low.shape == (2,)
    space, inside = env._env.action_space, (env.action_low, env.action_high)
    if low < high:
        assert (inside[0] >= space.low.ravel()).all()
        assert (inside[1] <= space.high.ravel()).all()
        largest = float(np.finfo(np.float32).max)
        bounds = [max(low, -largest) if np.isfinite(low) else low, min(high, largest)]
        rounding = 1e-3 if dtype == np.float16 else 1.2e-7
        np.testing.assert_allclose([one[0] for one in inside], bounds, rtol=rounding, atol=1e-44)
    env.reset(0)
    for raw in (*inside, FAR):
        env.step(raw)
    units = Units(NONE, NONE, *inside)
    if high - low < 1e38:
        for ends in (ENDS, 1.0001 * ENDS, np.ones(2)):
            played = units.to_environment(ends)
            assert played.dtype == np.float32
            assert ((played >= inside[0]) & (played <= inside[1])).all()
            env.step(played)


@pytest.mark.parametrize("bound", [np.inf, 1e39, 3e38])
def test_bounds_that_a_float32_cannot_span_are_none(bound):
    settings = GymnasiumEnvironmentSettings.model_validate(
        {
            "id": "gymnasium:test_gymnasium:Bounded",
            "max_episode_steps": 9,
            "arguments": {"low": -bound, "high": bound},
        }
    )
    data, nowhere = NpzDataSettings(source="npz:none"), EpisodicData([], EpisodeReader())
    with pytest.raises(UserError, match=r"data.scale_actions: .*Bounded have no bounds"):
        in_policy_units(nowhere, build_environment(settings), data, settings)


@pytest.mark.parametrize(
    ("shape", "dtype", "image"),
    [
        ((84, 84, 3), np.float32, True),
        ((84, 84, 3), np.uint8, True),
        ((3, 84, 84), np.float64, True),
        ((8, 8, 1), np.float32, True),
        ((84, 84), np.uint8, True),
        ((48, 64), np.uint16, True),
        ((84, 84), np.float32, True),
        ((84, 84), bool, True),
        ((4, 84, 84, 3), np.float32, True),
        ((4, 3, 84, 84), np.uint8, True),
        ((9, 84, 84), np.float32, True),
        ((84, 84, 12), np.float32, True),
        ((4,), np.float32, False),
        ((784,), np.uint8, False),
        ((), np.float32, False),
        ((3, 3), np.float32, False),
        ((20, 3, 3), np.float32, False),
        ((1024, 3), np.float32, False),
        ((50, 39), np.float32, False),
        ((8, 8), np.int64, False),
        ((2, 6, 7), np.int8, False),
    ],
)
def test_an_image_is_told_by_its_shape(shape, dtype, image):
    assert is_image(shape, dtype) is image


def test_the_time_limit_is_the_shortest_there_is():
    def limit(address, steps=None):
        keywords = {"max_episode_steps": steps, "success_return": 0.0}
        return GymnasiumEnvironment(address, **keywords).max_episode_steps

    assert (limit("Pendulum-v1"), limit("Pendulum-v1", 300)) == (200, 300)
    assert (limit("test_gymnasium:limited"), limit("test_gymnasium:limited", 9)) == (5, 5)
    assert limit("test_gymnasium:limited", 3) == 3


def limited() -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(Plain(), 5)


def test_four_values_of_a_registered_environment_are_refused_too():
    gymnasium.register("Four-v0", entry_point=SAYS, max_episode_steps=7)
    try:
        env = GymnasiumEnvironment("Four-v0", arguments={"part": "step", "value": (0, 0, 0, 0)})
        env.reset(0)
        with pytest.raises(UserError, match=r"its step returned 4 values; return \(observation"):
            env.step(UP)
    finally:
        gymnasium.registry.pop("Four-v0")


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
        players = open_envs(build_environment(settings), 1, 1, 20.0)
        assert players[0].observation_size == walk().observation_size
        close_envs(players)
    finally:
        sys.modules.pop("registers_walk")


@pytest.mark.usefixtures("tidy")
def test_an_id_of_a_script_alone_is_said_to_be_unknown_elsewhere():
    gymnasium.register("TestOwn-v0", entry_point=WALK, max_episode_steps=7)
    settings = GymnasiumEnvironmentSettings.model_validate({"id": "gymnasium:TestOwn-v0"})
    make = build_environment(settings)
    make().close()
    with pytest.raises(UserError, match=r"known here, and not in the processes .*under plugins"):
        open_envs(make, 1, 1, 20.0)


@pytest.mark.usefixtures("tidy")
def test_a_plugin_that_fails_elsewhere_is_named_where_it_is_needed(tmp_path, monkeypatch):
    text = "import os\nassert 'ONCE' in os.environ\nimport gymnasium\n"
    text += f'gymnasium.register("TestOnce-v0", entry_point="{WALK}", max_episode_steps=7)\n'
    (tmp_path / "registers_once.py").write_text(text)
    monkeypatch.setenv("ONCE", "1")
    registry.load_plugin("registers_once", tmp_path)
    monkeypatch.delenv("ONCE")
    limit = {"max_episode_steps": 9}
    needed, not_needed = (
        build_environment(
            GymnasiumEnvironmentSettings.model_validate({"id": f"gymnasium:{name}"} | limit)
        )
        for name in ("TestOnce-v0", WALK)
    )
    try:
        with pytest.raises(UserError, match=r'plugin "registers_once" does not import in the proc'):
            open_envs(needed, 1, 1, 20.0)
        close_envs(open_envs(not_needed, 1, 1, 20.0))
    finally:
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
