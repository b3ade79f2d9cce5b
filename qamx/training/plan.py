"""The plan of a run, its events, random keys and seeds, and the checks before training."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
import optax

from qamx._types import Key
from qamx._utils.defaults import EVALUATION_STREAM, check_seed, derived_seed
from qamx.agents import AbstractAgent
from qamx.data.replay import Sampling
from qamx.data.source import DataSource
from qamx.data.transitions import Transitions
from qamx.envs import EnvHandle, Environment
from qamx.errors import UserError
from qamx.nn import Precision
from qamx.schedules import Phase, Schedule, is_due, next_due


@dataclass(frozen=True)
class Intervals:
    """Steps between two rows of metrics, two evaluations, and two checkpoints."""

    logging: int
    evaluation: int
    checkpoint: int


@dataclass(frozen=True)
class Evaluation:
    """`episodes` a time, `environments` together; `behaviour` adds the clone of the data.

    **Arguments:** `workers` processes hold the environments, and training continues meanwhile;
    with 0 they are in the run's process, and training waits. Environments that collect data have
    a process each, or none.
    """

    episodes: int
    environments: int
    behaviour: bool
    workers: int = 0


@dataclass(frozen=True)
class RunPlan:
    """One run.

    **Arguments:** `make_agent(observation_size, action_size, key)` is called once the data's
    sizes are known, `initialise` changes the agent where the run begins (not where it is resumed);
    `scale_rewards` turns the environment's rewards into those that are learned;
    `seed` determines every random draw of the run; `precision` is that of matrix products,
    `updates_per_dispatch` the number of updates that go to the device together (None: by the
    clock), and `devices` the number that seeds are spread over (None: all that serve).
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
    devices: int | None = None

    def saves(self, step: int) -> Iterator[int]:
        """The steps of the checkpoints after `step`."""
        return (event.step for event in events(self.schedule, self.intervals, step) if event.save)


@dataclass(frozen=True)
class Event:
    """A step followed by what its fields name, in their order."""

    step: int
    phase: Phase
    log: bool
    evaluate: bool
    save: bool


def events(schedule: Schedule, intervals: Intervals, step: int) -> Iterator[Event]:
    """The events of a run after `step`, in order; each phase ends with all three."""
    every = (intervals.logging, intervals.evaluation, intervals.checkpoint)
    for index, phase in enumerate(schedule.phases):
        end = schedule.start(index) + phase.steps
        while step < end:
            step = next_due(step, every, end)
            yield Event(step, phase, *(is_due(step, interval, end) for interval in every))


class Keys(NamedTuple):
    """The keys of a run, one for each kind of draw."""

    agent: Key
    update: Key
    batch: Key
    collect: Key
    evaluation: Key


def keys_of(seed: int) -> Keys:
    """The keys of the run with that seed.

    **Raises:** `UserError` for a seed that JAX does not tell from another.
    """
    check_seed("seed", seed)
    return Keys(*jax.random.split(jax.random.key(seed), len(Keys._fields)))


def evaluation_seeds(seed: int, episodes: int) -> list[int]:
    """The reset seeds of every evaluation of the run with that seed."""
    return [derived_seed(seed, EVALUATION_STREAM, index) for index in range(episodes)]


def validate_problem(plan: RunPlan, offline: Transitions, environment: EnvHandle) -> None:
    """Refuses data and environments that do not fit each other or the plan.

    **Raises:** `UserError`.
    """
    horizon, limit = plan.sampling.horizon, environment.max_episode_steps
    if len(offline) < horizon:
        raise UserError(
            f"the data holds {len(offline)} transitions, fewer than one chunk of {horizon}"
        )
    expected = environment.observation_size, environment.action_size
    sizes = offline.observations.shape[1], offline.actions.shape[1]
    if sizes != expected:
        raise UserError(
            f"the data has observations of {sizes[0]} and actions of {sizes[1]} dimensions, the "
            f"environment {expected[0]} and {expected[1]}; name data of this environment"
        )
    if plan.schedule.online_steps and limit is not None and limit < horizon:
        raise UserError(
            f"agent.horizon: found {horizon}, and an episode of the environment has {limit} "
            "steps at most; no window online is whole, and nothing is learned from it; write "
            f"agent.horizon = {limit} or less, or raise environment.max_episode_steps"
        )


def validate_agent(plan: RunPlan, agent: AbstractAgent) -> None:
    """Refuses to evaluate the clone of an agent that keeps none.

    **Raises:** `UserError`.
    """
    if plan.evaluation.behaviour and agent.policy.behaviour is None:
        raise UserError(
            "evaluation.behaviour: found true, but this method keeps no clone of the data "
            "apart from what it improves; write false"
        )
