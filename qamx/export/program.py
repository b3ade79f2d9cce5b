"""An agent's sampler as a program of its own, for any number of observations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.interpreters import partial_eval
from jaxtyping import Array, Float, UInt

from qamx.agents import AbstractAgent
from qamx.deploy.metadata import SAMPLER, WEIGHTS
from qamx.nn import Precision, matmul_precision

PLATFORMS = ("cpu", "cuda")


class Sampler(NamedTuple):
    """A program (StableHLO, `Exported.mlir_module_serialized`), the version of its calling
    convention, and the arrays that are its first argument."""

    program: bytes
    convention: int
    weights: list[np.ndarray]

    def write(self, folder: Path) -> None:
        """Writes program and weights where `qamx.deploy` reads them."""
        (folder / SAMPLER).write_bytes(self.program)
        arrays = {str(index): weight for index, weight in enumerate(self.weights)}
        np.savez(folder / WEIGHTS, allow_pickle=False, **arrays)


def export_sampler(agent: AbstractAgent, observation_size: int, precision: Precision) -> Sampler:
    """The program of the agent's sampler as in evaluations.

    It takes the weights, observations [b, obs] in the policy's units, and the two words of a
    key; it gives flat chunks [b, dim]. Weights are arguments as in training: as constants they
    would be folded into the program, which then rounds differently.

    **Arguments:** `precision` is that of matrix products.
    """
    arrays, static = eqx.partition(agent, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)

    def act(
        whole: list[Array], observations: Float[Array, "b obs"], words: UInt[Array, "2"]
    ) -> Float[Array, "b dim"]:
        agent = eqx.combine(jax.tree.unflatten(structure, whole), static)
        return agent.act_in_evaluation(observations, jax.random.wrap_key_data(words))

    seen = jax.ShapeDtypeStruct((1, observation_size), jnp.float32)
    words = jax.ShapeDtypeStruct((2,), jnp.uint32)
    needed = _used(act, leaves, seen, words)

    def act_with_needed(
        weights: list[Array], observations: Float[Array, "b obs"], words: UInt[Array, "2"]
    ) -> Float[Array, "b dim"]:
        whole = list(leaves)
        for index, leaf in zip(needed, weights, strict=True):
            whole[index] = leaf
        return act(whole, observations, words)

    with matmul_precision(precision, "cuda"):  # a CPU rounds as it does, whatever is asked
        exported = export.export(jax.jit(act_with_needed), platforms=PLATFORMS)(
            [jax.ShapeDtypeStruct(leaves[i].shape, leaves[i].dtype) for i in needed],
            jax.ShapeDtypeStruct((*export.symbolic_shape("b"), observation_size), jnp.float32),
            words,
        )
    return Sampler(
        exported.mlir_module_serialized,
        exported.calling_convention_version,
        [np.asarray(leaves[i]) for i in needed],
    )


def _used(function: Callable[..., Any], leaves: list[Array], *rest: Any) -> list[int]:
    """The leaves that the result depends on: no critic, no target, no optimiser."""
    program = jax.make_jaxpr(function)(leaves, *rest).jaxpr
    _, used = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))
    return [index for index in range(len(leaves)) if used[index]]
