"""All figures of one method on this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np

from qamx._utils.flops import Floor, count, elapsed, flops
from qamx.agents import update
from qamx.bench.loops import HostLoop, SeedsTogether
from qamx.bench.problem import Problem
from qamx.data.replay import Replay
from qamx.nn import Precision, matmul_precision
from qamx.training.state import Trainer

MIB = 2**20
OBSERVATIONS = 10
"""Environments that an evaluation steps together: rows of a policy call."""


@dataclass(frozen=True)
class Effort:
    """`updates` in a timed call; of `rounds` of calls the shortest counts."""

    updates: int
    rounds: int


@dataclass(frozen=True)
class Together:
    """Seeds in one program: updates a second of all seeds, and over those of one seed alone."""

    seeds: int
    updates_per_second: float
    over_one_seed: float


@dataclass(frozen=True)
class Figures:
    """Of one method. Times are of one update, milliseconds, where nothing else is said."""

    method: str
    products: int
    gflop: float
    """Of the matrix products, loops in full."""
    gflop_compiled: float
    """XLA's own count of the compiled program, elementwise work included and loops once."""
    update_ms: float
    floor_ms: float
    over_floor: float
    gflop_per_second: float
    host_loop_ms: float
    over_host_loop: float
    """How many times faster than one update a call, batches drawn and metrics read on the host."""
    state_mib: float
    """Networks, targets and optimiser."""
    temporary_mib: float
    """What the program needs beside its arguments."""
    trace_s: float
    compile_s: float
    act_calls_per_second: float
    """Policy calls of an evaluation, each for `OBSERVATIONS` environments."""
    together: tuple[Together, ...]


def measure(
    method: str, problem: Problem, seeds: tuple[int, ...], precision: Precision, effort: Effort
) -> Figures:
    """Compiles and times one method; compared times are taken in turn."""
    state, replay = problem.state(jax.random.key(0)), problem.replay()
    trainer = Trainer(state, problem.optimiser, problem.sampling, precision=precision)
    training = trainer.begin(state, replay, jax.random.key(1))
    began = time.perf_counter()
    lowered = trainer.lower(training, replay)
    traced = time.perf_counter()
    program = lowered.compile()
    compiled = time.perf_counter()

    def run(updates: int) -> jax.Array:
        nonlocal training
        training = program(training, replay, np.int32(updates))
        return training.counted

    products = update_products(problem, replay, precision)
    host, floor = HostLoop(problem, precision), Floor(products)
    observations = np.zeros((OBSERVATIONS, problem.observation), np.float32)
    updates, act_calls = effort.updates, 20

    def act() -> None:
        for call in range(act_calls):
            trainer.acting(training.state.agent, observations, jax.random.key(call), "evaluate")

    many = by_hand = acting = float("inf")
    for warm in (run, host.run):
        jax.block_until_ready(warm(1))
    act()
    for _ in range(effort.rounds):
        many = min(many, elapsed(lambda: run(updates)) / updates)
        floor.round()
        by_hand = min(by_hand, elapsed(lambda: host.run(updates)) / updates)
        acting = min(acting, elapsed(act) / act_calls)
    gflop = flops(products) / 1e9
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
        state_mib=_bytes(eqx.filter(state, eqx.is_array)) / MIB,
        temporary_mib=_temporaries(program) / MIB,
        trace_s=traced - began,
        compile_s=compiled - traced,
        act_calls_per_second=1 / acting,
        together=tuple(_together(problem, n, precision, effort, run) for n in seeds),
    )


def update_products(problem: Problem, replay: Replay, precision: Precision) -> Any:
    """The matrix products of one update."""
    arrays, static = eqx.partition(problem.state(jax.random.key(0)), eqx.is_array)
    batch = problem.sampling.draw(replay, jax.random.key(1))

    def one(arrays: Any, batch: Any) -> Any:
        state = eqx.combine(arrays, static)
        return eqx.filter(update(state, batch, problem.optimiser), eqx.is_array)

    with matmul_precision(precision):
        return count(one, arrays, batch)


def _together(
    problem: Problem,
    seeds: int,
    precision: Precision,
    effort: Effort,
    alone: Callable[[int], Any],
) -> Together:
    loop = SeedsTogether(problem, seeds, precision)
    updates = max(1, effort.updates // seeds)
    jax.block_until_ready(loop.run(1))
    together = one = float("inf")
    for _ in range(effort.rounds):
        together = min(together, elapsed(lambda: loop.run(updates)) / updates)
        one = min(one, elapsed(lambda: alone(updates)) / updates)
    return Together(seeds, seeds / together, seeds * one / together)


def _compiled_flops(program: jax.stages.Compiled) -> float:
    """XLA's count; JAX gives a table, or on some versions a list of one for each program."""
    analysis: Any = program.cost_analysis()
    table = analysis[0] if isinstance(analysis, list) else analysis
    return float(table.get("flops", 0.0))


def _temporaries(program: jax.stages.Compiled) -> int:
    memory = program.memory_analysis()
    return 0 if memory is None else memory.temp_size_in_bytes


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
