"""Reinforcement learning: backups, critic losses, entropy targets, target networks."""

from qamx.rl.backup import Backup, expectile_loss, pessimistic_value, td_loss
from qamx.rl.reversal import ReversalLearning
from qamx.rl.state_value import AdvantageLearning, ImplicitQLearning, data_value, td_value
from qamx.rl.target import Clock, Delayed, EntropyTarget, Fixed, WithTarget, frozen, trainable
from qamx.rl.temporal_difference import (
    AbstractCriticLearning,
    AbstractFlowTimeLearning,
    Actor,
    CriticMetrics,
    NoisyTemporalDifference,
    TemporalDifference,
    linex,
    squared_error,
)

__all__ = [
    "AbstractCriticLearning",
    "AbstractFlowTimeLearning",
    "Actor",
    "AdvantageLearning",
    "Backup",
    "Clock",
    "CriticMetrics",
    "Delayed",
    "EntropyTarget",
    "Fixed",
    "ImplicitQLearning",
    "NoisyTemporalDifference",
    "ReversalLearning",
    "TemporalDifference",
    "WithTarget",
    "data_value",
    "expectile_loss",
    "frozen",
    "linex",
    "pessimistic_value",
    "squared_error",
    "td_loss",
    "td_value",
    "trainable",
]
