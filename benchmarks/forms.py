"""Other forms of the same update, timed in turn with the present one.

    python benchmarks/forms.py --size paper --rounds 6

Critics one after the other in place of all at once, a compiler without its fusions of matrix
products, bfloat16 inputs; then how long the loops' unrolled form takes to compile.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.extend as jex
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from qamx._types import Batch
from qamx._utils.flops import elapsed
from qamx.agents import TrainState, update
from qamx.data.replay import Replay
from qamx.nn import MLP, AbstractCritic, EnsembleCritic, Precision, matmul_precision
from qamx.rl import trainable
from qamx.tools.bench_measure import SIZES, BenchProblem, settings_of

WITHOUT_YNN = {"xla_cpu_experimental_ynn_fusion_type": ""}


class CriticsInTurn(AbstractCritic):
    """`EnsembleCritic` with its members evaluated one after the other."""

    members: MLP

    def __call__(
        self, observation: Float[Array, "*batch obs"], action: Float[Array, "*batch dim"]
    ) -> Float[Array, "ensemble *batch"]:
        inputs = jnp.concatenate([observation, action], axis=-1)
        arrays, static = eqx.partition(self.members, eqx.is_array)
        return jax.lax.map(lambda one: eqx.combine(one, static)(inputs)[..., 0], arrays)


def critics_in_turn(problem: BenchProblem) -> TrainState:
    """The state of a problem whose critics are evaluated one after the other."""

    def changed(node: Any) -> Any:
        return CriticsInTurn(node.members) if isinstance(node, EnsembleCritic) else node

    def is_critic(node: Any) -> bool:
        return isinstance(node, EnsembleCritic)

    return jax.tree.map(changed, problem.state(jax.random.key(0)), is_leaf=is_critic)


class Form:
    """One way to compile the same updates."""

    def __init__(
        self,
        problem: BenchProblem,
        state: TrainState,
        replay: Replay,
        options: dict[str, Any] | None = None,
        precision: Precision = "float32",
    ):
        arrays, static = eqx.partition(state, eqx.is_array)
        self._carry, self._replay = jax.tree.map(jnp.copy, (arrays, jax.random.key(1))), replay

        def one(carry: Any, replay: Replay) -> Any:
            arrays, key = carry
            key, batch_key = jax.random.split(key)
            batch = problem.sampling.draw(replay, batch_key)
            state, _ = update(eqx.combine(arrays, static), batch, problem.optimiser)
            return eqx.filter(state, eqx.is_array), key

        def many(carry: Any, replay: Replay, updates: Array) -> Any:
            return jax.lax.fori_loop(0, updates, lambda _, carry: one(carry, replay), carry)

        def slope(agent: Any, batch: Batch) -> Any:
            trained, rest = eqx.partition(agent, trainable(agent))
            return eqx.filter_value_and_grad(
                lambda trained: eqx.combine(trained, rest).loss(batch, jax.random.key(2))[0]
            )(trained)

        with matmul_precision(precision):
            lowered = jax.jit(many, donate_argnums=0).lower(self._carry, replay, np.int32(1))
            self._program = lowered.compile(compiler_options=options)
            batch = problem.sampling.draw(replay, jax.random.key(3))
            loss, gradient = eqx.filter_jit(slope)(state.agent, batch)
        self.loss, self.gradient = float(loss), np.asarray(ravel_pytree(gradient)[0])

    def run(self, updates: int) -> Any:
        """As many updates."""
        self._carry = self._program(self._carry, self._replay, np.int32(updates))
        return self._carry


def forms(problem: BenchProblem) -> dict[str, Form]:
    """The present form first."""
    replay, state = problem.replay(), problem.state(jax.random.key(0))
    in_turn = critics_in_turn(problem)
    return {
        "present": Form(problem, state, replay),
        "critics in turn": Form(problem, in_turn, replay),
        "without ynn fusion": Form(problem, state, replay, WITHOUT_YNN),
        "critics in turn, without ynn": Form(problem, in_turn, replay, WITHOUT_YNN),
        "bfloat16": Form(problem, state, replay, precision="bfloat16"),
        "bfloat16, critics in turn": Form(problem, in_turn, replay, precision="bfloat16"),
        "bfloat16, in turn, without ynn": Form(problem, in_turn, replay, WITHOUT_YNN, "bfloat16"),
    }


def compile_times(problem: BenchProblem) -> tuple[float, float]:
    """Seconds to trace and compile one update as it is, and with its loops unrolled."""
    replay = problem.replay()
    arrays, static = eqx.partition(problem.state(jax.random.key(0)), eqx.is_array)
    batch = problem.sampling.draw(replay, jax.random.key(1))

    def one(arrays: Any, batch: Batch) -> Any:
        state, metrics = update(eqx.combine(arrays, static), batch, problem.optimiser)
        return jax.tree.leaves((eqx.filter(state, eqx.is_array), metrics))

    def seconds(make: Callable[[], Any]) -> float:
        began = time.perf_counter()
        jaxpr = make()
        program = jax.jit(jex.core.jaxpr_as_fun(jaxpr))
        program.lower(*jax.tree.leaves((arrays, batch))).compile()
        return time.perf_counter() - began

    def unrolled() -> Any:
        with jax.disable_jit():  # under which a scan is traced as a Python loop
            return jax.make_jaxpr(one)(arrays, batch)

    return seconds(lambda: jax.make_jaxpr(one)(arrays, batch)), seconds(unrolled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--method", default="qam_edit")
    parser.add_argument("--size", choices=SIZES, default="paper")
    parser.add_argument("--rounds", type=int, default=6, help="timed in turn; the shortest counts")
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    settings = settings_of(arguments.method, **size.agent)
    problem = BenchProblem(settings, size.observation, size.action)
    made = forms(problem)
    best = dict.fromkeys(made, float("inf"))
    for _ in range(arguments.rounds):
        for name, form in made.items():
            spent = elapsed(lambda form=form: form.run(size.updates)) / size.updates
            best[name] = min(best[name], spent)
    present = made["present"]
    print(f"{'form':<32}{'ms':>10}{'gain':>8}{'loss differs':>14}{'gradient':>10}")
    for name, form in made.items():
        loss = abs(form.loss - present.loss) / abs(present.loss)
        slope = np.linalg.norm(form.gradient - present.gradient) / np.linalg.norm(present.gradient)
        gain = best["present"] / best[name]
        print(f"{name:<32}{best[name] * 1e3:>10.2f}{gain:>8.2f}{loss:>14.1e}{slope:>10.1e}")
    looped, unrolled = compile_times(problem)
    print(f"trace and compile: {looped:.1f} s, unrolled {unrolled:.1f} s, {looped / unrolled:.2f}")


if __name__ == "__main__":
    main()
