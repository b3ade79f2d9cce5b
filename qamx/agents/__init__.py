"""Agents: a critic and a policy, and the update that trains both."""

from qamx.agents import methods
from qamx.agents.agent import (
    AbstractAgent,
    Agent,
    TrainState,
    adam,
    best_of_n,
    clone,
    create_state,
    restart_optimiser,
    update,
)
from qamx.agents.methods import *
from qamx.agents.parts import Parts

__all__ = [
    "AbstractAgent",
    "Agent",
    "Parts",
    "TrainState",
    "adam",
    "best_of_n",
    "clone",
    "create_state",
    "restart_optimiser",
    "update",
]
__all__ += methods.__all__
