"""The interfaces of policies, and the best of several samples of one."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.flow import Integrator, sample_ode
from qamx.nn import AbstractCritic, AbstractVelocityField, FlowTimeCritic
from qamx.rl import AbstractCriticLearning

Critic: TypeAlias = AbstractCriticLearning[Any]
"""The critic's half of an agent; policies use its `online` and `target` values."""

Draw: TypeAlias = Callable[[Float[Array, "batch obs"], Key], Float[Array, "batch dim"]]
"""Action chunks, or a flow's noise, for observations."""


@dataclass(frozen=True)
class FlowRoute:
    """An ODE that transports draws of `start` along a velocity."""

    start: Draw
    velocity: AbstractVelocityField
    integrator: Integrator


@dataclass(frozen=True)
class PolicyStage:
    """A policy between the clone of the data and the acting policy.

    **Arguments:** `draw` samples its chunks; `route` is the ODE that they come from, if there is
    one. Stages given the same key start their flows from the same noise.
    """

    name: str
    draw: Draw
    route: FlowRoute | None = None


def flow_stage(
    name: str, start: Draw, velocity: AbstractVelocityField, integrator: Integrator
) -> PolicyStage:
    """A stage that acts by an ODE."""

    def draw(observation: Array, key: Key) -> Array:
        noise = start(observation, key)
        return clip_action(sample_ode(velocity, observation, noise, integrator))

    return PolicyStage(name, draw, FlowRoute(start, velocity, integrator))


class AbstractPolicy(eqx.Module):
    """Acts at observations and learns from a critic and a batch.

    A policy built on another one holds it as a part: its loss includes the part's loss,
    and every other use of the part is frozen.
    """

    @property
    @abstractmethod
    def behaviour(self) -> "AbstractPolicy | None":
        """The part that only clones the data, for comparison; None if there is none."""

    @property
    @abstractmethod
    def clone(self) -> PyTree:
        """The network that `cloning_loss` trains."""

    @abstractmethod
    def start_from(self, clone: PyTree) -> Self:
        """The policy with a given clone, copied to everything that is refined from it."""

    @abstractmethod
    def cloning_loss(self, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        """The objective of behaviour cloning alone, without a critic."""

    @abstractmethod
    def sample(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        """An action chunk for each observation, entries in [-1, 1]."""

    @abstractmethod
    def loss(self, critic: Critic, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        """The sum of the objectives that train this policy; `critic` is already frozen."""

    def advance(self, metrics: tuple[Metrics, ...]) -> Self:
        """The policy after an optimiser step; `metrics` are those of the loss."""
        return self

    def for_backup(self) -> Self:
        """The policy as the critic's backup samples it."""
        return self

    def for_evaluation(self) -> Self:
        """The policy as an evaluation samples it."""
        return self

    @property
    def strength(self) -> float | None:
        """The strength of the guidance by which an evaluation samples; None without guidance."""
        return None

    def with_strength(self, strength: float) -> Self:
        """The policy that samples at another strength.

        **Raises:** `ValueError` if its sampler has none.
        """
        raise ValueError(f"{type(self).__name__} samples without a strength")

    def stages(self, critic: Critic) -> list[PolicyStage]:
        """The stages of this policy, from the clone to itself, for inspection."""
        return [self.own_stage(type(self).__name__, critic)]

    def own_stage(self, name: str, critic: Critic) -> PolicyStage:
        """The stage of this policy's own samples."""
        return PolicyStage(name, lambda observation, key: self.sample(critic, observation, key))


class AbstractDerivedPolicy(AbstractPolicy):
    """A policy built on another one, its `base`."""

    base: eqx.AbstractVar[AbstractPolicy]

    @property
    def behaviour(self) -> AbstractPolicy | None:
        return self.base.behaviour

    @property
    def clone(self) -> PyTree:
        return self.base.clone

    def start_from(self, clone: PyTree) -> Self:
        return self._with_base(self.base.start_from(clone))

    def cloning_loss(self, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        return self.base.cloning_loss(batch, key)

    def advance(self, metrics: tuple[Metrics, ...]) -> Self:
        return self._with_base(self.base.advance(metrics))

    def for_backup(self) -> Self:
        return self._with_base(self.base.for_backup())

    def for_evaluation(self) -> Self:
        return self._with_base(self.base.for_evaluation())

    @property
    def strength(self) -> float | None:
        return self.base.strength

    def with_strength(self, strength: float) -> Self:
        return self._with_base(self.base.with_strength(strength))

    def stages(self, critic: Critic) -> list[PolicyStage]:
        return [*self.base.stages(critic), self.own_stage(type(self).__name__, critic)]

    def _with_base(self, base: AbstractPolicy) -> Self:
        return eqx.tree_at(lambda policy: policy.base, self, base)


class AbstractFlowPolicy(AbstractPolicy):
    """A policy that transports standard normal noise to actions."""

    @property
    @abstractmethod
    def action_dim(self) -> int:
        """Entries of a flat action chunk, and of its noise."""

    @abstractmethod
    def transport(
        self, observation: Float[Array, "batch obs"], noise: Float[Array, "batch dim"]
    ) -> Float[Array, "batch dim"]:
        """The action chunk at the end of the flow from `noise`, clipped to [-1, 1]."""

    def sample(
        self, critic: Critic, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        return self.transport(observation, self.noise(observation, key))

    def noise(self, observation: Float[Array, "batch obs"], key: Key) -> Float[Array, "batch dim"]:
        """Standard normal noise, one row per observation."""
        return jax.random.normal(key, (observation.shape[0], self.action_dim))


class AbstractDerivedFlow(AbstractDerivedPolicy, AbstractFlowPolicy):
    """A flow policy built on another one."""

    base: eqx.AbstractVar[AbstractFlowPolicy]

    @property
    def action_dim(self) -> int:
        return self.base.action_dim


def clip_action(action: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
    """Clips an action to the box [-1, 1]."""
    return jnp.clip(action, -1.0, 1.0)


def mean_value(
    critic: AbstractCritic,
    observation: Float[Array, "batch obs"],
    action: Float[Array, "batch dim"],
) -> Scalar:
    """mean_B mean_k Q_k(s, clip a), the value that a policy maximises."""
    return jnp.mean(critic(observation, clip_action(action)))


def row_gradient(value: Any, action: Float[Array, "batch dim"]) -> Float[Array, "batch dim"]:
    """The gradient of each row's own value; `value` returns an ensemble's values of all rows."""
    return jax.grad(lambda a: jnp.sum(jnp.mean(value(a), axis=0)))(action)


def require_flow_time(critic: AbstractCritic) -> FlowTimeCritic:
    """Returns the critic if it takes a flow time.

    **Raises:** `TypeError` if it is not.
    """
    if not isinstance(critic, FlowTimeCritic):
        raise TypeError(
            "this policy needs critics on flow time (Networks.flow_time_critic); found "
            f"{type(critic).__name__}"
        )
    return critic


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
