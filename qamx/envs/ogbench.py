"""OGBench environments: its tasks, and its walkers told a direction."""

import contextlib
import warnings
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from qamx.envs.base import GlobalRandomness, Step
from qamx.envs.rendering import Image, MujocoView, import_simulators, top_camera, tracking_camera

Reward = Literal["default", "sparse"]


def make(environment: str, task: int) -> Any:
    """The Gymnasium environment of one task, e.g. `make("cube-double-play", 2)`."""
    silence_gl_warnings()
    import ogbench

    name = f"{environment}-singletask-task{task}-v0"
    return ogbench.make_env_and_datasets(name, env_only=True)


def silence_gl_warnings() -> None:
    """Silences the warnings of OGBench's environments about displays and bounds."""
    # Acting needs no rendering, and so no display. (Naming a backend in MUJOCO_GL would make its
    # absence an error.)
    warnings.filterwarnings("ignore", message=".*DISPLAY environment variable is missing.*")
    # OGBench's arm makes its action space at each use, and Gymnasium warns each time.
    warnings.filterwarnings("ignore", message=".*precision lowered by casting.*")
    import_simulators("dm_control._render")


def sparse(rewards: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """-1 until every subtask is solved, then 0."""
    return np.where(rewards != 0.0, -1.0, 0.0).astype(np.float32)


class OGBenchEnvironment:
    """One of the five tasks of an OGBench environment.

    **Arguments:** `environment` is an OGBench name with its kind of data, such as
    `cube-double-play`, `task` is 1 to 5, `reward` "default" or "sparse" (-1 until every subtask
    is solved, then 0).

    **Source:** OGBench (Park et al., arXiv 2410.20092).
    """

    def __init__(self, environment: str, task: int, reward: Reward = "default"):
        self._env = make(environment, task)
        self._sparse = reward == "sparse"
        # Only teleports draw from the global state in mid-episode; swapping it costs time.
        self._draws_in_steps = "teleport" in environment
        self._randomness = GlobalRandomness(0)
        self.observation_size: int = self._env.observation_space.shape[0]
        self.action_size: int = self._env.action_space.shape[0]
        self.max_episode_steps: int | None = self._env.spec.max_episode_steps
        self._view: MujocoView | None = None

    @property
    def steps_per_second(self) -> float:
        inner = self._env.unwrapped
        return 1.0 / (inner.control_timestep() if _is_arm(inner) else inner.dt)

    def reset(self, seed: int) -> Float[np.ndarray, " obs"]:
        self._env.unwrapped.action_space.seed(seed % 2**31)
        self._randomness = GlobalRandomness(seed)
        with self._randomness:
            observation, _ = self._env.reset(seed=seed)
        return np.asarray(observation, np.float32)

    def step(self, action: Float[np.ndarray, " act"]) -> Step:
        with self._randomness if self._draws_in_steps else contextlib.nullcontext():
            observation, reward, terminated, truncated, info = self._env.step(action)
        if self._sparse:
            reward = sparse(np.asarray(reward))
        return Step(
            np.asarray(observation, np.float32),
            float(reward),
            bool(terminated),
            bool(truncated),
            bool(info["success"]),
        )

    def render(self, size: int) -> Image:
        """The present state; the goals of cubes are transparent cubes, that of a maze is a disc."""
        if self._view is None:
            self._view = _view(self._env.unwrapped)
        return self._view.image(size)

    def close(self) -> None:
        if self._view is not None:
            self._view.close()
        self._env.close()


def _is_arm(inner: Any) -> bool:
    return not hasattr(inner, "maze_map")


def _view(inner: Any) -> MujocoView:
    """An arm and its table from the front, a maze from above."""
    if _is_arm(inner):
        return MujocoView(inner, "front", 0.75, shadows=True)
    rows, columns = inner.maze_map.shape
    # Half of the walls around the maze are left out.
    low, high = (
        np.array([inner.ij_to_xy((i, j))]).reshape(2) for i, j in ((0, 0), (rows - 1, columns - 1))
    )
    camera, aspect = top_camera(low, high, inner._maze_height * inner._maze_unit)
    return MujocoView(inner, camera, aspect, shadows=False)


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
