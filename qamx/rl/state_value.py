"""Critics with a state value V(s)."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.nn import MLP, AbstractCritic
from qamx.rl.target import WithTarget, frozen
from qamx.rl.temporal_difference import (
    AbstractCriticLearning,
    Actor,
    Backup,
    expectile_loss,
    pessimistic_value,
)

ValueTarget = Callable[
    [AbstractCritic, Batch, Float[Array, " batch"]], Float[Array, "*ensemble batch"]
]
"""The target of V: a function of the target critics, the batch, and the critics' target."""


class StateValueMetrics(Metrics):
    """The loss of V and its range on the data."""

    loss: Scalar
    v_mean: Scalar
    v_min: Scalar
    v_max: Scalar


def td_value(
    critic: AbstractCritic, batch: Batch, td_target: Float[Array, " batch"]
) -> Float[Array, " batch"]:
    """The critics' own TD target (Li and Levine, arXiv 2601.14234)."""
    return td_target


def data_value(
    critic: AbstractCritic, batch: Batch, td_target: Float[Array, " batch"]
) -> Float[Array, "ensemble batch"]:
    """Each Qbar_k(s, a) at the data's action (the authors' release)."""
    return critic(batch.observations, batch.actions)


def fit_state_value(
    value: MLP,
    batch: Batch,
    target: Float[Array, "*ensemble batch"],
    loss: Callable[[Array], Array],
) -> tuple[Scalar, StateValueMetrics]:
    """The mean of `loss` over the errors target - V(s)."""
    v = value(batch.observations)[..., 0]
    total = jnp.mean(loss(jax.lax.stop_gradient(target) - v))
    return total, StateValueMetrics(total, jnp.mean(v), jnp.min(v), jnp.max(v))


class AdvantageLearning(AbstractCriticLearning[Actor]):
    r"""A TD critic and a state value, for the advantage \(\mathrm{mean}_k Q_k(s, a) - V(s)\).

    **Arguments:** `value` is V, `value_target` what V regresses to.

    **Source:** Peng et al., arXiv 1910.00177; Li and Levine, arXiv 2601.14234.
    """

    critic: WithTarget[AbstractCritic]
    value: MLP
    backup: Backup
    value_target: ValueTarget = eqx.field(static=True)

    def loss(self, batch: Batch, policy: Actor, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        td_target = self.td_target(self.backup, batch, policy, key)
        loss, metrics = self.fit(batch, td_target)
        goal = self.value_target(frozen(self.target), batch, td_target)
        value_loss, value_metrics = fit_state_value(
            self.value, batch, goal, lambda error: batch.valid * error**2
        )
        return loss + value_loss, (metrics, value_metrics)

    def advantage(self, batch: Batch) -> Float[Array, " batch"]:
        """mean_k Q_k - V at the data's chunks, by the online networks."""
        q = jnp.mean(self.online(batch.observations, batch.actions), axis=0)
        return q - self.value(batch.observations)[..., 0]


class ImplicitQLearning(AbstractCriticLearning[Actor]):
    r"""Implicit Q-learning: no action outside the data is ever evaluated.

    V(s) is an expectile regression to the pessimistic values of the data's chunks, and the critics
    learn by TD to V(s').

    Sequences cut by the end of a trajectory are dropped from the critics' loss, not from V's,
    which needs no reward and no next state.

    **Arguments:** `expectile` is kappa in (0, 1); near 1, V is that of the best chunks in the data.

    **Source:** Kostrikov et al., arXiv 2110.06169; on flows, Park et al., arXiv 2502.02538.
    """

    critic: WithTarget[AbstractCritic]
    value: MLP
    backup: Backup
    expectile: float

    def loss(self, batch: Batch, policy: Actor, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        next_value = frozen(self.value)(batch.next_observations)[..., 0]
        # A single value instead of an ensemble: pessimism does not apply.
        loss, metrics = self.fit(batch, self.backup.target(batch, next_value[None]))
        values = frozen(self.target)(batch.observations, batch.actions)
        goal = pessimistic_value(values, self.backup.pessimism)
        value_loss, value_metrics = fit_state_value(
            self.value, batch, goal, lambda error: expectile_loss(error, self.expectile)
        )
        return loss + value_loss, (metrics, value_metrics)
