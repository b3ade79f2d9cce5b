"""Builders of the parts of methods, with the sizes of one problem."""

from dataclasses import dataclass
from typing import TypeVar

import jax
from jaxtyping import PyTree

from qamx._types import Key
from qamx._utils.checks import check_positive_integers
from qamx._utils.defaults import TARGET_RATE
from qamx.flow import Integrator
from qamx.nn import Networks, Temperature
from qamx.policies import (
    AbstractFlowPolicy,
    AbstractPolicy,
    AdjointMatchedFlow,
    BehaviourFlow,
    EditPolicy,
    OneStepPolicy,
    TargetBehaviourFlow,
)
from qamx.rl import Backup, Clock, EntropyTarget, ImplicitQLearning, TemporalDifference, WithTarget
from qamx.schedules.inverse_temperature import AbstractInverseTemperature, as_schedule

M = TypeVar("M", bound=PyTree)


@dataclass(frozen=True)
class Parts:
    """Builds parts with matching sizes.

    **Arguments:**

    - `networks`: observation and action sizes, widths, ensemble size.
    - `backup`: discount, horizon and pessimism of the critic's target.
    - `integrator`: the grid of every flow.
    - `target_rate`: the Polyak rate of critics and of behaviour flows that have a target.
    - `target_period`: updates between two updates of the targets.

    **Raises:** `ValueError` for chunks that the horizon does not divide into actions, a rate
    outside (0, 1], or a period that is not a positive integer.
    """

    networks: Networks
    backup: Backup
    integrator: Integrator
    target_rate: float = TARGET_RATE
    target_period: int = 1

    def __post_init__(self):
        if self.action_dim % self.backup.horizon:
            raise ValueError(
                f"action_dim: found {self.action_dim} with a horizon of {self.backup.horizon}; "
                "write horizon x action size, the entries of a chunk"
            )
        if not 0.0 < self.target_rate <= 1.0:
            raise ValueError(
                f"target_rate: found {self.target_rate}; write a number above 0, at most 1"
            )
        check_positive_integers(target_period=self.target_period)

    @property
    def action_dim(self) -> int:
        """Entries of a flat action chunk."""
        return self.networks.action_dim

    def with_target(self, online: M) -> WithTarget[M]:
        """A part with its target."""
        clock = Clock(self.target_period) if self.target_period > 1 else None
        return WithTarget(online, self.target_rate, clock)

    def temporal_difference(self, key: Key) -> TemporalDifference:
        """A critic ensemble with its target, trained by TD."""
        return TemporalDifference(self.with_target(self.networks.critic(key)), self.backup)

    def implicit_q_learning(
        self, expectile: float, critic_key: Key, value_key: Key
    ) -> ImplicitQLearning:
        """A critic ensemble with its target, and a state value by expectile regression."""
        critic = self.with_target(self.networks.critic(critic_key))
        return ImplicitQLearning(critic, self.networks.value(value_key), self.backup, expectile)

    def behaviour_flow(self, key: Key) -> BehaviourFlow:
        """A flow-matching clone of the data."""
        return BehaviourFlow(self.networks.velocity(key), self.integrator, self.action_dim)

    def slow_behaviour_flow(self, key: Key) -> TargetBehaviourFlow:
        """A flow-matching clone of the data that acts by its target."""
        return TargetBehaviourFlow(self.with_target(self.behaviour_flow(key)))

    def adjoint_matched_flow(
        self, inverse_temperature: AbstractInverseTemperature | float, key: Key
    ) -> AdjointMatchedFlow:
        """A behaviour flow with its target, and the flow fine-tuned from it."""
        behaviour_key, velocity_key = jax.random.split(key)
        return AdjointMatchedFlow(
            self.slow_behaviour_flow(behaviour_key),
            self.networks.velocity(velocity_key),
            as_schedule(inverse_temperature),
            self.backup.horizon,
        )

    def one_step(self, base: AbstractFlowPolicy, distill_weight: float, key: Key) -> OneStepPolicy:
        """A one-step policy distilled from `base`."""
        return OneStepPolicy(base, self.networks.one_step(key), distill_weight)

    def edit(
        self, base: AbstractPolicy, scale: float, target_entropy_scale: float, key: Key
    ) -> EditPolicy:
        """An edit policy on `base`; its target entropy is -`target_entropy_scale` x d nats."""
        return EditPolicy(base, self.networks.edit(key), self.entropy(target_entropy_scale), scale)

    def entropy(self, target_entropy_scale: float) -> EntropyTarget:
        """A target entropy of -`target_entropy_scale` x d nats and its temperature."""
        return EntropyTarget(Temperature(), -target_entropy_scale * self.action_dim)
