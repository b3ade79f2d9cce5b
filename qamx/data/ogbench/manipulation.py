"""Scripted behaviour of the robot arm: OGBench's oracles with noise."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from qamx.data.ogbench.catalogue import Dataset
from qamx.data.ogbench.rollout import Episode, EpisodeSeeds, Row

Disturb = Callable[[Callable[[], np.ndarray]], np.ndarray]
"""Gives the action, in [-1, 1]^5, from a function that asks the oracle for its action."""


class Disturbance(Protocol):
    """A way to depart from the oracle, its strength drawn for each episode."""

    def begin(self, generator: np.random.Generator) -> Disturb:
        """The disturbance of one episode."""
        ...


class Undisturbed:
    """The oracle's action as it is: plan oracles have their noise inside their plans."""

    def begin(self, generator: np.random.Generator) -> Disturb:
        return lambda ask: _bounded(ask())


class NoisyActions:
    """Gaussian noise on the oracle's action, and now and then a random action instead.

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

    def begin(self, generator: np.random.Generator) -> Disturb:
        scale = generator.uniform(0.0, self.largest_noise) * np.asarray(self.noise_shape)

        def disturb(ask: Callable[[], np.ndarray]) -> np.ndarray:
            # A random action leaves the oracle unasked: it counts the steps it has been asked for.
            if generator.random() < self.random_action:
                return _bounded(generator.uniform(-1.0, 1.0, scale.shape))
            return _bounded(ask() + generator.normal(0.0, scale))

        return disturb


def _bounded(action: np.ndarray) -> np.ndarray:
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
    """Oracles that look at the present state alone: the behaviour `noisy`."""
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


# The range of the probability that a cube's new place is on top of another cube, drawn for each
# episode; where a scene has other things than cubes it is a half.
_STACKING = {
    "cube-single": (0.0, 0.0),
    "cube-double": (0.0, 0.25),
    "cube-triple": (0.05, 0.35),
    "cube-quadruple": (0.1, 0.5),
    "cube-octuple": (0.0, 0.35),
}
_STACKING_ELSEWHERE = (0.5, 0.5)
_CUBE_POSITION = slice(14, 17)  # in qpos, after six joints of the arm and eight of the gripper


def anything_goes(episode: Episode) -> bool:
    """Accepts every episode."""
    return True


def cube_in_sight(episode: Episode) -> bool:
    """Whether the scene's cube is in view throughout, unless it is inside the drawer.

    Where it could be out of view, the image of a goal would not determine the goal. Positions in
    metres: too far right is y >= 0.29; y <= -0.3 is too far left, except at the heights 0.06 to
    0.08 that a cube has in the drawer.
    """
    position = episode["qpos"][:, _CUBE_POSITION]
    y, z = position[:, 1], position[:, 2]
    too_far_right = y >= 0.29
    too_far_left = (y <= -0.3) & ((z < 0.06) | (z > 0.08))
    return not np.any(too_far_right | too_far_left)


@dataclass(frozen=True)
class Domain:
    """What distinguishes the families of manipulation environments.

    **Arguments:**

    - `tasks`: the kinds of object to be moved.
    - `random_action`: the probability of a random action in `noisy`.
    - `oracle_settings`: arguments for every oracle.
    - `accepts`: whether an episode may stay.
    """

    tasks: tuple[str, ...]
    random_action: float = 0.1
    oracle_settings: dict[str, Any] = field(default_factory=dict)
    accepts: Callable[[Episode], bool] = anything_goes


_DOMAINS = {
    "cube": Domain(("cube",)),
    "scene": Domain(("cube", "button", "drawer", "window"), accepts=cube_in_sight),
    "puzzle": Domain(("button",), 0.2, {"gripper_always_closed": True}),
}


class ManipulationRecipe:
    """Episodes of the robot arm.

    **Arguments:**

    - `environment`: an OGBench manipulation environment in its mode for data collection.
    - `oracles`: who acts, for each kind of task.
    - `disturbance`: how the arm departs from the oracle.
    - `stacking`: the range of an episode's stacking probability.
    - `accepts`: whether an episode may stay.
    """

    def __init__(
        self,
        environment: Any,
        oracles: Oracles,
        disturbance: Disturbance,
        stacking: tuple[float, float],
        accepts: Callable[[Episode], bool],
    ):
        self._environment = environment
        self._oracles = oracles
        self._disturbance = disturbance
        self._stacking = stacking
        self.accepts = accepts

    def play(self, seeds: EpisodeSeeds, steps: int) -> Iterator[Row]:
        observation, info = self._environment.reset(seed=seeds.environment)
        stacking = seeds.generator.uniform(*self._stacking)
        disturb = self._disturbance.begin(seeds.generator)
        oracle = self._oracle_for(observation, info)
        for _ in range(steps):
            action = disturb(lambda o=oracle, s=observation, i=info: o.select_action(s, i))
            following, _, _, _, info = self._environment.step(action)
            yield _row(observation, action, info)
            observation = following
            if oracle.done:
                # In OGBench's script a new oracle's first action still sees the `info` of the old
                # target. Parts of that are left from the episode before, so here it sees its own.
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


def manipulation_recipe(dataset: Dataset) -> ManipulationRecipe:
    """The recipe of a manipulation data set."""
    import gymnasium

    environment = gymnasium.make(
        f"ogbench.manipspace:{dataset.environment_id}",
        terminate_at_goal=False,
        mode="data_collection",
        max_episode_steps=dataset.steps,
        disable_env_checker=True,
    )
    domain = _DOMAINS[dataset.environment.partition("-")[0]]
    build_oracles, disturbance = {
        "play": (plan_oracles, Undisturbed()),
        "noisy": (markov_oracles, NoisyActions(domain.random_action)),
    }[dataset.behaviour]
    return ManipulationRecipe(
        environment,
        build_oracles(environment, domain.tasks, **domain.oracle_settings),
        disturbance,
        _STACKING.get(dataset.environment, _STACKING_ELSEWHERE),
        domain.accepts,
    )
