"""Everything that a run needs, as objects: what the builder hands to the loop."""

from collections.abc import Callable
from dataclasses import dataclass

import optax

from qamx._types import Key
from qamx.agents import AbstractAgent
from qamx.data.sampling import Sampling
from qamx.data.source import DataSource
from qamx.envs import Environment
from qamx.schedules import Schedule


@dataclass(frozen=True)
class Intervals:
    """After how many steps metrics are logged, the policy is evaluated, the state is saved."""

    logging: int
    evaluation: int
    checkpoint: int


@dataclass(frozen=True)
class Evaluation:
    """`episodes` a time, `environments` together; `behaviour` adds the clone of the data."""

    episodes: int
    environments: int
    behaviour: bool


@dataclass(frozen=True)
class RunPlan:
    """One run.

    **Arguments:** `make_agent(observation_size, action_size, key)` is called once the data's
    sizes are known, `initialise` changes the agent where the run begins (not where it goes on);
    `seed` determines every random draw of the run.
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
    initialise: Callable[[AbstractAgent], AbstractAgent] = lambda agent: agent
