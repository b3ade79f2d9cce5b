"""An exported policy, played as a run's is."""

from pathlib import Path

import jax
import numpy as np

from qamx.build import build_evaluation
from qamx.config import load
from qamx.deploy.loading import JaxPolicy, OnnxPolicy, load_policy
from qamx.deploy.metadata import EXPERIMENT
from qamx.errors import UserError
from qamx.evaluation.subject import Subject
from qamx.normalisation import Scaling
from qamx.training.evaluator import Act, Role
from qamx.training.plan import keys_of


class ExportedPolicies:
    """What acts in an exported program, with the draws of its run's evaluations.

    An ONNX model has draws of its own: they are of the same law, and not the same numbers.
    """

    def __init__(self, policy: JaxPolicy | OnnxPolicy, step: int):
        self._policy, self._step = policy, step

    def act(self, seed: int, role: Role) -> Act:
        policy = self._policy
        if isinstance(policy, OnnxPolicy):
            return lambda observations, call: _flat(policy.act(observations, seed, call))
        key = jax.random.fold_in(keys_of(seed).evaluation, self._step)

        def act(observations: np.ndarray, call: int) -> np.ndarray:
            words = np.asarray(jax.random.key_data(jax.random.fold_in(key, call)))
            return _flat(policy.act_with_key(observations, words))

        return act


def subject_of_export(folder: Path, step: int | None = None) -> Subject:
    """The policy that `qamx export` wrote, in the environment of its run.

    It observes and acts in the environment's own units.

    **Raises:** `UserError` for a folder that cannot be read, and for a `step`.
    """
    if step is not None:
        raise UserError(f"--step: {folder} is an exported policy, which has one; leave it out")
    policy = load_policy(folder)
    experiment = load(folder / EXPERIMENT)
    trained = int(policy.metadata.policy["step"])
    return Subject(
        name=str(folder),
        step=trained,
        method=experiment.agent.method,
        seed=experiment.seed,
        environment=experiment.environment,
        scaling=Scaling(),
        evaluation=build_evaluation(experiment.evaluation),
        policies=ExportedPolicies(policy, trained),
        has_behaviour=False,
    )


def _flat(chunks: np.ndarray) -> np.ndarray:
    return chunks.reshape(len(chunks), -1)
