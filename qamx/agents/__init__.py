"""Agents: a critic and a policy, and how one update trains both."""

from qamx.agents.base import AbstractAgent, Agent, TrainState, create_state, update
from qamx.agents.optimiser import adam
from qamx.agents.parts import Parts
from qamx.agents.qam import QAM, QAMFQL, QAMEdit

__all__ = [
    "QAM",
    "QAMFQL",
    "AbstractAgent",
    "Agent",
    "Parts",
    "QAMEdit",
    "TrainState",
    "adam",
    "create_state",
    "update",
]
