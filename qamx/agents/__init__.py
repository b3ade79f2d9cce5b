"""Agents: a critic and a policy, and how one update trains both."""

from qamx.agents.actor import RLPD, ReBRAC
from qamx.agents.base import (
    AbstractAgent,
    Agent,
    TrainState,
    best_of_n,
    clone,
    create_state,
    restart_optimiser,
    update,
)
from qamx.agents.diffusion import DAC, QSM
from qamx.agents.flow import DSRL, FAWAC, FBRAC, FQL, IFQL, FEdit
from qamx.agents.guidance import CGQL, CGQLMSE, CGQLLinex
from qamx.agents.optimiser import adam
from qamx.agents.parts import Parts
from qamx.agents.qam import BAM, QAM, QAMFQL, TRQAM, QAMEdit
from qamx.agents.reversal import RQL

__all__ = [
    "BAM",
    "CGQL",
    "CGQLMSE",
    "DAC",
    "DSRL",
    "FAWAC",
    "FBRAC",
    "FQL",
    "IFQL",
    "QAM",
    "QAMFQL",
    "QSM",
    "RLPD",
    "RQL",
    "TRQAM",
    "AbstractAgent",
    "Agent",
    "CGQLLinex",
    "FEdit",
    "Parts",
    "QAMEdit",
    "ReBRAC",
    "TrainState",
    "adam",
    "best_of_n",
    "clone",
    "create_state",
    "restart_optimiser",
    "update",
]
