"""Walking in directions that are told: the task that an expert of OGBench's mazes learns."""

from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from qamx.envs.base import GlobalRandomness, Step
from qamx.envs.ogbench import ignore_rendering_news
from qamx.envs.rendering import Image, MujocoView, behind

Walker = Literal["ant", "humanoid"]

RESAMPLED = {"ant": 100, "humanoid": 200}
"""Steps after which another direction is drawn."""


class WalkEnvironment:
    """An ant or a humanoid on open ground, told a new direction every so many steps.

    An observation is the walker's own, without its place on the ground, and the direction's two
    entries behind it. The ant's reward is the way that it went in the direction, in metres; the
    humanoid's weighs that by how upright it stands. A step counts as a success if the walker went
    that way and did not fall.

    **Arguments:** `walker` is `ant` or `humanoid`.

    **Source:** OGBench (Park et al., arXiv 2410.20092), `online-ant-xy-v0` and
    `online-humanoid-xy-v0`.
    """

    def __init__(self, walker: Walker):
        # The wrapper draws directions from NumPy's global state, the first when it is made.
        self._randomness = GlobalRandomness(0)
        with self._randomness:
            self._env = _make(walker)
        self.observation_size: int = self._env.observation_space.shape[0]
        self.action_size: int = self._env.action_space.shape[0]
        self._view: MujocoView | None = None

    @property
    def steps_per_second(self) -> float:
        return 1.0 / self._env.unwrapped.dt

    def reset(self, seed: int) -> Float[np.ndarray, " obs"]:
        self._randomness = GlobalRandomness(seed)
        with self._randomness:
            observation, _ = self._env.reset(seed=seed)
        return np.asarray(observation, np.float32)

    def step(self, action: Float[np.ndarray, " act"]) -> Step:
        before = self._position()
        with self._randomness:
            observation, reward, terminated, truncated, info = self._env.step(action)
        ahead = float((info["xy"] - before) @ info["direction"])
        return Step(
            np.asarray(observation, np.float32),
            float(reward),
            bool(terminated),
            bool(truncated),
            ahead > 0.0 and not terminated,
        )

    def render(self, size: int) -> Image:
        inner = self._env.unwrapped
        if self._view is None:
            self._view = MujocoView(inner, behind(inner, "torso", 6.0), 0.75, shadows=True)
        return self._view.image(size)

    def close(self) -> None:
        if self._view is not None:
            self._view.close()
        self._env.close()

    def _position(self) -> Float[np.ndarray, "2"]:
        return self._env.unwrapped.data.qpos[:2].copy()


def _make(walker: Walker) -> Any:
    ignore_rendering_news()
    import gymnasium
    from ogbench.online_locomotion.wrappers import DMCHumanoidXYWrapper, GymXYWrapper

    wrap = {"ant": GymXYWrapper, "humanoid": DMCHumanoidXYWrapper}[walker]
    env = gymnasium.make(f"ogbench.online_locomotion:online-{walker}-v0", disable_env_checker=True)
    return wrap(env, resample_interval=RESAMPLED[walker])
