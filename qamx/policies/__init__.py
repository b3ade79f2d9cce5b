"""Policies: their samplers, and the objectives that extract them from a critic."""

from qamx.policies.actors import DeterministicPolicy, GaussianPolicy
from qamx.policies.adjoint_matched import (
    AbstractFineTunedFlow,
    AdjointMatchedFlow,
    AdjointMatchingMetrics,
    BackpropagatedFlow,
    MatchedPaths,
)
from qamx.policies.base import (
    AbstractDerivedFlow,
    AbstractDerivedPolicy,
    AbstractFlowPolicy,
    AbstractPolicy,
    BestOfN,
    Critic,
    FlowRoute,
    PolicyStage,
    flow_stage,
)
from qamx.policies.behaviour_flow import BehaviourFlow, BehaviourFlowMetrics, TargetBehaviourFlow
from qamx.policies.diffusion import (
    AbstractDiffusionPolicy,
    CriticGuidedDiffusion,
    ScoreMatchedDiffusion,
    VariancePreserving,
    clean_step,
    clipped_step,
    posterior_step,
)
from qamx.policies.edit import EditMetrics, EditPolicy
from qamx.policies.flow_actor import AbstractImprovedFlow, AdvantageWeightedFlow, FlowActor
from qamx.policies.guided import (
    AbstractGuidedFlow,
    GuidedFlow,
    GuidedVelocity,
    PredictionGuidedFlow,
    PredictionGuidedVelocity,
    exact_jacobian,
    identity_jacobian,
)
from qamx.policies.latent import LatentPolicy
from qamx.policies.one_step import OneStepMetrics, OneStepPolicy
from qamx.policies.refinement import RefinementFlow, RefinementMetrics
from qamx.policies.reversal import ReversalFlow

__all__ = [
    "AbstractDerivedFlow",
    "AbstractDerivedPolicy",
    "AbstractDiffusionPolicy",
    "AbstractFineTunedFlow",
    "AbstractFlowPolicy",
    "AbstractGuidedFlow",
    "AbstractImprovedFlow",
    "AbstractPolicy",
    "AdjointMatchedFlow",
    "AdjointMatchingMetrics",
    "AdvantageWeightedFlow",
    "BackpropagatedFlow",
    "BehaviourFlow",
    "BehaviourFlowMetrics",
    "BestOfN",
    "Critic",
    "CriticGuidedDiffusion",
    "DeterministicPolicy",
    "EditMetrics",
    "EditPolicy",
    "FlowActor",
    "FlowRoute",
    "GaussianPolicy",
    "GuidedFlow",
    "GuidedVelocity",
    "LatentPolicy",
    "MatchedPaths",
    "OneStepMetrics",
    "OneStepPolicy",
    "PolicyStage",
    "PredictionGuidedFlow",
    "PredictionGuidedVelocity",
    "RefinementFlow",
    "RefinementMetrics",
    "ReversalFlow",
    "ScoreMatchedDiffusion",
    "TargetBehaviourFlow",
    "VariancePreserving",
    "clean_step",
    "clipped_step",
    "exact_jacobian",
    "flow_stage",
    "identity_jacobian",
    "posterior_step",
]
