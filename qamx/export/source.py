"""What is exported: a run's policy, and what its actions are recorded for."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from qamx._types import Key
from qamx._utils.flops import Floor, count
from qamx.config import Experiment
from qamx.envs import Environment, opened
from qamx.envs.checked import checked_reset, checked_step
from qamx.normalisation import Scaling
from qamx.trained_policy import TrainedPolicy, load_experiment, load_snapshot
from qamx.training.logs import whole_rows
from qamx.training.plan import evaluation_seeds
from qamx.worlds import build_environment

EPISODES, CHUNKS = 4, 4
"""Recorded observations: the first of so many chunks in so many episodes."""

RECORDED_SEED = 0
"""Of the recorded actions' draw."""

FLOOR_ROUNDS = 20


@dataclass(frozen=True)
class Source:
    """A run's policy, and the observations [rows, obs] that its actions are recorded for.

    Observations are in the environment's units.
    """

    directory: Path
    experiment: Experiment
    step: int
    policy: TrainedPolicy
    observations: Float[np.ndarray, "rows obs"]

    @classmethod
    def of_run(cls, directory: Path, step: int | None = None) -> "Source":
        """The policy of a run at its newest checkpoint, or at that of `step`.

        **Raises:** `UserError` if the directory holds no run, or no such checkpoint.
        """
        experiment = load_experiment(directory)
        snapshot = load_snapshot(directory, step)
        horizon, precision = experiment.agent.horizon, experiment.compute.precision
        policy = TrainedPolicy(snapshot.agent, Scaling.load(directory), horizon, precision)
        with opened(build_environment(experiment.environment)) as environment:
            observations = [
                observation
                for episode, seed in enumerate(evaluation_seeds(experiment.seed, EPISODES))
                for observation in _met(environment, policy, seed, jax.random.key(episode))
            ]
        return cls(directory, experiment, snapshot.step, policy, np.stack(observations))

    @property
    def key(self) -> Key:
        """The key of the recorded actions."""
        return jax.random.key(RECORDED_SEED)

    @functools.cached_property
    def actions(self) -> Float[np.ndarray, "rows horizon act"]:
        """What the training code does at the observations."""
        return self.policy.act(self.observations, self.key)

    def evaluation(self) -> dict[str, Any] | None:
        """The run's own evaluation at this step, if there was one."""
        rows = whole_rows(self.directory / "evaluations.jsonl")
        return next((row for row in reversed(rows) if row["step"] == self.step), None)

    def floor_ms(self) -> float:
        """Milliseconds that a chunk's matrix products take here, one after the other."""
        act = self.policy.agent.act_in_evaluation
        seen = self.policy.scaling.observations(self.observations[:1])
        floor = Floor(count(lambda x, key: act(x, key), seen, self.key))
        for _ in range(FLOOR_ROUNDS):
            floor.round()
        return 1e3 * floor.seconds


def _met(
    environment: Environment, policy: TrainedPolicy, seed: int, key: Key
) -> Iterator[Float[np.ndarray, " obs"]]:
    """The observations of one of the policy's episodes at the beginnings of chunks."""
    observation = checked_reset(environment, seed)
    for call in range(CHUNKS):
        yield observation
        for action in policy.act(observation[None], jax.random.fold_in(key, call))[0]:
            step = checked_step(environment, action)
            if step.done:
                return
            observation = step.observation
