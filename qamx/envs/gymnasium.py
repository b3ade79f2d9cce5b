"""Environments with Gymnasium's interface."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from qamx.envs.base import Environment, GlobalRandomness, Step
from qamx.envs.checked import flag, number, refused, shown, solved, vector
from qamx.envs.rendering import Image, import_simulators
from qamx.envs.spaces import (
    PLAIN,
    float32_bounds,
    named_leaves,
    require_box,
    require_vector,
    select_keys,
)
from qamx.errors import UserError, named, no_exit

SUCCESS_KEYS = ("success", "is_success")
"""The usual keys of success in `info`."""

STEP = ("observation", "reward", "terminated", "truncated", "info")


class GymnasiumEnvironment:
    """An environment of Gymnasium or with its interface, observed as one vector.

    Actions have the units of its action space, whose bounds are `action_low` and `action_high`: the
    smallest and the largest float32 inside. The environment gets a copy of each action, of its
    space's shape and type and inside its bounds. Its results are converted and copied.

    **Arguments:**

    - `address`: an id that Gymnasium knows (`Pendulum-v1`), one that importing a module
      registers (`gymnasium_robotics:FetchReach-v4`), or a class or function that makes the
      environment (`my_package.envs:MyEnv`).
    - `arguments`: passed to it by name.
    - `max_episode_steps`: the time limit; by default the environment's own.
    - `observation_keys`: the entries of dictionary observations (dotted where nested), in the
      order of the vector; by default all, in alphabetical order.
    - `success_key`: the entry of `info` that is true where the task is solved.
    - `success_return`: instead, the return from which on an episode counts as solved.
    - `sparse`: the reward is 0 where the task is solved, else -1.
    - `ends_at_success`: an episode ends where the task is solved, and nothing is bootstrapped.

    **Raises:** `UserError` if there is no such environment, it has other than box spaces or no
    time limit; in `reset` and `step`, for results that Gymnasium's interface does not allow, and
    at the end of an episode without a success.
    """

    def __init__(
        self,
        address: str,
        *,
        arguments: Mapping[str, Any] | None = None,
        max_episode_steps: int | None = None,
        observation_keys: Sequence[str] | None = None,
        success_key: str | None = None,
        success_return: float | None = None,
        sparse: bool = False,
        ends_at_success: bool = False,
    ):
        self._address = address
        self._env, self.max_episode_steps = _make(address, dict(arguments or {}), max_episode_steps)
        self._success_key, self._success_return = success_key, success_return
        self._sparse, self._ends_at_success = sparse, ends_at_success
        self._randomness, self._return, self._steps = GlobalRandomness(0), 0.0, 0
        # A space of dictionaries is a mapping too.
        self._spaces = named_leaves(getattr(self._env, "observation_space", None))
        self._keys = select_keys(self._spaces, observation_keys, "environment.observation_keys")
        for key in self._keys:
            require_vector(address, key, self._spaces[key])
        self.observation_size = sum(int(np.prod(self._spaces[key].shape)) for key in self._keys)
        self._actions: Any = getattr(self._env, "action_space", None)
        require_box(address, "action", self._actions, real=True)
        self.action_low, self.action_high = float32_bounds(self._actions.low, self._actions.high)
        self.action_size = len(self.action_low)

    def reset(self, seed: int) -> Float[np.ndarray, " obs"]:
        self._env.action_space.seed(seed % 2**31)
        self._randomness, self._return, self._steps = GlobalRandomness(seed), 0.0, 0
        try:
            with self._randomness:
                answer = self._env.reset(seed=seed % 2**31)
        except TypeError as error:
            if "unexpected keyword argument 'seed'" not in str(error):
                raise
            raise UserError(
                f"environment.id: reset of {self._address} takes no seed ({error}); write "
                "reset(self, *, seed=None, options=None), and draw from what the seed determines"
            ) from error
        observation, _ = _parts("reset", answer, ("observation", "info"))
        return self._vector("reset", observation)

    def step(self, action: Float[np.ndarray, " act"]) -> Step:
        # Inside the space of the environment: no float32 may equal its bounds.
        space = self._actions
        own = np.clip(np.asarray(action, np.float32).reshape(space.shape), space.low, space.high)
        with self._randomness:
            answer = self._env.step(np.array(own, space.dtype))
        observation, earned, terminated, truncated, info = _parts("step", answer, STEP)
        reward = number("step", "a reward", earned)
        terminated = flag("step", "terminated", terminated)
        truncated = flag("step", "truncated", truncated)
        self._return += reward
        self._steps += 1
        success = self._is_solved(info)
        if self._sparse:
            reward = 0.0 if success else -1.0
        if self._ends_at_success and success:
            terminated = True
        if self._steps >= self.max_episode_steps:
            truncated = True
        if success is None and (terminated or truncated):
            raise self._unknown_success(info)
        return Step(self._vector("step", observation), reward, terminated, truncated, success)

    @property
    def steps_per_second(self) -> float | None:
        rate = getattr(self._env, "metadata", {}).get("render_fps")
        return None if rate is None else float(rate)

    def render(self, size: int) -> Image:
        """The environment's image, in its size, if it was made with `render_mode = "rgb_array"`.

        **Raises:** `UserError` if it draws nothing.
        """
        image = self._env.render()
        if not (isinstance(image, np.ndarray) and image.ndim == 3 and image.dtype == np.uint8):
            raise UserError(
                f"environment.id: {self._address} renders {type(image).__name__}, not an image; "
                'it must take render_mode = "rgb_array" and return one'
            )
        return image[..., :3]

    def close(self) -> None:
        self._env.close()

    def _vector(self, call: str, observation: Any) -> Float[np.ndarray, " obs"]:
        if PLAIN in self._keys:
            return vector(call, "an observation", observation, self._spaces[PLAIN].shape)
        leaves = named_leaves(observation)
        if PLAIN in leaves:
            wanted = f"it must be a dictionary with {', '.join(self._keys)}"
            raise refused(call, f"an observation that is {shown(observation)}", wanted)
        parts = []
        for key in self._keys:
            if key not in leaves:
                there = f"there are {', '.join(leaves) or 'no entries'}"
                raise refused(call, f"an observation without {key!r}", there)
            name, shape = f"an observation {key!r}", self._spaces[key].shape
            parts.append(vector(call, name, leaves[key], shape))
        return np.concatenate(parts)

    def _is_solved(self, info: Mapping[str, Any]) -> bool | None:
        """True where the task is solved, None where info does not tell."""
        if self._success_return is not None:
            return self._return >= self._success_return
        for key in SUCCESS_KEYS if self._success_key is None else (self._success_key,):
            if key in info:
                return solved(f"info[{key!r}] of {self._address}", info[key])
        return None

    def _unknown_success(self, info: Mapping[str, Any]) -> UserError:
        found = "missing" if self._success_key is None else f"found {self._success_key!r}"
        return UserError(
            f"environment.success_key: {found}, and info of {self._address} has "
            f"{', '.join(map(str, info)) or 'no entries'}; name the entry that says, at an "
            "episode's end at the latest, whether the task is solved, or write "
            "environment.success_return, the return from which on it is"
        )


def _make(address: str, arguments: dict[str, Any], given: int | None) -> tuple[Any, int]:
    """The environment, and its time limit in steps, which it need not apply."""
    import gymnasium

    import_simulators()
    try:
        with no_exit():
            module, colon, attribute = address.partition(":")
            imported = importlib.import_module(module) if colon else None
            if imported is None or attribute in gymnasium.registry:
                limit = {} if given is None else {"max_episode_steps": given}
                env = gymnasium.make(address, disable_env_checker=True, **limit, **arguments)
            else:
                env = getattr(imported, attribute)(**arguments)
    except Exception as error:  # the environment may raise anything
        raise UserError(
            f"environment.id: found {address!r}, which cannot be made "
            f"({named(error)}); write an id that Gymnasium knows, one with the "
            'module that registers it ("gymnasium:module:Name-v0"), or a class '
            '("gymnasium:module:Class")'
        ) from error
    if isinstance(env, gymnasium.vector.VectorEnv):
        env.close()
        raise UserError(
            f"environment.id: {address} makes a {type(env).__name__}, which steps several "
            "environments together; write what makes a single one"
        )
    limits = [given, getattr(getattr(env, "spec", None), "max_episode_steps", None)]
    if isinstance(env, gymnasium.wrappers.TimeLimit):
        # Steps are counted here, where a malformed result is refused.
        limits.append(env._max_episode_steps)
        env = env.env
    known = [limit for limit in limits if limit is not None]
    if not known:
        raise UserError(
            f"environment.max_episode_steps: missing, and {address} has no time limit of its own; "
            "write after how many steps an episode is cut, e.g. 1000"
        )
    return env, min(known)


def _parts(call: str, answer: Any, names: Sequence[str]) -> Sequence[Any]:
    """The values that `reset` or `step` returned, the last of them a dictionary."""
    remedy = f"return ({', '.join(names)}), as Gymnasium's interface has it"
    if not isinstance(answer, tuple | list):
        raise refused(call, shown(answer), remedy)
    if len(answer) != len(names):
        raise refused(call, f"{len(answer)} values", remedy)
    if not isinstance(answer[-1], Mapping):
        raise refused(call, f"an info that is {shown(answer[-1])}", f"{remedy}; info is a dict")
    return answer


def make_registered(name: str, make: Callable[[], Environment]) -> Environment:
    """Makes an environment whose id was registered in the process that chose it.

    **Raises:** `UserError` in a process without it.
    """
    if not is_registered(name):
        raise UserError(
            f"environment.id: found {name!r}, which is known here, and not in the processes that "
            "play it: a script's own names are the script's alone; register it in a module and "
            f'list that under plugins, write "gymnasium:MODULE:{name}" or '
            '"gymnasium:MODULE:CLASS", or write evaluation.workers = 0 (qamx eval: --workers 0)'
        )
    return make()


def is_registered(name: str) -> bool:
    """True if Gymnasium knows an id here, or a version of an id without one."""
    import gymnasium

    return any(name in (known, known.rpartition("-v")[0]) for known in gymnasium.registry)
