"""Measurements of `qamx bench`: the problem, the loops, their times."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from qamx import registry
from qamx._types import Batch
from qamx._utils.backend import used_devices
from qamx._utils.flops import MatmulLowerBound, count, elapsed, flops
from qamx._utils.html import write_text
from qamx.agents import AbstractAgent, TrainState, create_state, update
from qamx.building import build_agent, build_optimiser, build_sampling
from qamx.config.agents import AgentSettings
from qamx.data.replay import Replay, Sampling
from qamx.data.transitions import Transitions
from qamx.nn import Precision, matmul_precision
from qamx.training.state import REPLAY, Stacked, Trainer, flatten

EPISODE = 1_000
"""Rows of a trajectory of the random data."""


@dataclass(frozen=True)
class Size:
    """Entries of an observation and of an action, keys of `[agent]`, updates of a timed call."""

    observation: int
    action: int
    agent: Mapping[str, Any]
    updates: int


def _small(width: int, batch: int) -> dict[str, Any]:
    hidden = {"actor_hidden": (width, width), "critic_hidden": (width, width)}
    return {**hidden, "ensemble_size": 2, "flow_steps": 5, "batch_size": batch}


SIZES = {
    "paper": Size(55, 5, {}, 2),
    "quickstart": Size(2, 2, _small(128, 128), 50),
    "tiny": Size(2, 2, _small(32, 64), 200),
}
"""The paper's networks on cube-quadruple, those of `experiments/quickstart.toml`, smaller ones."""


def settings_of(method: str, **values: Any) -> AgentSettings:
    """A method at its defaults; required keys, which change no size, as their examples.

    **Raises:** `UserError` if there is no method of that name.
    """
    model = registry.agents[method].load_settings()
    fields = model.model_fields.items()
    required = {key: (f.examples or [method])[0] for key, f in fields if f.is_required()}
    settings = model.model_validate({**required, **values})
    assert isinstance(settings, AgentSettings)
    return settings


@dataclass(frozen=True)
class BenchProblem:
    """A method with random data."""

    settings: AgentSettings
    observation: int
    action: int

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """The optimiser of the method."""
        return build_optimiser(self.settings)

    @property
    def sampling(self) -> Sampling:
        """The sampling of the method."""
        return build_sampling(self.settings)

    def state(self, key: jax.Array) -> TrainState:
        """The state before the first update."""
        agent_key, update_key = jax.random.split(key)
        agent = build_agent(self.settings, self.observation, self.action, agent_key)
        return create_state(agent, self.optimiser, update_key)

    def transitions(self) -> Transitions:
        """Unstructured data."""
        rng, rows = np.random.default_rng(0), 10 * EPISODE
        ends = np.zeros(rows, np.float32)
        ends[EPISODE - 1 :: EPISODE] = 1
        return Transitions(
            rng.standard_normal((rows, self.observation), np.float32),
            rng.uniform(-1, 1, (rows, self.action)).astype(np.float32),
            -np.ones(rows, np.float32),
            np.ones(rows, np.float32),
            ends,
            rng.standard_normal((rows, self.observation), np.float32),
        )

    def replay(self, axes: tuple[int, ...] = ()) -> Replay:
        """The data on the device, for one seed or a group."""
        return Replay.create(self.transitions(), 0, axes)


def host_loop(problem: BenchProblem, precision: Precision) -> Callable[[int], dict[str, float]]:
    """A plain script of a number of updates, which returns the metrics of the last: one compiled
    update a call, batches drawn by NumPy, metrics fetched."""
    state, data, settings = (
        problem.state(jax.random.key(0)),
        problem.transitions(),
        problem.settings,
    )
    rng, optimiser, compiled = np.random.default_rng(0), problem.optimiser, eqx.filter_jit(update)
    horizon, metrics = settings.horizon, {}

    def run(updates: int) -> dict[str, float]:
        nonlocal state, metrics
        with matmul_precision(precision):
            for _ in range(updates):
                starts = rng.integers(0, len(data) - horizon + 1, settings.batch_size)
                batch = host_windows(data, starts, horizon, settings.discount)
                state, found = compiled(state, batch, optimiser)
                metrics = {name: float(value) for name, value in flatten(found).items()}
        return metrics

    return run


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


MIB = 2**20
OBSERVATIONS = 10
"""Rows of a policy call: environments of an evaluation."""
ACT_CALLS = 20
"""Policy calls that are timed together."""


@dataclass(frozen=True)
class VectorisedTiming:
    """Seeds in one program: updates a second of all seeds, and over those of one seed alone."""

    seeds: int
    updates_per_second: float
    over_one_seed: float


@dataclass(frozen=True)
class Figures:
    """Measurements of a method; times are of one update."""

    method: str
    products: int
    gflop: float
    """Matrix products of an update, loops in full."""
    gflop_compiled: float
    """XLA's own count of the compiled program, elementwise work included and loops once."""
    update_ms: float
    floor_ms: float
    over_floor: float
    gflop_per_second: float
    host_loop_ms: float
    over_host_loop: float
    """The speed-up over the host loop."""
    state_mib: float
    """Networks, targets and optimiser."""
    temporary_mib: float
    """Memory of the program without its arguments."""
    trace_s: float
    compile_s: float
    act_calls_per_second: float
    """Policy calls of an evaluation, each for `OBSERVATIONS` environments."""
    together: tuple[VectorisedTiming, ...]


def measure(
    method: str,
    problem: BenchProblem,
    seeds: tuple[int, ...],
    precision: Precision,
    updates: int,
    rounds: int,
) -> Figures:
    """Compiles and times one method; compared times are taken in turn.

    **Arguments:** `updates` are those of a timed call; of `rounds` of calls the shortest counts.
    """
    state, replay = problem.state(jax.random.key(0)), problem.replay()
    trainer = Trainer(state, problem.optimiser, problem.sampling, precision=precision)
    training = trainer.begin(state, replay, jax.random.key(1))
    began = time.perf_counter()
    lowered = trainer.lower(training, replay)
    traced = time.perf_counter()
    program = lowered.compile()
    compiled = time.perf_counter()

    def run(count: int) -> jax.Array:
        nonlocal training
        training = program(training, replay, np.int32(count))
        return training.counted

    arrays, products = eqx.filter(state, eqx.is_array), update_products(problem, replay, precision)
    by_script, floor = host_loop(problem, precision), MatmulLowerBound(products)
    observations = np.zeros((OBSERVATIONS, problem.observation), np.float32)
    many = by_hand = acting = float("inf")
    for warm in (run, by_script):
        jax.block_until_ready(warm(1))
    _act(trainer, training.state.agent, observations)
    for _ in range(rounds):
        many = min(many, elapsed(lambda: run(updates)) / updates)
        floor.round()
        by_hand = min(by_hand, elapsed(lambda: by_script(updates)) / updates)
        agent = training.state.agent
        calls = elapsed(lambda agent=agent: _act(trainer, agent, observations))
        acting = min(acting, calls / ACT_CALLS)
    gflop, memory = flops(products) / 1e9, program.memory_analysis()
    return Figures(
        method=method,
        products=sum(products.values()),
        gflop=gflop,
        gflop_compiled=_compiled_flops(program) / 1e9,
        update_ms=many * 1e3,
        floor_ms=floor.seconds * 1e3,
        over_floor=many / floor.seconds,
        gflop_per_second=gflop / many,
        host_loop_ms=by_hand * 1e3,
        over_host_loop=by_hand / many,
        state_mib=sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) / MIB,
        temporary_mib=(memory.temp_size_in_bytes if memory else 0) / MIB,
        trace_s=traced - began,
        compile_s=compiled - traced,
        act_calls_per_second=1 / acting,
        together=tuple(_together(problem, n, precision, updates, rounds, run) for n in seeds),
    )


def _act(trainer: Trainer, agent: AbstractAgent, observations: np.ndarray) -> None:
    for call in range(ACT_CALLS):
        trainer.acting(agent, observations, jax.random.key(call), "evaluate")


def update_products(problem: BenchProblem, replay: Replay, precision: Precision) -> Any:
    """The matrix products of one update."""
    arrays, static = eqx.partition(problem.state(jax.random.key(0)), eqx.is_array)
    batch = problem.sampling.draw(replay, jax.random.key(1))

    def next_state(arrays: Any, batch: Any) -> Any:
        state = eqx.combine(arrays, static)
        return eqx.filter(update(state, batch, problem.optimiser), eqx.is_array)

    with matmul_precision(precision):
        return count(next_state, arrays, batch)


def _together(
    problem: BenchProblem,
    seeds: int,
    precision: Precision,
    updates: int,
    rounds: int,
    alone: Callable[[int], Any],
) -> VectorisedTiming:
    """Times seeds that are trained as one program, in turn with one seed `alone`."""
    state = eqx.filter_vmap(problem.state)(jax.random.split(jax.random.key(0), seeds))
    stacking, parts = Stacked(seeds, used_devices(seeds)), (problem.optimiser, problem.sampling)
    replay = stacking.put(problem.replay(stacking.axes), REPLAY)
    trainer = Trainer(state, *parts, update, precision, stacking)
    training = trainer.begin(state, replay, jax.random.split(jax.random.key(1), seeds))

    def run(count: int) -> jax.Array:
        nonlocal training
        training = trainer.run(training, replay, count)
        return training.counted

    updates = max(1, updates // seeds)
    jax.block_until_ready(run(1))
    together = single = float("inf")
    for _ in range(rounds):
        together = min(together, elapsed(lambda: run(updates)) / updates)
        single = min(single, elapsed(lambda: alone(updates)) / updates)
    return VectorisedTiming(seeds, seeds / together, seeds * single / together)


def write_results(file: Path | None, settings: Mapping[str, Any], results: Sequence[Any]) -> None:
    """Writes the results so far: after each, so that an interruption loses one at most."""
    if file is not None:
        report = {**settings, "methods": [dataclasses.asdict(result) for result in results]}
        write_text("--json", file, json.dumps(report, indent=2) + "\n")


def _compiled_flops(program: jax.stages.Compiled) -> float:
    """XLA's count; JAX gives a table, or on some versions a list of one for each program."""
    analysis: Any = program.cost_analysis()
    table = analysis[0] if isinstance(analysis, list) else analysis
    return float(table.get("flops", 0.0))
