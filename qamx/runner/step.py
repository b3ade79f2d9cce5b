"""The compiled part of training: many updates in one call."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from qamx._types import Key
from qamx.agents import TrainState, update
from qamx.data.replay import Replay
from qamx.data.sequences import Transitions, sample_windows
from qamx.runner.metrics import flatten


class Sampling(NamedTuple):
    """How batches are drawn: `batch_size` windows of `horizon` steps, `discount` per step."""

    batch_size: int
    horizon: int
    discount: float


class Training(eqx.Module):
    """What training changes: train state, key of batches, metrics since the last row."""

    state: TrainState
    batch_key: Key
    totals: dict[str, Float[Array, ""]]
    counted: Int[Array, ""]

    def means(self) -> dict[str, float]:
        """The metrics' means since they were last cleared (waits for the device)."""
        counted = max(int(self.counted), 1)
        return {name: float(total) / counted for name, total in self.totals.items()}

    def cleared(self) -> "Training":
        """The same with no metrics counted."""
        totals, counted = jax.tree.map(jnp.zeros_like, (self.totals, self.counted))
        return Training(self.state, self.batch_key, totals, counted)


class Trainer:
    """Runs updates on a replay buffer, any number of them in one compiled call.

    The number of updates is an argument of the compiled program, so that one compilation serves
    a whole phase; batches are drawn inside it, and its buffers are donated.

    **Arguments:** `state` is of the form that will be trained (its arrays are not kept),
    `sampling` says how batches are drawn.
    """

    def __init__(
        self, state: TrainState, optimiser: optax.GradientTransformation, sampling: Sampling
    ):
        self._optimiser, self._sampling = optimiser, sampling
        _, self._static = eqx.partition(state, eqx.is_array)
        self._run = jax.jit(self._updates, donate_argnums=0)
        self._act = jax.jit(self._actions, static_argnums=3)

    def begin(self, state: TrainState, replay: Replay, key: Key) -> Training:
        """Training before its first update, with buffers of its own; `key` seeds batches."""
        arrays, key = jax.tree.map(jnp.copy, (eqx.filter(state, eqx.is_array), key))
        shapes = jax.eval_shape(self._one, arrays, key, replay.rows, replay.size)
        totals = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[2])
        return Training(arrays, key, totals, jnp.zeros((), jnp.int32))

    def run(self, training: Training, replay: Replay, updates: int) -> Training:
        """`training` after that many updates; the old one's buffers are given up."""
        return self._run(training, replay.rows, replay.size, np.int32(updates))

    def act(
        self,
        training: Training,
        observations: Float[np.ndarray, "batch obs"],
        key: Key,
        *,
        behaviour: bool = False,
    ) -> Float[np.ndarray, "batch dim"]:
        """Action chunks of the present policy, or of its clone of the data."""
        return np.asarray(self._act(training.state, observations, key, behaviour))

    def _combine(self, arrays: TrainState) -> TrainState:
        return eqx.combine(arrays, self._static)

    def _one(
        self, arrays: TrainState, key: Key, rows: Transitions, size: Array
    ) -> tuple[TrainState, Key, dict[str, Array]]:
        key, batch_key = jax.random.split(key)
        batch = sample_windows(rows, size, *self._sampling, key=batch_key)
        state, metrics = update(self._combine(arrays), batch, self._optimiser)
        return eqx.filter(state, eqx.is_array), key, flatten(metrics)

    def _updates(
        self, training: Training, rows: Transitions, size: Array, updates: Array
    ) -> Training:
        def body(_, carry: Training) -> Training:
            arrays, key, metrics = self._one(carry.state, carry.batch_key, rows, size)
            totals = jax.tree.map(jnp.add, carry.totals, metrics)
            return Training(arrays, key, totals, carry.counted + 1)

        return jax.lax.fori_loop(0, updates, body, training)

    def _actions(
        self, arrays: TrainState, observations: Array, key: Key, behaviour: bool
    ) -> PyTree[Array]:
        agent = self._combine(arrays).agent
        return (agent.act_as_behaviour if behaviour else agent.act)(observations, key)
