"""Scripted behaviour of the robot arm: OGBench's oracles with action noise."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from qamx.data.ogbench.catalogue import Dataset
from qamx.data.ogbench.rollout import Episode, EpisodeSeeds, Row

NoisyOracle = Callable[[Callable[[], np.ndarray]], np.ndarray]
"""Maps a call of the oracle to an action in [-1, 1]^5."""


class ActionNoise(Protocol):
    """Noise on the oracle's actions, its strength drawn for each episode."""

    def start(self, generator: np.random.Generator) -> NoisyOracle:
        """Draws the noise of one episode."""
        ...


class NoNoise:
    """The oracle's action, clipped: plan oracles have noise inside their plans."""

    def start(self, generator: np.random.Generator) -> NoisyOracle:
        return lambda oracle: _clip(oracle())


class NoisyActions:
    """Gaussian noise on the oracle's action, or a random action instead.

    $a = \\mathrm{clip}(a_{oracle} + \\xi \\, (1, 1, 1, 3, 10) \\odot \\varepsilon, -1, 1)$ with
    $\\xi \\sim U(0, 0.1)$ for each episode and $\\varepsilon \\sim N(0, I)$ for each step.

    **Arguments:**

    - `random_action`: the probability of a uniform action instead.

    Source: OGBench's `generate_manipspace.py`, data sets of type `noisy`.
    """

    largest_noise = 0.1
    noise_shape = (1.0, 1.0, 1.0, 3.0, 10.0)

    def __init__(self, random_action: float):
        self.random_action = random_action

    def start(self, generator: np.random.Generator) -> NoisyOracle:
        scale = generator.uniform(0.0, self.largest_noise) * np.asarray(self.noise_shape)

        def act(oracle: Callable[[], np.ndarray]) -> np.ndarray:
            # Without a call of the oracle, which counts its steps.
            if generator.random() < self.random_action:
                return _clip(generator.uniform(-1.0, 1.0, scale.shape))
            return _clip(oracle() + generator.normal(0.0, scale))

        return act


def _clip(action: np.ndarray) -> np.ndarray:
    # Rounded before it is taken, so that the stored action is the one that was taken.
    return np.clip(action, -1.0, 1.0).astype(np.float32)


Oracles = dict[str, Any]
"""An oracle for each `privileged/target_task`."""


def plan_oracles(environment: Any, tasks: tuple[str, ...], **settings: Any) -> Oracles:
    """Oracles that follow a plan with temporally correlated noise: the behaviour `play`."""
    from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
    from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
    from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

    kinds = {
        "cube": CubePlanOracle,
        "button": ButtonPlanOracle,
        "drawer": DrawerPlanOracle,
        "window": WindowPlanOracle,
    }
    noise = {"noise": 0.1, "noise_smoothing": 0.5}
    return {task: kinds[task](env=environment, **noise, **settings) for task in tasks}


def markov_oracles(environment: Any, tasks: tuple[str, ...], **settings: Any) -> Oracles:
    """Oracles that depend on the present state alone: the behaviour `noisy`."""
    from ogbench.manipspace.oracles.markov.button_markov import ButtonMarkovOracle
    from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle
    from ogbench.manipspace.oracles.markov.drawer_markov import DrawerMarkovOracle
    from ogbench.manipspace.oracles.markov.window_markov import WindowMarkovOracle

    kinds = {
        "cube": CubeMarkovOracle,
        "button": ButtonMarkovOracle,
        "drawer": DrawerMarkovOracle,
        "window": WindowMarkovOracle,
    }
    return {task: kinds[task](env=environment, min_norm=0.4, **settings) for task in tasks}


# The range, drawn from for each episode, of the probability that a cube's new target is on top of
# another cube; a half where a scene has other objects than cubes.
_STACKING = {
    "cube-single": (0.0, 0.0),
    "cube-double": (0.0, 0.25),
    "cube-triple": (0.05, 0.35),
    "cube-quadruple": (0.1, 0.5),
    "cube-octuple": (0.0, 0.35),
}
_STACKING_ELSEWHERE = (0.5, 0.5)
_CUBE_POSITION = slice(14, 17)  # in qpos, after six joints of the arm and eight of the gripper


def accept_all(episode: Episode) -> bool:
    """Accepts every episode."""
    return True


def cube_in_sight(episode: Episode) -> bool:
    """True if the scene's cube is in view throughout, or inside the drawer.

    Otherwise the image of a goal would not determine the goal. Positions in metres: y >= 0.29 is
    too far right; y <= -0.3 is too far left, except at the heights 0.06 to 0.08 inside the drawer.
    """
    position = episode["qpos"][:, _CUBE_POSITION]
    y, z = position[:, 1], position[:, 2]
    too_far_right = y >= 0.29
    too_far_left = (y <= -0.3) & ((z < 0.06) | (z > 0.08))
    return not np.any(too_far_right | too_far_left)


@dataclass(frozen=True)
class ManipulationDomain:
    """Settings of a family of manipulation environments.

    **Arguments:**

    - `tasks`: the kinds of object to be moved.
    - `random_action`: the probability of a random action in `noisy`.
    - `oracle_settings`: arguments for every oracle.
    - `accepts`: False for an episode to be drawn again.
    """

    tasks: tuple[str, ...]
    random_action: float = 0.1
    oracle_settings: dict[str, Any] = field(default_factory=dict)
    accepts: Callable[[Episode], bool] = accept_all


_DOMAINS = {
    "cube": ManipulationDomain(("cube",)),
    "scene": ManipulationDomain(("cube", "button", "drawer", "window"), accepts=cube_in_sight),
    "puzzle": ManipulationDomain(("button",), 0.2, {"gripper_always_closed": True}),
}


class ManipulationBehaviour:
    """The oracles of the robot arm in their environment.

    **Arguments:**

    - `environment`: an OGBench manipulation environment in its mode for data collection.
    - `oracles`: one for each kind of task.
    - `stacking`: the range of an episode's stacking probability.
    - `accepts`: False for an episode to be drawn again.
    """

    def __init__(
        self,
        environment: Any,
        oracles: Oracles,
        noise: ActionNoise,
        stacking: tuple[float, float],
        accepts: Callable[[Episode], bool],
    ):
        self._environment = environment
        self._oracles = oracles
        self._noise = noise
        self._stacking = stacking
        self.accepts = accepts

    def play(self, seeds: EpisodeSeeds, steps: int) -> Iterator[Row]:
        observation, info = self._environment.reset(seed=seeds.environment)
        stacking = seeds.generator.uniform(*self._stacking)
        act = self._noise.start(seeds.generator)
        oracle = self._oracle_for(observation, info)
        for _ in range(steps):
            action = act(lambda o=oracle, s=observation, i=info: o.select_action(s, i))
            following, _, _, _, info = self._environment.step(action)
            yield _row(observation, action, info)
            observation = following
            if oracle.done:
                # In OGBench's script a new oracle's first action sees the `info` of the old target,
                # parts of which are left from the episode before; here it sees its own.
                retargeted, info = self._environment.unwrapped.set_new_target(p_stack=stacking)
                oracle = self._oracle_for(retargeted, info)

    def _oracle_for(self, observation: np.ndarray, info: dict[str, Any]) -> Any:
        oracle = self._oracles[info["privileged/target_task"]]
        oracle.reset(observation, info)
        return oracle


def _row(observation: np.ndarray, action: np.ndarray, info: dict[str, Any]) -> Row:
    row = {
        "observations": observation,
        "actions": action,
        "qpos": info["prev_qpos"],
        "qvel": info["prev_qvel"],
    }
    if "prev_button_states" in info:
        row["button_states"] = info["prev_button_states"]
    return row


def manipulation_behaviour(dataset: Dataset) -> ManipulationBehaviour:
    """The behaviour of a manipulation data set."""
    import gymnasium

    environment = gymnasium.make(
        f"ogbench.manipspace:{dataset.environment_id}",
        terminate_at_goal=False,
        mode="data_collection",
        max_episode_steps=dataset.steps,
        disable_env_checker=True,
    )
    domain = _DOMAINS[dataset.environment.partition("-")[0]]
    build_oracles, noise = {
        "play": (plan_oracles, NoNoise()),
        "noisy": (markov_oracles, NoisyActions(domain.random_action)),
    }[dataset.behaviour]
    return ManipulationBehaviour(
        environment,
        build_oracles(environment, domain.tasks, **domain.oracle_settings),
        noise,
        _STACKING.get(dataset.environment, _STACKING_ELSEWHERE),
        domain.accepts,
    )
