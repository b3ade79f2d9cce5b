"""The state of training, its compiled updates, and the names of their metrics."""

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from qamx._types import Batch, Key, Metrics
from qamx.agents import AbstractAgent, TrainState, restart_optimiser, update
from qamx.data.replay import Replay, Sampling
from qamx.nn import Precision, matmul_precision
from qamx.training.evaluator import Acting


def section(record: Metrics) -> str:
    """The part of a key before the slash: the record's class in snake case, less "Metrics"."""
    name = type(record).__name__.removesuffix("Metrics")
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def flatten(records: tuple[Metrics, ...]) -> dict[str, Array]:
    """`section/field` for every scalar of the records.

    **Raises:** `ValueError` if two records have the same class, and so the same names.
    """
    sections = [section(record) for record in records]
    if len(set(sections)) < len(sections):
        raise ValueError(f"two metrics records of one class: {', '.join(sections)}")
    return {
        f"{section(record)}/{name}": value
        for record in records
        for name, value in vars(record).items()
    }


Update: TypeAlias = Callable[
    [TrainState, Batch, optax.GradientTransformation], tuple[TrainState, tuple[Metrics, ...]]
]
"""One update of a phase: `qamx.agents.update` or `qamx.agents.clone`."""

T = TypeVar("T", bound=PyTree)


class Training(eqx.Module):
    """What training changes: train state, key of batches, metrics since the last row.

    In a group of seeds every leaf has a leading axis, one entry a seed.
    """

    state: TrainState
    batch_key: Key
    totals: dict[str, Float[Array, "*members"]]
    counted: Int[Array, "*members"]
    """Updates since the last row, up to and including one that is not finite."""

    def means(self) -> list[dict[str, float]]:
        """The metrics' means since they were last cleared, a table for each seed (waits for the
        device, once)."""
        fetched = jax.device_get((self.totals, self.counted))
        totals, counted = jax.tree.map(np.atleast_1d, fetched)
        return [
            {name: float(total[seed]) / max(int(count), 1) for name, total in totals.items()}
            for seed, count in enumerate(counted)
        ]

    def cleared(self) -> "Training":
        """The same with no metrics counted."""
        totals, counted = jax.tree.map(jnp.zeros_like, (self.totals, self.counted))
        return Training(self.state, self.batch_key, totals, counted)

    def of(self, member: int | None) -> "Training":
        """The training of one seed of the group."""
        return member_of(self, member)


def member_of(tree: T, member: int | None) -> T:
    """One seed's part of what a group has; all of it for a run by itself."""
    return tree if member is None else jax.tree.map(lambda leaf: leaf[member], tree)


def stacked(trees: Sequence[T]) -> T:
    """Trees of one form as one, whose leaves have a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


class Trainer:
    """Runs updates on a replay buffer, any number of them in one compiled call.

    The number of updates is an argument of the compiled program, so that one compilation serves
    a whole phase; batches are drawn inside it, and its buffers are donated.

    **Arguments:** `state` is of the form that will be trained (its arrays are not kept),
    `sampling` says how batches are drawn, `update` what one update is, `precision` how exact
    matrix products are; `members`, where given, is the number of seeds that are trained together,
    as one program over a leading axis.
    """

    def __init__(
        self,
        state: TrainState,
        optimiser: optax.GradientTransformation,
        sampling: Sampling,
        update: Update = update,
        precision: Precision = "tf32",
        members: int | None = None,
    ):
        self._optimiser, self._sampling, self._update = optimiser, sampling, update
        self._precision: Precision = precision
        self._members = members
        _, self._static = eqx.partition(state, eqx.is_array)
        self._run = jax.jit(self._updates, donate_argnums=0)
        self.acting = Acting(state.agent, precision)
        self._act_together = jax.jit(self._collected_together)

    def begin(self, state: TrainState, replay: Replay, key: Key) -> Training:
        """Training before its first update, with buffers of its own; `key` seeds batches.

        In a group, leaves of `state` and `key` have the leading axis.
        """
        arrays, key = jax.tree.map(jnp.copy, (eqx.filter(state, eqx.is_array), key))
        with matmul_precision(self._precision):
            shapes = jax.eval_shape(self._step(replay), arrays, key, replay)
        totals = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[2])
        counted = jnp.zeros(() if self._members is None else (self._members,), jnp.int32)
        return Training(arrays, key, totals, counted)

    def take_over(self, training: Training, replay: Replay) -> Training:
        """What another trainer trained, with a fresh optimiser and no metrics counted."""

        def restart(arrays: TrainState) -> TrainState:
            state = restart_optimiser(self._combine(arrays), self._optimiser)
            return eqx.filter(state, eqx.is_array)

        restart = restart if self._members is None else jax.vmap(restart)
        return self.begin(restart(training.state), replay, training.batch_key)

    def run(self, training: Training, replay: Replay, updates: int) -> Training:
        """`training` after that many updates; the old one's buffers are given up."""
        with matmul_precision(self._precision):
            return self._run(training, replay, np.int32(updates))

    def lower(self, training: Training, replay: Replay) -> jax.stages.Lowered:
        """The program of `run`, not compiled yet; it takes `run`'s arguments."""
        with matmul_precision(self._precision):
            return self._run.lower(training, replay, np.int32(1))

    def agent(self, training: Training) -> AbstractAgent:
        """The agent as it is trained so far (of one seed)."""
        return self._combine(training.state).agent

    def next_batch(self, training: Training, replay: Replay) -> Batch:
        """The batch of the next update (of one seed)."""
        _, batch_key = jax.random.split(training.batch_key)
        return self._sampling.draw(replay, batch_key)

    def act_together(
        self,
        training: Training,
        observations: Float[np.ndarray, "members obs"],
        keys: Sequence[Key],
        calls: Int[np.ndarray, " members"],
    ) -> Float[np.ndarray, "members dim"]:
        """A chunk to collect data with for each seed of a group, by its own policy.

        **Arguments:** the draw is seeded by a key of each seed and the number of its chunk.
        """
        agents = training.state.agent
        with matmul_precision(self._precision):
            return np.asarray(self._act_together(agents, observations, tuple(keys), calls))

    def _combine(self, arrays: TrainState) -> TrainState:
        return eqx.combine(arrays, self._static)

    def _one(
        self, arrays: TrainState, key: Key, replay: Replay
    ) -> tuple[TrainState, Key, dict[str, Array]]:
        key, batch_key = jax.random.split(key)
        batch = self._sampling.draw(replay, batch_key)
        state, metrics = self._update(self._combine(arrays), batch, self._optimiser)
        return eqx.filter(state, eqx.is_array), key, flatten(metrics)

    def _step(self, replay: Replay) -> Any:
        """One update, of one seed or of all seeds of the group."""
        if self._members is None:
            return self._one
        return jax.vmap(self._one, in_axes=(0, 0, replay.member_axes()))

    def _updates(self, training: Training, replay: Replay, updates: Array) -> Training:
        # A metric that is not finite ends the loop, so that `counted` names the offending update;
        # in a group the others go on, and `counted` of the broken one stays there.
        def goes_on(carry: tuple[Array, Training]) -> Array:
            return (carry[0] < updates) & jnp.any(_all_finite(carry[1].totals))

        def body(carry: tuple[Array, Training]) -> tuple[Array, Training]:
            count, training = carry
            finite = _all_finite(training.totals)
            step = self._step(replay)
            arrays, key, metrics = step(training.state, training.batch_key, replay)
            totals = jax.tree.map(jnp.add, training.totals, metrics)
            return count + 1, Training(arrays, key, totals, training.counted + finite)

        return jax.lax.while_loop(goes_on, body, (jnp.int32(0), training))[1]

    def _collected_together(
        self, agents: AbstractAgent, observations: Array, keys: tuple[Key, ...], calls: Array
    ) -> PyTree[Array]:
        def act(agent: AbstractAgent, observation: Array, key: Key, call: Array) -> PyTree[Array]:
            folded = jax.random.fold_in(key, call)
            return self.acting.actions(agent, observation[None], folded, "collect")[0]

        return jax.vmap(act)(agents, observations, jnp.stack(keys), calls)


def _all_finite(totals: dict[str, Float[Array, "*members"]]) -> Bool[Array, "*members"]:
    return jnp.all(jnp.isfinite(jnp.stack(list(totals.values()))), axis=0)
