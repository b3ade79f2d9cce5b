"""Critics on the intermediate states of a flow."""

from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.nn import FlowTimeCritic
from qamx.rl.target import WithTarget, frozen
from qamx.rl.temporal_difference import (
    AbstractFlowTimeLearning,
    Backup,
    CriticMetrics,
    expectile_loss,
)


class Reversible(Protocol):
    """The policy's interface in reversal learning: its flow, run backwards from data."""

    def sample(
        self, critic: Any, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        """An action chunk for each observation."""
        ...

    def reverse(
        self,
        observation: Float[Array, "batch obs"],
        action: Float[Array, "batch dim"],
        length: Float[Array, " batch"],
    ) -> Float[Array, "batch dim"]:
        """The state at flow time 1 - `length` from which the flow leads to `action`."""
        ...


class ReversalLearning(AbstractFlowTimeLearning[Reversible]):
    r"""Values Q(s, x, c) of flow states x at flow time c, by a decision process of flow steps.

    Each data action is a whole trajectory of these steps.

    For a reversal length r, x is the state at c = 1 - r from which the flow leads to the data's
    action a (half of the lengths uniform in [0, 1], half on the sampling grid of `steps` T);
    Q(s, x, c) regresses to \(R+\gamma^Hm(\mathrm{mean}_k-\rho\,\mathrm{std}_k)
    \bar Q_k(s', z, 0)\), z ~ N(0, I), by the expectile kappa.

    **Source:** Oberai, Park and Levine, arXiv 2606.17551.
    """

    critic: WithTarget[FlowTimeCritic]
    backup: Backup
    expectile: float
    steps: int = eqx.field(static=True)

    def loss(
        self, batch: Batch, policy: Reversible, key: Key
    ) -> tuple[Scalar, tuple[Metrics, ...]]:
        length_key, noise_key = jax.random.split(key)
        length = self._draw_lengths(len(batch.valid), length_key)
        x = jax.lax.stop_gradient(policy.reverse(batch.observations, batch.actions, length))
        noise = jax.random.normal(noise_key, batch.actions.shape)
        next_values = frozen(self.critic.target).at(
            batch.next_observations, noise, jnp.zeros_like(length)
        )
        target = self.backup.target(batch, next_values)
        values = self.critic.online.at(batch.observations, x, 1.0 - length)
        loss = jnp.mean(batch.valid * expectile_loss(target - values, self.expectile))
        return loss, (CriticMetrics(loss, jnp.mean(values), jnp.min(values), jnp.max(values)),)

    def _draw_lengths(self, count: int, key: Key) -> Float[Array, " batch"]:
        """Half uniform in [0, 1], half uniform on the sampling grid 0, 1/T, ..., 1."""
        uniform_key, grid_key = jax.random.split(key)
        uniform = jax.random.uniform(uniform_key, (count // 2,))
        grid = jax.random.randint(grid_key, (count - count // 2,), 0, self.steps + 1)
        return jnp.concatenate([uniform, grid / self.steps])
