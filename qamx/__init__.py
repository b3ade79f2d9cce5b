"""qamx: reinforcement learning with flow-matching policies.

The names below are imported when they are first used, so that `import qamx` is instant.
"""

TYPE_CHECKING = False  # type checkers take the name for true; importing it takes a while

if TYPE_CHECKING:
    from typing import Any

    from qamx._types import Batch, Metrics
    from qamx.agents import (
        BAM,
        CGQL,
        CGQLMSE,
        DAC,
        DSRL,
        FAWAC,
        FBRAC,
        FQL,
        IFQL,
        QAM,
        QAMFQL,
        QSM,
        RLPD,
        RQL,
        TRQAM,
        AbstractAgent,
        Agent,
        CGQLLinex,
        FEdit,
        Parts,
        QAMEdit,
        ReBRAC,
        TrainState,
        adam,
        clone,
        create_state,
        update,
    )
    from qamx.assembly import build_agent
    from qamx.build import build, run
    from qamx.config import Experiment, load
    from qamx.errors import UserError
    from qamx.flow import Integrator
    from qamx.nn import Networks
    from qamx.rl import Backup
    from qamx.trained_policy import TrainedPolicy, load_agent

_HOMES = {
    "qamx._types": "Batch Metrics",
    "qamx.agents": (
        "BAM CGQL CGQLMSE CGQLLinex DAC DSRL FAWAC FBRAC FEdit FQL IFQL QAM QAMEdit QAMFQL QSM "
        "RLPD RQL ReBRAC TRQAM AbstractAgent Agent Parts TrainState adam clone create_state update"
    ),
    "qamx.assembly": "build_agent",
    "qamx.build": "build run",
    "qamx.config": "Experiment load",
    "qamx.errors": "UserError",
    "qamx.flow": "Integrator",
    "qamx.nn": "Networks",
    "qamx.rl": "Backup",
    "qamx.trained_policy": "TrainedPolicy load_agent",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

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
    "Backup",
    "Batch",
    "CGQLLinex",
    "Experiment",
    "FEdit",
    "Integrator",
    "Metrics",
    "Networks",
    "Parts",
    "QAMEdit",
    "ReBRAC",
    "TrainState",
    "TrainedPolicy",
    "UserError",
    "adam",
    "build",
    "build_agent",
    "clone",
    "create_state",
    "load",
    "load_agent",
    "run",
    "update",
]


def __getattr__(name: str) -> "Any":
    if name not in _HOME_OF:
        raise AttributeError(f"module 'qamx' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME_OF[name]), name)
