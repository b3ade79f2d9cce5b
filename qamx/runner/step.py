"""The compiled part of training: many updates in one call."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from qamx._types import Batch, Key, Metrics
from qamx.agents import AbstractAgent, TrainState, restart_optimiser, update
from qamx.data.replay import Replay
from qamx.data.sampling import Sampling
from qamx.runner.metrics import flatten

Update: TypeAlias = Callable[
    [TrainState, Batch, optax.GradientTransformation], tuple[TrainState, tuple[Metrics, ...]]
]
"""One update of a phase: `qamx.agents.update` or `qamx.agents.clone`."""

Role: TypeAlias = Literal["collect", "evaluate", "behaviour"]
"""What an agent acts for: new data, an evaluation, or an evaluation of its clone of the data."""


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
    `sampling` says how batches are drawn, `update` what one update is.
    """

    def __init__(
        self,
        state: TrainState,
        optimiser: optax.GradientTransformation,
        sampling: Sampling,
        update: Update = update,
    ):
        self._optimiser, self._sampling, self._update = optimiser, sampling, update
        _, self._static = eqx.partition(state, eqx.is_array)
        self._run = jax.jit(self._updates, donate_argnums=0)
        self._act = jax.jit(self._actions, static_argnums=3)

    def begin(self, state: TrainState, replay: Replay, key: Key) -> Training:
        """Training before its first update, with buffers of its own; `key` seeds batches."""
        arrays, key = jax.tree.map(jnp.copy, (eqx.filter(state, eqx.is_array), key))
        shapes = jax.eval_shape(self._one, arrays, key, replay)
        totals = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[2])
        return Training(arrays, key, totals, jnp.zeros((), jnp.int32))

    def take_over(self, training: Training, replay: Replay) -> Training:
        """What another trainer trained, with a fresh optimiser and no metrics counted."""
        state = restart_optimiser(self._combine(training.state), self._optimiser)
        return self.begin(state, replay, training.batch_key)

    def run(self, training: Training, replay: Replay, updates: int) -> Training:
        """`training` after that many updates; the old one's buffers are given up."""
        return self._run(training, replay, np.int32(updates))

    def agent(self, training: Training) -> AbstractAgent:
        """The agent as it is trained so far."""
        return self._combine(training.state).agent

    def next_batch(self, training: Training, replay: Replay) -> Batch:
        """The batch of the next update."""
        _, batch_key = jax.random.split(training.batch_key)
        return self._sampling.draw(replay, batch_key)

    def act(
        self,
        training: Training,
        observations: Float[np.ndarray, "batch obs"],
        key: Key,
        role: Role = "collect",
    ) -> Float[np.ndarray, "batch dim"]:
        """Action chunks of the present policy, or of its clone of the data."""
        return np.asarray(self._act(training.state, observations, key, role))

    def _combine(self, arrays: TrainState) -> TrainState:
        return eqx.combine(arrays, self._static)

    def _one(
        self, arrays: TrainState, key: Key, replay: Replay
    ) -> tuple[TrainState, Key, dict[str, Array]]:
        key, batch_key = jax.random.split(key)
        batch = self._sampling.draw(replay, batch_key)
        state, metrics = self._update(self._combine(arrays), batch, self._optimiser)
        return eqx.filter(state, eqx.is_array), key, flatten(metrics)

    def _updates(self, training: Training, replay: Replay, updates: Array) -> Training:
        # A metric that is not finite ends the loop, so that the counter of updates names the
        # offending one.
        def goes_on(carry: tuple[Array, Training]) -> Array:
            return (carry[0] < updates) & _all_finite(carry[1].totals)

        def body(carry: tuple[Array, Training]) -> tuple[Array, Training]:
            count, training = carry
            arrays, key, metrics = self._one(training.state, training.batch_key, replay)
            totals = jax.tree.map(jnp.add, training.totals, metrics)
            return count + 1, Training(arrays, key, totals, training.counted + 1)

        return jax.lax.while_loop(goes_on, body, (jnp.int32(0), training))[1]

    def _actions(
        self, arrays: TrainState, observations: Array, key: Key, role: Role
    ) -> PyTree[Array]:
        agent = self._combine(arrays).agent
        act = {
            "collect": agent.act,
            "evaluate": agent.act_in_evaluation,
            "behaviour": agent.act_as_behaviour,
        }
        return act[role](observations, key)


def _all_finite(totals: dict[str, Float[Array, ""]]) -> Bool[Array, ""]:
    return jnp.all(jnp.isfinite(jnp.stack(list(totals.values()))))
