"""Environments with Gymnasium's interface."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from qamx.envs.base import Step
from qamx.envs.flatten import chosen, joined, named_leaves
from qamx.envs.randomness import GlobalRandomness
from qamx.envs.rendering import Image, import_simulators
from qamx.errors import UserError

SUCCESS_KEYS = ("success", "is_success")
"""Where an environment usually says in `info` that the task is solved."""


class GymnasiumEnvironment:
    """An environment of Gymnasium or with its interface, observed as one vector.

    Actions have the units of its action space, whose bounds are `action_low` and `action_high`.

    **Arguments:**

    - `address`: an id that Gymnasium knows (`Pendulum-v1`), one that importing a module
      registers (`gymnasium_robotics:FetchReach-v4`), or a class or function that makes the
      environment (`my_package.envs:MyEnv`).
    - `arguments`: passed to it by name.
    - `max_episode_steps`: the time limit; by default the environment's own.
    - `observation_keys`: the entries of dictionary observations (dotted where nested), in the
      order of the vector; by default all, in alphabetical order.
    - `success_key`: the entry of `info` that says whether the task is solved.
    - `success_return`: instead, the return from which on an episode counts as solved.
    - `sparse`: the reward is 0 where the task is solved, else -1.
    - `ends_at_success`: an episode ends where the task is solved, and nothing is bootstrapped.

    **Raises:** `UserError` if there is no such environment, it has other than box spaces or no
    time limit, or nothing says what success is.
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
        self._env = _make(address, dict(arguments or {}), max_episode_steps)
        self._success_key, self._success_return = success_key, success_return
        self._sparse, self._ends_at_success = sparse, ends_at_success
        self._randomness, self._return = GlobalRandomness(0), 0.0
        spaces = _observation_spaces(self._env.observation_space)
        self._keys = chosen(spaces, observation_keys, "environment.observation_keys")
        for key in self._keys:
            _require_vector(address, key, spaces[key])
        self.observation_size = sum(int(np.prod(spaces[key].shape)) for key in self._keys)
        actions = self._env.action_space
        _require_box(address, "action", actions)
        self._action_shape = actions.shape
        self.action_low = np.asarray(actions.low, np.float32).reshape(-1)
        self.action_high = np.asarray(actions.high, np.float32).reshape(-1)
        self.action_size = len(self.action_low)

    def reset(self, seed: int) -> Float[np.ndarray, " obs"]:
        self._env.action_space.seed(seed % 2**31)
        self._randomness, self._return = GlobalRandomness(seed), 0.0
        with self._randomness:
            observation, _ = self._env.reset(seed=seed % 2**31)
        return self._vector(observation)

    def step(self, action: Float[np.ndarray, " act"]) -> Step:
        with self._randomness:
            observation, reward, terminated, truncated, info = self._env.step(
                np.asarray(action, np.float32).reshape(self._action_shape)
            )
        self._return += float(reward)
        success = self._is_solved(info)
        if self._sparse:
            reward = float(success) - 1.0
        if self._ends_at_success and success:
            terminated = True
        return Step(
            self._vector(observation), float(reward), bool(terminated), bool(truncated), success
        )

    @property
    def steps_per_second(self) -> float | None:
        rate = getattr(self._env, "metadata", {}).get("render_fps")
        return None if rate is None else float(rate)

    def render(self, size: int) -> Image:
        """What the environment draws, in its own size, where it was made with the argument
        `render_mode = "rgb_array"`.

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

    def _vector(self, observation: Any) -> Float[np.ndarray, " obs"]:
        return joined(named_leaves(observation), self._keys)

    def _is_solved(self, info: Mapping[str, Any]) -> bool:
        if self._success_return is not None:
            return self._return >= self._success_return
        for key in SUCCESS_KEYS if self._success_key is None else (self._success_key,):
            if key in info:
                return bool(np.all(info[key]))
        named = "environment.success_key"
        found = "missing" if self._success_key is None else f"found {self._success_key!r}"
        raise UserError(
            f"{named}: {found}, and info of {self._address} has "
            f"{', '.join(map(str, info)) or 'no entries'}; name the entry that says whether the "
            "task is solved, or write environment.success_return, the return from which on it is"
        )


def _make(address: str, arguments: dict[str, Any], max_episode_steps: int | None) -> Any:
    import gymnasium

    import_simulators()
    try:
        maker = _entry_point(address)
        if maker is None:
            limit = {} if max_episode_steps is None else {"max_episode_steps": max_episode_steps}
            env = gymnasium.make(address, disable_env_checker=True, **limit, **arguments)
            max_episode_steps = max_episode_steps or getattr(env.spec, "max_episode_steps", None)
        else:
            env = maker(**arguments)
            if max_episode_steps is not None:
                env = gymnasium.wrappers.TimeLimit(env, max_episode_steps)
    except Exception as error:  # whatever the environment's own code raises
        raise UserError(
            f"environment.id: found {address!r}, which cannot be made "
            f"({type(error).__name__}: {error}); write an id that Gymnasium knows, one with the "
            'module that registers it ("gymnasium:module:Name-v0"), or a class '
            '("gymnasium:module:Class")'
        ) from error
    if max_episode_steps is None:
        raise UserError(
            f"environment.max_episode_steps: missing, and {address} has no time limit of its own; "
            "write after how many steps an episode is cut, e.g. 1000"
        )
    return env


def _entry_point(address: str) -> Any:
    """The class or function of `module:attribute`, None for an id that Gymnasium makes."""
    import gymnasium

    module, colon, attribute = address.partition(":")
    if not colon:
        return None
    found = importlib.import_module(module)
    return None if attribute in gymnasium.registry else getattr(found, attribute)


def _observation_spaces(space: Any, prefix: str = "") -> dict[str, Any]:
    """The spaces that an observation's space is made of, by dotted name, in alphabetical order."""
    from gymnasium.spaces import Dict

    if not isinstance(space, Dict):
        return {prefix.removesuffix("."): space}
    leaves: dict[str, Any] = {}
    for name in sorted(space.spaces):
        leaves |= _observation_spaces(space.spaces[name], f"{prefix}{name}.")
    return leaves


def _require_vector(address: str, name: str, space: Any) -> None:
    _require_box(address, f"observation {name!r}" if name else "observation", space)
    if space.dtype == np.uint8 and len(space.shape) >= 2:
        raise UserError(
            f"environment.id: the observation {name or 'space'} of {address} is an image of shape "
            f"{space.shape}; qamx learns from vectors: name other entries in "
            "environment.observation_keys, or wrap the environment in one that gives features"
        )


def _require_box(address: str, what: str, space: Any) -> None:
    from gymnasium.spaces import Box

    if not isinstance(space, Box):
        raise UserError(
            f"environment.id: the {what} space of {address} is {space}; qamx needs a Box of "
            "continuous numbers: wrap the environment in one that has it"
        )
