"""An agent's sampler as a program of its own, for any number of observations."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Float, UInt

from qamx.agents import AbstractAgent
from qamx.nn import Precision, matmul_precision

PLATFORMS = ("cpu", "cuda")


class Sampler(NamedTuple):
    """A program, serialised by `jax.export`, and the arrays that are its first argument."""

    program: bytes
    weights: list[np.ndarray]


def export_sampler(agent: AbstractAgent, observation_size: int, precision: Precision) -> Sampler:
    """The program that acts as the agent does in evaluations.

    It takes the weights, observations [b, obs] in the policy's units, and the two words of a
    key; it gives flat chunks [b, dim]. Weights are arguments as in training: as constants they
    would be folded into the program, which then rounds differently.

    **Arguments:** `precision` is that of matrix products.
    """
    arrays, static = eqx.partition(agent, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)

    def act(
        used: list[Array], observations: Float[Array, "b obs"], words: UInt[Array, "2"]
    ) -> Float[Array, "b dim"]:
        whole = list(leaves)
        for index, leaf in zip(needed, used, strict=True):
            whole[index] = leaf
        return eqx.combine(jax.tree.unflatten(structure, whole), static).act_in_evaluation(
            observations, jax.random.wrap_key_data(words)
        )

    def exported() -> export.Exported:
        shapes = [jax.ShapeDtypeStruct(leaves[i].shape, leaves[i].dtype) for i in needed]
        with matmul_precision(precision):
            return export.export(jax.jit(act), platforms=PLATFORMS)(
                shapes,
                jax.ShapeDtypeStruct((*export.symbolic_shape("b"), observation_size), jnp.float32),
                jax.ShapeDtypeStruct((2,), jnp.uint32),
            )

    needed = list(range(len(leaves)))
    needed = [i for i in exported().module_kept_var_idx if i < len(leaves)]
    program = exported().serialize()
    return Sampler(bytes(program), [np.asarray(leaves[i]) for i in needed])
