"""The parts that methods are put together from, in the sizes of one problem."""

from dataclasses import dataclass, field

import jax

from qamx._types import Key
from qamx.flow import Integrator
from qamx.nn import Networks, Temperature
from qamx.policies import (
    AbstractFlowPolicy,
    AbstractPolicy,
    AdjointMatchedFlow,
    BehaviourFlow,
    EditPolicy,
    OneStepPolicy,
)
from qamx.rl import Backup, EntropyTarget, TemporalDifference, WithTarget
from qamx.schedules.temperature import AbstractInverseTemperature


@dataclass(frozen=True)
class Parts:
    """Makes fresh parts whose sizes fit each other.

    **Arguments:**

    - `networks`: observation and action sizes, widths, ensemble size.
    - `backup`: discount, horizon and pessimism of the critic's target.
    - `integrator`: the grid of every flow.
    - `target_rate`: the Polyak rate of critics and of behaviour flows that have a target.
    """

    networks: Networks
    backup: Backup
    integrator: Integrator = field(default_factory=Integrator)
    target_rate: float = 0.005

    def temporal_difference(self, key: Key) -> TemporalDifference:
        """A critic ensemble with its target, learning by TD."""
        return TemporalDifference(
            WithTarget(self.networks.critic(key), self.target_rate), self.backup
        )

    def behaviour_flow(self, key: Key) -> BehaviourFlow:
        """A flow-matching clone of the data."""
        networks = self.networks
        return BehaviourFlow(networks.velocity(key), self.integrator, networks.action_dim)

    def adjoint_matched_flow(
        self, inverse_temperature: AbstractInverseTemperature, key: Key
    ) -> AdjointMatchedFlow:
        """A behaviour flow with its target, and the flow that is fine-tuned from it."""
        behaviour_key, velocity_key = jax.random.split(key)
        behaviour = WithTarget(self.behaviour_flow(behaviour_key), self.target_rate)
        return AdjointMatchedFlow(
            behaviour, self.networks.velocity(velocity_key), inverse_temperature
        )

    def one_step(self, flow: AbstractFlowPolicy, distill_weight: float, key: Key) -> OneStepPolicy:
        """A one-step policy that follows `flow`."""
        return OneStepPolicy(flow, self.networks.one_step(key), distill_weight)

    def edit(
        self, policy: AbstractPolicy, scale: float, target_entropy_scale: float, key: Key
    ) -> EditPolicy:
        """An edit policy on `policy`; its target entropy is -`target_entropy_scale` x d nats."""
        target = -target_entropy_scale * self.networks.action_dim
        entropy = EntropyTarget(Temperature(), target)
        return EditPolicy(policy, self.networks.edit(key), entropy, scale)
