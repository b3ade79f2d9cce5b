"""OGBench environments: its tasks, and its walkers told a direction."""

import contextlib
import warnings
from abc import ABC, abstractmethod
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


class _Simulation(ABC):
    """A Gymnasium environment of OGBench, with random numbers of its own and a camera."""

    def __init__(self, env: Any, camera: Any, aspect: float, *, shadows: bool):
        self._env, self._randomness = env, GlobalRandomness(0)
        self._view = MujocoView(env.unwrapped, camera, aspect, shadows=shadows)
        self.observation_size: int = env.observation_space.shape[0]
        self.action_size: int = env.action_space.shape[0]

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

    @abstractmethod
    def step(self, action: Float[np.ndarray, " act"]) -> Step: ...

    def render(self, size: int) -> Image:
        """The present state; the goals of cubes are transparent cubes, that of a maze is a disc."""
        return self._view.image(size)

    def close(self) -> None:
        self._view.close()
        self._env.close()


def _is_arm(inner: Any) -> bool:
    return hasattr(inner, "control_timestep")


def _step(observation: Any, reward: Any, terminated: Any, truncated: Any, success: Any) -> Step:
    vector = np.asarray(observation, np.float32)
    return Step(vector, float(reward), bool(terminated), bool(truncated), bool(success))


class OGBenchEnvironment(_Simulation):
    """One of the five tasks of an OGBench environment.

    **Arguments:** `environment` is an OGBench name with its kind of data, such as
    `cube-double-play`, `task` is 1 to 5, `reward` "default" or "sparse" (-1 until every subtask
    is solved, then 0).

    **Source:** OGBench (Park et al., arXiv 2410.20092).
    """

    def __init__(self, environment: str, task: int, reward: Reward = "default"):
        env = make(environment, task)
        camera, aspect = _camera(env.unwrapped)
        super().__init__(env, camera, aspect, shadows=_is_arm(env.unwrapped))
        self._sparse = reward == "sparse"
        # Only teleports draw from the global state in mid-episode; swapping it costs time.
        self._draws_in_steps = "teleport" in environment
        self.max_episode_steps: int | None = env.spec.max_episode_steps

    def step(self, action: Float[np.ndarray, " act"]) -> Step:
        with self._randomness if self._draws_in_steps else contextlib.nullcontext():
            observation, reward, terminated, truncated, info = self._env.step(action)
        reward = sparse(np.asarray(reward)) if self._sparse else reward
        return _step(observation, reward, terminated, truncated, info["success"])


def _camera(inner: Any) -> tuple[Any, float]:
    """The camera, and height over width: an arm and its table from the front, a maze from above."""
    if _is_arm(inner):
        return "front", 0.75
    rows, columns = inner.maze_map.shape
    # Half of the walls around the maze are left out.
    low, high = (np.ravel(inner.ij_to_xy(place)) for place in ((0, 0), (rows - 1, columns - 1)))
    return top_camera(low, high, inner._maze_height * inner._maze_unit)


Walker = Literal["ant", "humanoid"]

RESAMPLED = {"ant": 100, "humanoid": 200}
"""Steps between two draws of a direction."""


class WalkEnvironment(_Simulation):
    """An ant or a humanoid on open ground, with a new commanded direction every 100 or 200 steps.

    An observation is the walker's, without its position, followed by the direction's two entries.
    The ant's reward is its progress in the direction, in metres; the humanoid's is weighed by its
    uprightness. A step is a success if the walker advanced in the direction and did not fall.

    **Arguments:** `walker` is `ant` or `humanoid`.

    **Source:** OGBench (Park et al., arXiv 2410.20092), `online-ant-xy-v0` and
    `online-humanoid-xy-v0`.
    """

    def __init__(self, walker: Walker):
        silence_gl_warnings()
        import gymnasium
        from ogbench.online_locomotion.wrappers import DMCHumanoidXYWrapper, GymXYWrapper

        name = f"ogbench.online_locomotion:online-{walker}-v0"
        wrap = {"ant": GymXYWrapper, "humanoid": DMCHumanoidXYWrapper}[walker]
        # The wrapper draws directions from NumPy's global state, the first when it is made.
        with GlobalRandomness(0):
            env = wrap(gymnasium.make(name, disable_env_checker=True), RESAMPLED[walker])
        camera = tracking_camera(env.unwrapped, "torso", 6.0)
        super().__init__(env, camera, 0.75, shadows=True)

    def step(self, action: Float[np.ndarray, " act"]) -> Step:
        before = self._env.unwrapped.data.qpos[:2].copy()
        with self._randomness:
            observation, reward, terminated, truncated, info = self._env.step(action)
        ahead = float((info["xy"] - before) @ info["direction"])
        return _step(observation, reward, terminated, truncated, ahead > 0.0 and not terminated)
