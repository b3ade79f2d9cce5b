"""What a run has learned, read back from its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qamx._types import Key
from qamx.agents import AbstractAgent
from qamx.assembly import build_agent
from qamx.config import load
from qamx.envs.scaling import Scaling
from qamx.errors import UserError
from qamx.runner.checkpoint import Checkpoints, Saved
from qamx.worlds import build_environment


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy in the units of its environment.

    **Arguments:** `agent` acts in units of its own, `scaling` turns the environment's into those
    and back, `horizon` is the length of an action chunk.
    """

    agent: AbstractAgent
    scaling: Scaling
    horizon: int

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """The policy of a run, as its newest checkpoint has it.

        **Raises:** `UserError` if the directory holds no run or no checkpoint.
        """
        directory = Path(directory)
        horizon = load(directory / "config.toml").agent.horizon
        return cls(load_agent(directory), Scaling.load(directory), horizon)

    def act(
        self, observations: Float[np.ndarray, "batch obs"], key: Key
    ) -> Float[np.ndarray, "batch horizon act"]:
        """A chunk of actions for each observation, as the policy acts in evaluations."""
        seen = self.scaling.observations(np.asarray(observations, np.float32))
        chunks = np.asarray(_act(self.agent, seen, key))
        return self.scaling.to_environment(chunks.reshape(len(chunks), self.horizon, -1))


@eqx.filter_jit
def _act(
    agent: AbstractAgent, observations: Float[np.ndarray, "batch obs"], key: Key
) -> Float[Array, "batch dim"]:
    return agent.act_in_evaluation(jnp.asarray(observations), key)


def load_agent(directory: Path | str) -> AbstractAgent:
    """The agent of a run, as its newest checkpoint has it.

    **Raises:** `UserError` if the directory holds no run or no checkpoint.
    """
    return load_newest(directory)[0]


def load_newest(directory: Path | str) -> tuple[AbstractAgent, int]:
    """The same agent, and the step of its checkpoint."""
    directory = Path(directory)
    experiment = load(directory / "config.toml")
    env = build_environment(experiment.environment)()
    sizes = env.observation_size, env.action_size
    env.close()
    template = build_agent(experiment.agent, *sizes, jax.random.key(experiment.seed))
    arrays, static = eqx.partition(template, eqx.is_array)
    saved = _newest(directory / "checkpoints")
    return eqx.combine(saved.fit(arrays, prefix=".state.agent"), static), saved.step


def _newest(directory: Path) -> Saved:
    if not directory.is_dir():
        raise UserError(f"{directory}: no checkpoint yet; let the run go on")
    checkpoints = Checkpoints(directory)
    try:
        saved = checkpoints.newest_unmoved()
    finally:
        checkpoints.close()
    if saved is None:
        raise UserError(f"{directory}: no intact checkpoint; let the run go on")
    return saved
