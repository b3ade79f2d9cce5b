"""The trained policy of a run, loaded from its folder."""

import functools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, PyTree

from qamx._types import Key
from qamx._utils.backend import check_jax, keep_programs
from qamx._utils.checks import checked_observations
from qamx._utils.hub import local_folder
from qamx.agents import AbstractAgent
from qamx.building import build_agent, build_environment
from qamx.config import Experiment, load
from qamx.envs import opened
from qamx.errors import UserError
from qamx.nn import Precision
from qamx.normalisation import Normalisation
from qamx.provenance import note_switches
from qamx.training.checkpoint import Checkpoints, DamagedCheckpoint, Saved
from qamx.training.evaluator import Acting


@dataclass(frozen=True)
class TrainedPolicy:
    """A trained policy, which takes observations and returns actions in the environment's units.

    **Arguments:** `agent` acts in normalised units, `scaling` converts the environment's units to
    those and back, `horizon` is the length of an action chunk, `precision` that of matrix products;
    `acting` is a compiled function for agents of this structure, where there is one already.
    """

    agent: AbstractAgent
    scaling: Normalisation
    horizon: int
    precision: Precision = "tf32"
    acting: Acting | None = field(default=None, repr=False)

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """The policy of a run, as its newest checkpoint has it.

        **Arguments:** `directory` is the run's folder, or `hf:USER/NAME` on the Hugging Face Hub.

        **Raises:** `UserError` if the directory holds no run or no checkpoint.
        """
        directory = local_folder(directory)
        experiment, agent = load_experiment(directory), load_agent(directory)
        horizon, precision = experiment.agent.horizon, experiment.compute.precision
        return cls(agent, Normalisation.load(directory), horizon, precision)

    def act(
        self, observations: Float[np.ndarray, "batch obs"], key: Key
    ) -> Float[np.ndarray, "batch horizon act"]:
        """A chunk of actions for each observation, as the policy acts in evaluations.

        **Raises:** `ValueError` for observations of another shape, or with entries that are not
        finite.
        """
        checked = checked_observations(observations, self.agent.observation_size)
        scaled = self.scaling.observations(checked)
        arrays, acting = self._compiled
        chunks = acting(arrays, scaled, key, "evaluate")
        return self.scaling.to_environment(chunks.reshape(len(chunks), self.horizon, -1))

    @functools.cached_property
    def _compiled(self) -> tuple[AbstractAgent, Acting]:
        """The agent's arrays, and the compiled function that acts with them."""
        acting = self.acting or Acting(self.agent, self.precision)
        return eqx.filter(self.agent, eqx.is_array), acting


class Snapshot(NamedTuple):
    """The agent of a run at a step."""

    step: int
    agent: AbstractAgent


def load_agent(directory: Path | str) -> AbstractAgent:
    """The agent of a run, as its newest checkpoint has it.

    **Raises:** `UserError` if the directory holds no run or no checkpoint.
    """
    return load_snapshot(directory).agent


def load_snapshot(directory: Path | str, step: int | None = None) -> Snapshot:
    """The agent of a run, as its newest intact checkpoint has it, or that of `step`.

    The run may be training meanwhile: nothing in its folder is changed or locked.

    **Raises:** `UserError` if the directory holds no run or no such checkpoint, or JAX is
    configured otherwise than runs need.
    """
    directory = Path(directory)
    experiment = load_experiment(directory)
    note_switches(directory)
    if experiment.compute.cache:
        keep_programs()
    saved = _read(directory / "checkpoints", step)
    with opened(build_environment(experiment.environment)) as env:
        sizes = env.observation_size, env.action_size
    check_jax()  # after the environment's own imports, which may turn its switches
    key = jax.random.key(experiment.seed)
    template = eqx.filter_eval_shape(build_agent, experiment.agent, *sizes, key)
    shapes, static = eqx.partition(template, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    fitted = saved.fit(shapes, prefix=".state.agent")
    return Snapshot(saved.step, eqx.combine(fitted, static))


def with_strength(agent: AbstractAgent, strength: float | None, name: str) -> AbstractAgent:
    """The agent whose policy samples at another strength in evaluations; None leaves its own.

    **Arguments:** `name` is that of the policy's folder.

    **Raises:** `UserError` for a number that cannot be, or if its sampler has no strength.
    """
    if strength is None:
        return agent
    if not 0.0 <= strength < math.inf:
        raise UserError(f"--strength: found {strength}; write a number of at least 0, e.g. 0.02")
    if agent.policy.strength is None:
        raise UserError(
            f"--strength: the policy of {name} samples without guidance, so it has none; leave "
            "it out"
        )
    policy = agent.policy.with_strength(strength)
    return eqx.tree_at(lambda agent: agent.policy, agent, policy)


def load_experiment(directory: Path) -> Experiment:
    """The experiment of a run.

    **Raises:** `UserError` if the directory holds no run.
    """
    if not (directory / "config.toml").is_file():
        raise UserError(
            f"{directory}: no run (it has no config.toml); name the folder of one, such as "
            "runs/quickstart-task1-seed10001"
        )
    return load(directory / "config.toml")


def _read(directory: Path, step: int | None) -> Saved:
    if not directory.is_dir():
        raise UserError(f"{directory}: no checkpoint yet; let the run continue")
    checkpoints = Checkpoints(directory)
    try:
        if step is not None and step not in (steps := checkpoints.steps()):
            kept = ", ".join(f"{kept_step:,}" for kept_step in steps) or "none"
            raise UserError(
                f"--step: found {step}, and the checkpoints that are kept are of {kept}"
            )
        saved = checkpoints.latest_readonly() if step is None else checkpoints.read(step)
    except DamagedCheckpoint as damage:
        raise UserError(f"{damage}; name another step, or leave --step out") from damage
    finally:
        checkpoints.close()
    if saved is None:
        raise UserError(f"{directory}: no intact checkpoint; let the run continue")
    return saved


def start_from_run(agent: AbstractAgent, run: str | None, scaling: Normalisation) -> AbstractAgent:
    """The agent with the clone of the data that another run learned, if a run is named.

    **Raises:** `UserError` if the run cannot be read, learned in other units than `scaling`, or
    its clone is a network of another shape.
    """
    if run is None:
        return agent
    clone = load_agent(run).policy.clone
    if not scaling.has_units_of(Normalisation.load(Path(run))):
        raise UserError(
            f"agent.initialise_from: {run} learned in other units of observations or actions; "
            "write data.normalise_observations and data.scale_actions as there, and name its data"
        )
    mine, theirs = (jax.tree.map(_shape, part) for part in (agent.policy.clone, clone))
    if jax.tree.structure(mine) != jax.tree.structure(theirs) or mine != theirs:
        raise UserError(
            f"agent.initialise_from: {run} clones the data with {_describe(clone)}, this method "
            f"with {_describe(agent.policy.clone)}; name a run whose network is the same"
        )
    return agent.start_from(clone)


def _shape(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf


def _describe(clone: PyTree) -> str:
    shapes = [str(leaf.shape) for leaf in jax.tree.leaves(clone) if eqx.is_array(leaf)]
    return f"a {type(clone).__name__} of arrays {', '.join(shapes)}"
