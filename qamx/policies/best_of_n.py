"""The best of several samples from a policy."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.policies.base import AbstractDerivedPolicy, AbstractPolicy, Critic, PolicyStage


class BestOfN(AbstractDerivedPolicy):
    r"""Samples `draws` chunks from `base` and acts with the one of largest \(\min_kQ_k(s, a)\).

    Training is that of `base`.

    **Raises:** `ValueError` if `draws` is not positive.

    **Source:** Chen et al., arXiv 2209.14548; IFQL (Park et al., arXiv 2502.02538).
    """

    base: AbstractPolicy
    draws: int = eqx.field(static=True)

    def __check_init__(self):
        if self.draws < 1:
            raise ValueError(f"at least one chunk is drawn; found draws={self.draws}")

    def sample(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        repeated = jnp.repeat(observation, self.draws, axis=0)
        actions = self.base.sample(critic, repeated, key)
        values = jnp.min(critic.online(repeated, actions), axis=0)
        best = jnp.argmax(values.reshape(-1, self.draws), axis=1)
        rows = jnp.arange(observation.shape[0]) * self.draws + best
        return actions[rows]

    def stages(self, critic: Critic) -> list[PolicyStage]:
        return [*self.base.stages(critic), self.own_stage(f"best of {self.draws}", critic)]

    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        return self.base.loss(critic, batch, key)
