"""Scripted behaviour of the robot arm: OGBench's oracles with action noise."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qamx.data.ogbench import rollout
from qamx.data.ogbench.catalogue import Dataset

NoisyOracle = Callable[[Callable[[], np.ndarray]], np.ndarray]
"""Maps a call of the oracle to an action in [-1, 1]^5."""

ActionNoise = Callable[[np.random.Generator], NoisyOracle]
"""Noise on the oracle's actions, its strength drawn for each episode."""


def no_noise(generator: np.random.Generator) -> NoisyOracle:
    """The oracle's action, clipped: plan oracles have noise inside their plans."""
    return lambda oracle: rollout.clip_action(oracle())


LARGEST_NOISE = 0.1
NOISE_SHAPE = (1.0, 1.0, 1.0, 3.0, 10.0)


def noisy_actions(random_action: float) -> ActionNoise:
    """Gaussian noise on the oracle's action, or a random action instead.

    $a = \\mathrm{clip}(a_{oracle} + \\xi \\, (1, 1, 1, 3, 10) \\odot \\varepsilon, -1, 1)$ with
    $\\xi \\sim U(0, 0.1)$ for each episode and $\\varepsilon \\sim N(0, I)$ for each step.

    **Arguments:** `random_action` is the probability of a uniform action instead.

    Source: OGBench's `generate_manipspace.py`, data sets of type `noisy`.
    """

    def start(generator: np.random.Generator) -> NoisyOracle:
        scale = generator.uniform(0.0, LARGEST_NOISE) * np.asarray(NOISE_SHAPE)

        def act(oracle: Callable[[], np.ndarray]) -> np.ndarray:
            # Without a call of the oracle, which counts its steps.
            if generator.random() < random_action:
                return rollout.clip_action(generator.uniform(-1.0, 1.0, scale.shape))
            return rollout.clip_action(oracle() + generator.normal(0.0, scale))

        return act

    return start


Oracles = Mapping[str, Any]
"""An oracle for each `privileged/target_task`."""

# OGBench's oracles and their arguments: for `play` they follow a plan with temporally correlated
# noise, for `noisy` they depend on the present state alone.
_ORACLES = {
    "play": ("plan", {"noise": 0.1, "noise_smoothing": 0.5}),
    "noisy": ("markov", {"min_norm": 0.4}),
}


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


def accept_all(episode: rollout.Episode) -> bool:
    """Accepts every episode."""
    return True


def cube_in_sight(episode: rollout.Episode) -> bool:
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
    accepts: Callable[[rollout.Episode], bool] = accept_all


_DOMAINS = {
    "cube": ManipulationDomain(("cube",)),
    "scene": ManipulationDomain(("cube", "button", "drawer", "window"), accepts=cube_in_sight),
    "puzzle": ManipulationDomain(("button",), 0.2, {"gripper_always_closed": True}),
}


@dataclass
class ManipulationBehaviour:
    """The oracles of the robot arm in their environment.

    **Arguments:**

    - `environment`: an OGBench manipulation environment in its mode for data collection.
    - `oracles`: one for each kind of task.
    - `stacking`: the range of an episode's stacking probability.
    - `accepts`: False for an episode to be drawn again.
    """

    environment: Any
    oracles: Oracles
    noise: ActionNoise
    stacking: tuple[float, float]
    accepts: Callable[[rollout.Episode], bool]

    def play(self, seeds: rollout.EpisodeSeeds, steps: int) -> Iterator[rollout.Row]:
        observation, info = self.environment.reset(seed=seeds.environment)
        stacking = seeds.generator.uniform(*self.stacking)
        act = self.noise(seeds.generator)
        oracle = self._oracle_for(observation, info)
        for _ in range(steps):
            action = act(lambda o=oracle, s=observation, i=info: o.select_action(s, i))
            following, _, _, _, info = self.environment.step(action)
            yield rollout.make_row(observation, action, info)
            observation = following
            if oracle.done:
                # In OGBench's script a new oracle's first action sees the `info` of the old target,
                # parts of which are left from the episode before; here it sees its own.
                retargeted, info = self.environment.unwrapped.set_new_target(p_stack=stacking)
                oracle = self._oracle_for(retargeted, info)

    def _oracle_for(self, observation: np.ndarray, info: dict[str, Any]) -> Any:
        oracle = self.oracles[info["privileged/target_task"]]
        oracle.reset(observation, info)
        return oracle


def manipulation_behaviour(dataset: Dataset) -> ManipulationBehaviour:
    """The behaviour of a manipulation data set."""
    environment = rollout.make_environment(dataset, "manipspace", mode="data_collection")
    domain = _DOMAINS[dataset.environment.partition("-")[0]]
    kind, arguments = _ORACLES[dataset.behaviour]
    oracles = {}
    for task in domain.tasks:
        module = importlib.import_module(f"ogbench.manipspace.oracles.{kind}.{task}_{kind}")
        build = getattr(module, f"{task.capitalize()}{kind.capitalize()}Oracle")
        oracles[task] = build(env=environment, **arguments, **domain.oracle_settings)
    return ManipulationBehaviour(
        environment,
        oracles,
        no_noise if dataset.behaviour == "play" else noisy_actions(domain.random_action),
        _STACKING.get(dataset.environment, _STACKING_ELSEWHERE),
        domain.accepts,
    )
