"""Reinforcement-learning pieces: backups, critics, entropy, target networks."""

from qamx.rl.backup import Backup, pessimistic_value, td_loss
from qamx.rl.critic_learning import (
    AbstractCriticLearning,
    Act,
    CriticMetrics,
    TemporalDifference,
)
from qamx.rl.entropy import EntropyTarget
from qamx.rl.target import Fixed, WithTarget, frozen, trainable

__all__ = [
    "AbstractCriticLearning",
    "Act",
    "Backup",
    "CriticMetrics",
    "EntropyTarget",
    "Fixed",
    "TemporalDifference",
    "WithTarget",
    "frozen",
    "pessimistic_value",
    "td_loss",
    "trainable",
]
