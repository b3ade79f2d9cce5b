"""Reinforcement learning: backups, critic losses, entropy targets, target networks."""

from qamx.rl.reversal import ReversalLearning
from qamx.rl.state_value import AdvantageLearning, ImplicitQLearning, data_value, td_value
from qamx.rl.target import Clock, Delayed, EntropyTarget, Fixed, WithTarget, frozen, trainable
from qamx.rl.temporal_difference import (
    AbstractCriticLearning,
    AbstractFlowTimeLearning,
    Actor,
    Backup,
    CriticMetrics,
    NoisyTemporalDifference,
    TemporalDifference,
    expectile_loss,
    linex,
    pessimistic_value,
    squared_error,
    td_loss,
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
