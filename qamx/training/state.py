"""The state of training, of one seed or several stacked: compiled updates, metrics' names."""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PyTree

from qamx._types import Batch, Key, Metrics
from qamx._utils.backend import compiler_options
from qamx.agents import AbstractAgent, TrainState, restart_optimiser, update
from qamx.data.replay import Replay, Sampling
from qamx.nn import Precision, matmul_precision
from qamx.training.evaluator import Acting

T = TypeVar("T", bound=PyTree)
Stack = Callable[[Sequence[Any]], Any]

OWN, SHARED = PartitionSpec("seed"), PartitionSpec()
"""The division of a joined tree among the devices, and of one that all seeds share."""
REPLAY: Any = Replay(*cast(Any, (SHARED, OWN, SHARED)))
"""Of a group's buffer, only the online rows are divided among the devices."""


@dataclass(frozen=True)
class Alone:
    """One seed, whose arrays have no axis of seeds."""

    @property
    def axes(self) -> tuple[int, ...]:
        """Leading axes of the arrays of which each seed has its part."""
        return ()

    def place(self, index: int) -> tuple[int, ...]:
        """The index of a seed's part in such arrays."""
        return ()

    def join(self, trees: Sequence[T], stack: Stack = jnp.stack) -> T:
        """One tree of the trees of all seeds; `stack` is `np.stack` to stay on the host."""
        (tree,) = trees
        return tree

    def of(self, tree: T, index: int) -> T:
        """A seed's part of a joined tree."""
        return tree

    def map(self, function: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
        """A function of one seed's trees as one of joined trees; `in_axes` as of `jax.vmap`."""
        return function

    def put(self, tree: T, axes: Any) -> T:
        """A tree on the devices of the seeds, divided as `OWN`, `SHARED` or `REPLAY` say."""
        return tree

    def on_devices(self, updates: "Updates") -> "Updates":
        """The updates of a device's seeds as those of all devices' seeds."""
        return updates

    def label(self, seed: int, line: str) -> str:
        """A line of output about a seed."""
        return line


@dataclass(frozen=True)
class Stacked:
    """`size` seeds along the leading axis, in equal parts on `count` devices.

    Devices do not wait for each other: each trains its seeds by itself.
    """

    size: int
    count: int = 1

    @functools.cached_property
    def mesh(self) -> Mesh:
        """The devices, along an axis `seed`."""
        return Mesh(np.array(jax.local_devices()[: self.count]), ("seed",))

    @property
    def axes(self) -> tuple[int, ...]:
        return (self.size,)

    def place(self, index: int) -> tuple[int, ...]:
        return (index,)

    def join(self, trees: Sequence[T], stack: Stack = jnp.stack) -> T:
        joined = jax.tree.map(lambda *leaves: stack(leaves), *trees)
        return joined if stack is np.stack else self.put(joined, OWN)

    def of(self, tree: T, index: int) -> T:
        device, place = divmod(index, self.size // self.count)
        if self.count > 1:
            own = jax.tree.map(lambda leaf: leaf.addressable_data(device), tree)
            tree = jax.device_put(own, self.mesh.devices[0])
        return _entry(tree, place)

    def map(self, function: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
        return jax.vmap(function, in_axes)

    def put(self, tree: T, axes: Any) -> T:
        if self.count == 1:
            return tree
        return jax.device_put(tree, jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), axes))

    def on_devices(self, updates: "Updates") -> "Updates":
        if self.count == 1:
            return updates
        parts = (OWN, REPLAY, SHARED)
        return jax.shard_map(
            updates, mesh=self.mesh, in_specs=parts, out_specs=OWN, check_vma=False
        )

    def label(self, seed: int, line: str) -> str:
        return f"seed {seed:>6}  {line}"


@jax.jit
def _entry(tree: T, index: int) -> T:
    return jax.tree.map(lambda leaf: leaf[index], tree)


Stacking: TypeAlias = Alone | Stacked
ALONE = Alone()


def flatten(records: tuple[Metrics, ...]) -> dict[str, Array]:
    """`section/field` for every scalar; a section is a record's class in snake case, less Metrics.

    **Raises:** `ValueError` if two records have the same class, and so the same names.
    """
    classes = [type(record).__name__.removesuffix("Metrics") for record in records]
    sections = [re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in classes]
    if len(set(sections)) < len(sections):
        raise ValueError(f"two metrics records of one class: {', '.join(sections)}")
    return {
        f"{section}/{name}": value
        for section, record in zip(sections, records, strict=True)
        for name, value in vars(record).items()
    }


Update: TypeAlias = Callable[
    [TrainState, Batch, optax.GradientTransformation], tuple[TrainState, tuple[Metrics, ...]]
]
"""One update of a phase: `qamx.agents.update` or `qamx.agents.clone`."""


class Training(eqx.Module):
    """The state of training: train state, key of batches, metrics since the last row.

    In a group of seeds every leaf has a leading axis, one entry a seed.
    """

    state: TrainState
    batch_key: Key
    totals: dict[str, Float[Array, "*seeds"]]
    counted: Int[Array, "*seeds"]
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


Updates: TypeAlias = Callable[[Training, Replay, Array], Training]


class Trainer:
    """Runs updates on a replay buffer, any number of them in one compiled call.

    The number of updates is an argument of the compiled program, so that one compilation serves
    a whole phase; batches are drawn inside it, and its buffers are donated.

    **Arguments:** `state` has the structure of what is trained (its arrays are not kept),
    `sampling` draws batches, `update` is one update, `precision` that of matrix products; `seeds`
    is the arrangement of the seeds that are trained.
    """

    def __init__(
        self,
        state: TrainState,
        optimiser: optax.GradientTransformation,
        sampling: Sampling,
        update: Update = update,
        precision: Precision = "tf32",
        seeds: Stacking = ALONE,
    ):
        self._optimiser, self._sampling, self._update = optimiser, sampling, update
        self._precision: Precision = precision
        self._seeds = seeds
        _, self._static = eqx.partition(state, eqx.is_array)
        self._run = jax.jit(
            seeds.on_devices(self._updates), donate_argnums=0, compiler_options=compiler_options()
        )
        self._update_once = jax.jit(self._one)  # traced once, though `begin` asks for its shapes
        self.acting = Acting(state.agent, precision, seeds.map)

    def begin(self, state: TrainState, replay: Replay, key: Key) -> Training:
        """Training before its first update, on copies of its buffers; `key` seeds batches.

        In a group, leaves of `state` and `key` have the leading axis.
        """
        arrays, key = jax.tree.map(jnp.copy, (eqx.filter(state, eqx.is_array), key))
        axes, place = self._seeds.axes, self._seeds.place(0)

        def metrics_of_one(trees: Any, replay: Replay) -> dict[str, Array]:
            own = jax.tree.map(lambda leaf: leaf[place], trees)
            return self._update_once(*own, replay.of(place))[2]

        with matmul_precision(self._precision):
            metrics = jax.eval_shape(metrics_of_one, (arrays, key), replay)
        totals = {name: jnp.zeros(axes, metric.dtype) for name, metric in metrics.items()}
        counted = jnp.zeros(axes, jnp.int32)
        return self._seeds.put(Training(arrays, key, totals, counted), OWN)

    def start_phase(self, training: Training, replay: Replay) -> Training:
        """The training of another trainer, with a fresh optimiser and no metrics counted."""

        def restart(arrays: TrainState) -> TrainState:
            state = restart_optimiser(self._combine(arrays), self._optimiser)
            return eqx.filter(state, eqx.is_array)

        state = self._seeds.map(restart)(training.state)
        return self.begin(state, replay, training.batch_key)

    def run(self, training: Training, replay: Replay, updates: int) -> Training:
        """`training` after that many updates; its own buffers are donated."""
        with matmul_precision(self._precision):
            return self._run(training, replay, np.int32(updates))

    def copy_agent(self, training: Training) -> AbstractAgent:
        """The agent of one seed's training, which later updates do not change."""
        arrays = jax.tree.map(jnp.copy, training.state)
        return self._combine(arrays).agent

    def lower(self, training: Training, replay: Replay) -> jax.stages.Lowered:
        """The program of `run`, not compiled yet; it takes `run`'s arguments."""
        with matmul_precision(self._precision):
            return self._run.lower(training, replay, np.int32(1))

    def next_batch(self, training: Training, replay: Replay) -> Batch:
        """The batch of the next update (of one seed)."""
        _, batch_key = jax.random.split(training.batch_key)
        return self._sampling.draw(replay, batch_key)

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
        """One update of all seeds."""
        return self._seeds.map(self._update_once, (0, 0, replay.seed_axes()))

    def _updates(self, training: Training, replay: Replay, updates: Array) -> Training:
        # A metric that is not finite ends the loop, so that `counted` names the offending update;
        # in a group the other seeds continue, and `counted` of the diverged one stays there.
        def unfinished(carry: tuple[Array, Training]) -> Array:
            return (carry[0] < updates) & jnp.any(_all_finite(carry[1].totals))

        def body(carry: tuple[Array, Training]) -> tuple[Array, Training]:
            count, training = carry
            finite = _all_finite(training.totals)
            step = self._step(replay)
            arrays, key, metrics = step(training.state, training.batch_key, replay)
            totals = jax.tree.map(jnp.add, training.totals, metrics)
            return count + 1, Training(arrays, key, totals, training.counted + finite)

        return jax.lax.while_loop(unfinished, body, (jnp.int32(0), training))[1]


def _all_finite(totals: dict[str, Float[Array, "*seeds"]]) -> Bool[Array, "*seeds"]:
    return jnp.all(jnp.isfinite(jnp.stack(list(totals.values()))), axis=0)
