"""The policy to evaluate: a run's, or an exported one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from pydantic import ValidationError

from qamx.agents import AbstractAgent
from qamx.building import MakeEnvironment, build_environment, build_evaluation, scaled_environment
from qamx.config import EnvironmentSettings, load
from qamx.config.messages import field_errors
from qamx.deploy.loading import OnnxPolicy, load_policy
from qamx.deploy.metadata import EXPERIMENT
from qamx.errors import UserError
from qamx.normalisation import Normalisation
from qamx.trained_policy import load_experiment, load_snapshot, with_strength
from qamx.training.evaluator import Act, Acting, Role
from qamx.training.plan import Evaluation, keys_of

ActFor = Callable[[int, Role], Act]
"""Makes the policy, or its clone of the data, act with the draws that a seed begins.

Observations and action chunks are in the policy's units.
"""


@dataclass(frozen=True)
class PolicySource:
    """A policy with the settings of its evaluation.

    **Arguments:** `name` is its folder, `step` its training step; `environment` and `seed` are
    those of its training, `evaluation` is the plan of its run's evaluations. `strength` is that of
    the sampler's guidance where one was named, `at_strength` has the policy act at another.
    """

    name: str
    step: int
    method: str
    seed: int
    environment: EnvironmentSettings
    scaling: Normalisation
    evaluation: Evaluation
    act_for: ActFor
    has_behaviour: bool
    at_strength: Callable[[float], ActFor] | None = None
    strength: float | None = None

    @property
    def trained_task(self) -> int | None:
        """The task that the policy was trained for, where the environment has several."""
        return task_of(self.environment)

    def make_environment(self, settings: EnvironmentSettings) -> MakeEnvironment:
        """A maker of environments in the policy's units."""
        return scaled_environment(build_environment(settings), self.scaling)

    def for_tasks(self, tasks: Sequence[int]) -> list[EnvironmentSettings]:
        """The environment for each task, or for the trained one where none is named."""
        return [self.for_task(task) for task in tasks or (None,)]

    def for_task(self, task: int | None) -> EnvironmentSettings:
        """The environment with another task.

        **Raises:** `UserError` for a task that does not exist.
        """
        if task is None:
            return self.environment
        if self.trained_task is None:
            raise UserError(
                f"--task: found {task}, and {self.environment.id} has no tasks; leave it out"
            )
        settings, table = type(self.environment), {**self.environment.model_dump(), "task": task}
        try:
            return settings.model_validate(table)
        except ValidationError as error:
            text = "; ".join(problem.text for problem in field_errors(error, settings, table))
            raise UserError(f"--task: {text}") from error

    def with_episodes(self, episodes: int | None, workers: int | None) -> "PolicySource":
        """The same with other numbers of episodes or worker processes.

        **Raises:** `UserError` for a number that cannot be.
        """
        if episodes is not None and episodes < 1:
            raise UserError(f"--episodes: found {episodes}; write a positive integer, e.g. 50")
        if workers is not None and workers < 0:
            raise UserError(f"--workers: found {workers}; write 0 for none, or a positive integer")
        named = {"episodes": episodes, "workers": workers}
        changes: dict[str, Any] = {name: n for name, n in named.items() if n is not None}
        return replace(self, evaluation=replace(self.evaluation, **changes))

    def with_strength(self, strength: float) -> "PolicySource":
        """The same policy, sampled at another strength.

        **Raises:** `UserError` for a number that cannot be, or if its sampler has no strength.
        """
        if self.at_strength is None:
            raise UserError(
                f"--strength: {self.name} is an exported policy, whose strength is fixed; leave it "
                "out, or name its run"
            )
        return replace(self, act_for=self.at_strength(strength), strength=strength)


def task_of(environment: EnvironmentSettings) -> int | None:
    """The task of an environment that has several, else None."""
    return getattr(environment, "task", None)


def source_of_run(directory: Path, step: int | None = None) -> PolicySource:
    """A run's policy at its newest checkpoint, or at that of `step`.

    **Raises:** `UserError` if the directory holds no run, or no such checkpoint.
    """
    experiment = load_experiment(directory)
    trained, agent = load_snapshot(directory, step)
    arrays = eqx.filter(agent, eqx.is_array)

    def acting_of(agent: AbstractAgent) -> ActFor:
        acting = Acting(agent, experiment.compute.precision)

        def act_for(seed: int, role: Role) -> Act:
            return acting.in_evaluation(arrays, keys_of(seed).evaluation, trained, role)

        return act_for

    return PolicySource(
        name=str(directory),
        step=trained,
        method=experiment.agent.method,
        seed=experiment.seed,
        environment=experiment.environment,
        scaling=Normalisation.load(directory),
        evaluation=build_evaluation(experiment.evaluation),
        act_for=acting_of(agent),
        has_behaviour=agent.policy.behaviour is not None,
        at_strength=lambda strength: acting_of(with_strength(agent, strength, str(directory))),
    )


def source_of_export(folder: Path, step: int | None = None) -> PolicySource:
    """The policy that `qamx export` wrote, in the environment of its run.

    It observes and acts in the environment's units.

    **Raises:** `UserError` for a folder that cannot be read, and for a `step`.
    """
    if step is not None:
        raise UserError(f"--step: {folder} is an exported policy, which has one; leave it out")
    policy = load_policy(folder)
    experiment = load(folder / EXPERIMENT)
    trained = int(policy.metadata.policy["step"])

    def act_for(seed: int, role: Role) -> Act:
        if isinstance(policy, OnnxPolicy):  # it draws other numbers, of the same law
            return lambda observations, call: _flat(policy.act(observations, seed, call))
        key, act_with = jax.random.fold_in(keys_of(seed).evaluation, trained), policy.act_with_key

        def act(observations: np.ndarray, call: int) -> np.ndarray:
            words = np.asarray(jax.random.key_data(jax.random.fold_in(key, call)))
            return _flat(act_with(observations, words))

        return act

    return PolicySource(
        name=str(folder),
        step=trained,
        method=experiment.agent.method,
        seed=experiment.seed,
        environment=experiment.environment,
        scaling=Normalisation(),
        evaluation=build_evaluation(experiment.evaluation),
        act_for=act_for,
        has_behaviour=False,
    )


def _flat(chunks: np.ndarray) -> np.ndarray:
    return chunks.reshape(len(chunks), -1)
