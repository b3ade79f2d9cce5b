"""Walking in commanded directions: the task of the experts of OGBench's mazes."""

from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from qamx.envs.base import GlobalRandomness, Step
from qamx.envs.ogbench import silence_gl_warnings
from qamx.envs.rendering import Image, MujocoView, tracking_camera

Walker = Literal["ant", "humanoid"]

RESAMPLED = {"ant": 100, "humanoid": 200}
"""Steps between two draws of a direction."""


class WalkEnvironment:
    """An ant or a humanoid on open ground, with a new commanded direction every 100 or 200 steps.

    An observation is the walker's, without its position, followed by the direction's two entries.
    The ant's reward is its progress in the direction, in metres; the humanoid's is weighed by its
    uprightness. A step is a success if the walker advanced in the direction and did not fall.

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
            self._view = MujocoView(inner, tracking_camera(inner, "torso", 6.0), 0.75, shadows=True)
        return self._view.image(size)

    def close(self) -> None:
        if self._view is not None:
            self._view.close()
        self._env.close()

    def _position(self) -> Float[np.ndarray, "2"]:
        return self._env.unwrapped.data.qpos[:2].copy()


def _make(walker: Walker) -> Any:
    silence_gl_warnings()
    import gymnasium
    from ogbench.online_locomotion.wrappers import DMCHumanoidXYWrapper, GymXYWrapper

    wrap = {"ant": GymXYWrapper, "humanoid": DMCHumanoidXYWrapper}[walker]
    env = gymnasium.make(f"ogbench.online_locomotion:online-{walker}-v0", disable_env_checker=True)
    return wrap(env, resample_interval=RESAMPLED[walker])
