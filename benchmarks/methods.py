"""What an update of each method costs at the paper's size, and how large its networks are.

    python benchmarks/methods.py

Prints a Markdown table of every registered method. Programs are traced, not compiled or run:
the figures are counts, the same on every machine.
"""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from qamx import registry
from qamx._types import Batch
from qamx._utils.flops import count, flops
from qamx.agents import AbstractAgent, TrainState, update
from qamx.building import build_optimiser
from qamx.config import AgentSettings
from qamx.rl import trainable
from qamx.tools.bench_measure import SIZES, BenchProblem, settings_of

OBSERVATION, ACTION = SIZES["paper"].observation, SIZES["paper"].action


def state_of(settings: AgentSettings) -> TrainState:
    """The shapes of a method's state before its first update."""

    problem = BenchProblem(settings, OBSERVATION, ACTION)
    return eqx.filter_eval_shape(problem.state, jax.random.key(0))


def batch_of(settings: AgentSettings) -> Batch:
    """The shapes of a batch."""

    def rows(*shape: int) -> Any:
        return jax.ShapeDtypeStruct((settings.batch_size, *shape), "float32")

    observation, actions = rows(OBSERVATION), rows(settings.horizon * ACTION)
    return Batch(observation, actions, rows(), rows(), rows(), observation)


def update_flops(settings: AgentSettings) -> int:
    """Of the matrix products of one update."""
    arrays, static = eqx.partition(state_of(settings), _is_shape)

    def one(arrays: TrainState, batch: Batch) -> PyTree:
        state = eqx.combine(arrays, static)
        return eqx.filter(update(state, batch, build_optimiser(settings)), eqx.is_array)

    return _flops(one, arrays, batch_of(settings))


def act_flops(settings: AgentSettings) -> int:
    """Of the matrix products of one action chunk in an evaluation."""
    arrays, static = eqx.partition(state_of(settings).agent, _is_shape)

    def act(arrays: AbstractAgent, observation: jax.Array, key: jax.Array) -> jax.Array:
        return eqx.combine(arrays, static).act_in_evaluation(observation, key)

    observation = jax.ShapeDtypeStruct((1, OBSERVATION), "float32")
    return _flops(act, arrays, observation, jax.random.key(0))


def parameters(settings: AgentSettings) -> tuple[int, int]:
    """Those that the optimiser trains, and the copies of some of them that follow as targets."""
    agent = jax.tree.map(
        lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype) if _is_shape(leaf) else leaf,
        state_of(settings).agent,
    )
    trained, rest = eqx.partition(agent, trainable(agent))
    return _entries(trained), _entries(eqx.filter(rest, eqx.is_inexact_array))


def row(name: str) -> str:
    """A method's line of the table."""
    settings = settings_of(name)
    trained, copies = parameters(settings)
    cells = (
        f"`{name}`",
        str(settings.gradient_clip),
        f"{update_flops(settings) / 1e9:.1f}",
        f"{act_flops(settings) / 1e6:.1f}",
        f"{trained / 1e6:.2f}",
        f"{copies / 1e6:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def _flops(function, *arguments: PyTree) -> int:
    return flops(count(function, *arguments))


def _is_shape(leaf: object) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _entries(tree: PyTree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def main() -> None:
    print("| method | gradient clip | update, GFLOP | act, MFLOP | trained, M | targets, M |")
    print("|---|---|---|---|---|---|")
    for name in registry.agents.names():
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
