"""Q-learning with Adjoint Matching and its two extensions (Li and Levine, arXiv 2601.14234)."""

import jax

from qamx._types import Key
from qamx.agents.base import AbstractAgent
from qamx.agents.parts import Parts
from qamx.policies import AdjointMatchedFlow, EditPolicy, OneStepPolicy
from qamx.rl import TemporalDifference
from qamx.schedules.temperature import AbstractInverseTemperature


class QAM(AbstractAgent[TemporalDifference, AdjointMatchedFlow]):
    """TD critic x adjoint-matched flow; acts and backs up with the fine-tuned flow's ODE."""

    def __init__(self, parts: Parts, *, inverse_temperature: AbstractInverseTemperature, key: Key):
        critic_key, flow_key = jax.random.split(key)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = parts.adjoint_matched_flow(inverse_temperature, flow_key)


class QAMFQL(AbstractAgent[TemporalDifference, OneStepPolicy]):
    """QAM with a one-step policy that follows the fine-tuned flow and climbs the critic."""

    def __init__(
        self,
        parts: Parts,
        *,
        inverse_temperature: AbstractInverseTemperature,
        distill_weight: float,
        key: Key,
    ):
        critic_key, flow_key, policy_key = jax.random.split(key, 3)
        self.critic = parts.temporal_difference(critic_key)
        flow = parts.adjoint_matched_flow(inverse_temperature, flow_key)
        self.policy = parts.one_step(flow, distill_weight, policy_key)


class QAMEdit(AbstractAgent[TemporalDifference, EditPolicy]):
    """QAM with a Gaussian edit of the fine-tuned flow's actions."""

    def __init__(
        self,
        parts: Parts,
        *,
        inverse_temperature: AbstractInverseTemperature,
        edit_scale: float,
        target_entropy_scale: float = 0.5,
        key: Key,
    ):
        critic_key, flow_key, policy_key = jax.random.split(key, 3)
        self.critic = parts.temporal_difference(critic_key)
        flow = parts.adjoint_matched_flow(inverse_temperature, flow_key)
        self.policy = parts.edit(flow, edit_scale, target_entropy_scale, policy_key)
