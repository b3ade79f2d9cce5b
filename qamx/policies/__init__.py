"""Policies: what acts, and the objective that extracts it from a critic."""

from qamx.policies.adjoint_matched import AdjointMatchedFlow, AdjointMatchingMetrics
from qamx.policies.base import AbstractFlowPolicy, AbstractPolicy, Critic
from qamx.policies.behaviour_flow import BehaviourFlow, BehaviourFlowMetrics
from qamx.policies.edit import EditMetrics, EditPolicy
from qamx.policies.one_step import OneStepMetrics, OneStepPolicy

__all__ = [
    "AbstractFlowPolicy",
    "AbstractPolicy",
    "AdjointMatchedFlow",
    "AdjointMatchingMetrics",
    "BehaviourFlow",
    "BehaviourFlowMetrics",
    "Critic",
    "EditMetrics",
    "EditPolicy",
    "OneStepMetrics",
    "OneStepPolicy",
]
