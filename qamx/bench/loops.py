"""Other ways to run updates than the trainer's: seeds side by side, and a loop on the host."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qamx._types import Batch
from qamx.agents import update
from qamx.bench.problem import Problem
from qamx.data.transitions import Transitions
from qamx.nn import Precision, matmul_precision
from qamx.training.state import Trainer, flatten


class SeedsTogether:
    """Several seeds of one method, trained by the runner's trainer as one program."""

    def __init__(self, problem: Problem, seeds: int, precision: Precision):
        state = eqx.filter_vmap(problem.state)(jax.random.split(jax.random.key(0), seeds))
        self._replay = problem.replay(members=seeds)
        self._trainer = Trainer(
            state, problem.optimiser, problem.sampling, update, precision, seeds
        )
        keys = jax.random.split(jax.random.key(1), seeds)
        self._training = self._trainer.begin(state, self._replay, keys)

    def run(self, updates: int) -> jax.Array:
        """As many updates of every seed."""
        self._training = self._trainer.run(self._training, self._replay, updates)
        return self._training.counted


class HostLoop:
    """What a plain script does: one compiled update (`equinox.filter_jit`) a call, on a batch that
    NumPy drew, and every metric fetched as a float."""

    def __init__(self, problem: Problem, precision: Precision):
        self._state, self._transitions = problem.state(jax.random.key(0)), problem.transitions()
        self._settings, self._rng = problem.settings, np.random.default_rng(0)
        self._optimiser = problem.optimiser
        self._precision: Precision = precision
        self._update = eqx.filter_jit(update)

    def run(self, updates: int) -> dict[str, float]:
        """The metrics of the last update."""
        metrics: dict[str, float] = {}
        with matmul_precision(self._precision):
            for _ in range(updates):
                self._state, found = self._update(self._state, self._batch(), self._optimiser)
                metrics = {name: float(value) for name, value in flatten(found).items()}
        return metrics

    def _batch(self) -> Batch:
        size, horizon = self._settings.batch_size, self._settings.horizon
        starts = self._rng.integers(0, len(self._transitions) - horizon + 1, size)
        return host_windows(self._transitions, starts, horizon, self._settings.discount)


def host_windows(
    transitions: Transitions, starts: np.ndarray, horizon: int, discount: float
) -> Batch:
    """`qamx.data.transitions.windows` in NumPy."""
    data = jax.tree.map(np.asarray, transitions)
    rows = starts[:, None] + np.arange(horizon)
    alive = np.cumsum(data.ends[rows], axis=1) - data.ends[rows] == 0
    last = starts + alive.sum(axis=1) - 1
    weights = (discount ** np.arange(horizon) * alive).astype(np.float32)
    batch = Batch(
        observations=data.observations[starts],
        actions=data.actions[rows].reshape(len(starts), -1),
        rewards=np.sum(weights * data.rewards[rows], axis=1),
        masks=np.min(np.where(alive, data.masks[rows], np.float32(1)), axis=1),
        valid=alive[:, -1].astype(np.float32),
        next_observations=data.next_observations[last],
    )
    return jax.tree.map(jnp.asarray, batch)
