"""The plan of a run, its random keys and its seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
import optax

from qamx._types import Key
from qamx._utils.seeds import check_seed
from qamx.agents import AbstractAgent
from qamx.data.replay import Sampling
from qamx.data.source import DataSource
from qamx.envs import Environment
from qamx.nn import Precision
from qamx.schedules import Schedule
from qamx.training.collector import EVALUATION_STREAM, derived_seed


@dataclass(frozen=True)
class Intervals:
    """After how many steps metrics are logged, the policy is evaluated, the state is saved."""

    logging: int
    evaluation: int
    checkpoint: int


@dataclass(frozen=True)
class Evaluation:
    """`episodes` a time, `environments` together; `behaviour` adds the clone of the data.

    **Arguments:** `workers` processes hold the environments, and training goes on meanwhile;
    with 0 they are in the run's own process, and training waits. Environments that collect data
    have a process each, or none.
    """

    episodes: int
    environments: int
    behaviour: bool
    workers: int = 0


@dataclass(frozen=True)
class RunPlan:
    """One run.

    **Arguments:** `make_agent(observation_size, action_size, key)` is called once the data's
    sizes are known, `initialise` changes the agent where the run begins (not where it goes on);
    `scale_rewards` turns the environment's rewards into those that are learned;
    `seed` determines every random draw of the run; `precision` is that of matrix products, and
    `updates_per_dispatch` how many updates go to the device together (None: by the clock).
    """

    seed: int
    make_agent: Callable[[int, int, Key], AbstractAgent]
    optimiser: optax.GradientTransformation
    sampling: Sampling
    schedule: Schedule
    data: DataSource
    make_environment: Callable[[], Environment]
    intervals: Intervals
    evaluation: Evaluation
    keep_checkpoints: int
    scale_rewards: Callable[[np.ndarray], np.ndarray] = lambda rewards: rewards
    initialise: Callable[[AbstractAgent], AbstractAgent] = lambda agent: agent
    precision: Precision = "tf32"
    updates_per_dispatch: int | None = None


class Keys(NamedTuple):
    """What seeds each kind of draw of a run."""

    agent: Key
    update: Key
    batch: Key
    collect: Key
    evaluation: Key


def keys_of(seed: int) -> Keys:
    """The keys of the run with that seed.

    **Raises:** `UserError` for one that JAX does not tell from another.
    """
    check_seed("seed", seed)
    return Keys(*jax.random.split(jax.random.key(seed), len(Keys._fields)))


def evaluation_seeds(seed: int, episodes: int) -> list[int]:
    """The reset seeds of every evaluation of the run with that seed."""
    return [derived_seed(seed, EVALUATION_STREAM, index) for index in range(episodes)]
