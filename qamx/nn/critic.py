"""Ensembles of state-action value functions."""

from abc import abstractmethod
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Key
from qamx.nn.mlp import MLP


class AbstractCritic(eqx.Module):
    """An ensemble of K action values Q_k(s, a)."""

    @abstractmethod
    def __call__(
        self, observation: Float[Array, "*batch obs"], action: Float[Array, "*batch dim"]
    ) -> Float[Array, "ensemble *batch"]:
        """All K values of each observation and flat action chunk."""


class EnsembleCritic(AbstractCritic):
    """K independent MLPs on [s, a]; their parameters are stacked along a leading axis."""

    members: MLP
    observation_size: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(
        self,
        observation_size: int,
        dim: int,
        hidden: Sequence[int],
        *,
        ensemble_size: int,
        layer_norm: bool = True,
        key: Key,
    ):
        def member(key: Key) -> MLP:
            return MLP(observation_size + dim, hidden, 1, layer_norm=layer_norm, key=key)

        self.members = eqx.filter_vmap(member)(jax.random.split(key, ensemble_size))
        self.observation_size, self.dim = observation_size, dim

    def __call__(
        self, observation: Float[Array, "*batch obs"], action: Float[Array, "*batch dim"]
    ) -> Float[Array, "ensemble *batch"]:
        inputs = jnp.concatenate([observation, action], axis=-1)
        values = eqx.filter_vmap(lambda member: member(inputs))(self.members)
        return values[..., 0]


class FlowTimeCritic(AbstractCritic):
    """K values Q_k(s, x, t) of noised actions x at flow time t; Q_k(s, a) is the value at t = 1.

    **Source:** energies along a flow, Lu et al., arXiv 2304.12824; reversal states, Oberai et al.,
    arXiv 2606.17551.
    """

    ensemble: EnsembleCritic

    @property
    def observation_size(self) -> int:
        """Entries of an observation."""
        return self.ensemble.observation_size

    @property
    def dim(self) -> int:
        """Entries of a flat action chunk."""
        return self.ensemble.dim - 1

    def at(
        self,
        observation: Float[Array, "*batch obs"],
        x: Float[Array, "*batch dim"],
        t: Float[Array, "*#batch"],
    ) -> Float[Array, "ensemble *batch"]:
        """All K values at flow time `t`, which broadcasts against the batch axes."""
        time = jnp.broadcast_to(t, x.shape[:-1])[..., None]
        return self.ensemble(observation, jnp.concatenate([x, time], axis=-1))

    def __call__(
        self, observation: Float[Array, "*batch obs"], action: Float[Array, "*batch dim"]
    ) -> Float[Array, "ensemble *batch"]:
        return self.at(observation, action, jnp.ones(()))
