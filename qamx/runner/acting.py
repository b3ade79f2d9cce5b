"""What plays in an evaluation: an agent's arrays, compiled once for all agents of a form."""

import contextlib
from typing import Literal, TypeAlias

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from qamx._types import Key
from qamx.agents import AbstractAgent
from qamx.nn import Precision, matmul_precision
from qamx.runner.evaluate import Act

Role: TypeAlias = Literal["collect", "evaluate", "behaviour"]
"""What an agent acts for: new data, an evaluation, or an evaluation of its clone of the data."""


class Acting:
    """The compiled action chunks of agents of one form.

    **Arguments:** `agent` is of that form (its arrays are not kept), `precision` how exact matrix
    products are.
    """

    def __init__(self, agent: AbstractAgent, precision: Precision):
        _, self._static = eqx.partition(agent, eqx.is_array)
        self._precision: Precision = precision
        self._act = jax.jit(self.actions, static_argnums=3)

    def __call__(
        self,
        agent: AbstractAgent,
        observations: Float[np.ndarray, "batch obs"],
        key: Key,
        role: Role = "collect",
    ) -> Float[np.ndarray, "batch dim"]:
        """Action chunks of an agent's arrays, or of its clone of the data."""
        with matmul_precision(self._precision):
            return np.asarray(self._act(agent, observations, key, role))

    def actions(
        self, agent: AbstractAgent, observations: Array, key: Key, role: Role
    ) -> PyTree[Array]:
        """The same, to be compiled as a part of something else."""
        whole = eqx.combine(agent, self._static)
        act = {
            "collect": whole.act,
            "evaluate": whole.act_in_evaluation,
            "behaviour": whole.act_as_behaviour,
        }
        return act[role](observations, key)

    def in_evaluation(self, agent: AbstractAgent, key: Key, step: int, role: Role) -> Act:
        """What plays the evaluation of `step`.

        **Arguments:** `agent` are an agent's arrays as they were at that step, `key` is the
        run's for evaluations.
        """
        key = jax.random.fold_in(key, step)
        if jax.default_backend() != "cpu":
            # The accelerator's queue is full of updates: a handful of observations does not wait.
            # JAX_PLATFORMS can leave the host's processor out.
            with contextlib.suppress(RuntimeError):
                agent, key = jax.device_put((agent, key), jax.devices("cpu")[0])

        def act(observations: np.ndarray, call: int) -> np.ndarray:
            return self(agent, observations, jax.random.fold_in(key, call), role)

        return act
