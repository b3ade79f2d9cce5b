"""Q-learning with Adjoint Matching and its kin: flows fine-tuned on their memoryless SDE."""

import jax

from qamx._types import Key
from qamx.agents.base import AbstractAgent
from qamx.agents.parts import Parts
from qamx.policies import AdjointMatchedFlow, BackpropagatedFlow, EditPolicy, OneStepPolicy
from qamx.rl import TemporalDifference
from qamx.schedules.temperature import AbstractInverseTemperature, TrustRegion


class QAM(AbstractAgent[TemporalDifference, AdjointMatchedFlow]):
    """TD critic x adjoint-matched flow; acts and backs up with the fine-tuned flow's ODE
    (Li and Levine, arXiv 2601.14234)."""

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
        qam_key, edit_key = jax.random.split(key)
        qam = QAM(parts, inverse_temperature=inverse_temperature, key=qam_key)
        self.critic = qam.critic
        self.policy = parts.edit(qam.policy, edit_scale, target_entropy_scale, edit_key)


class TRQAM(AbstractAgent[TemporalDifference, AdjointMatchedFlow]):
    """QAM whose inverse temperature keeps the policy within a trust region of the behaviour; its
    protocol starts from a behaviour-cloning phase (Dong et al., arXiv 2605.27079)."""

    def __init__(self, parts: Parts, *, kl_budget: float, kl_scale: float = 3.0, key: Key):
        qam = QAM(parts, inverse_temperature=TrustRegion(kl_budget, kl_scale), key=key)
        self.critic, self.policy = qam.critic, qam.policy


class BAM(AbstractAgent[TemporalDifference, BackpropagatedFlow]):
    """TD critic x a flow fine-tuned by backpropagation through its whole memoryless SDE."""

    def __init__(self, parts: Parts, *, inverse_temperature: float, key: Key):
        critic_key, behaviour_key, velocity_key = jax.random.split(key, 3)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = BackpropagatedFlow(
            parts.slow_behaviour_flow(behaviour_key),
            parts.networks.velocity(velocity_key),
            inverse_temperature,
            parts.backup.pessimism,
        )
