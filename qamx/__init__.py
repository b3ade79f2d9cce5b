"""qamx: reinforcement learning with flow-matching policies.

The names below are imported when they are first used, so that `import qamx` is instant. They are
written once, where type checkers look for them, and read from there at run time.
"""

TYPE_CHECKING = False  # type checkers take the name for true; importing it takes a while

if TYPE_CHECKING:
    from typing import Any

    from qamx import agents as agents
    from qamx import config as config
    from qamx import data as data
    from qamx import deploy as deploy
    from qamx import envs as envs
    from qamx import errors as errors
    from qamx import evaluation as evaluation
    from qamx import export as export
    from qamx import flow as flow
    from qamx import nn as nn
    from qamx import normalisation as normalisation
    from qamx import policies as policies
    from qamx import registry as registry
    from qamx import rl as rl
    from qamx import schedules as schedules
    from qamx import training as training
    from qamx._types import Batch as Batch
    from qamx._types import Metrics as Metrics
    from qamx.agents import BAM as BAM
    from qamx.agents import CGQL as CGQL
    from qamx.agents import CGQLMSE as CGQLMSE
    from qamx.agents import DAC as DAC
    from qamx.agents import DSRL as DSRL
    from qamx.agents import FAWAC as FAWAC
    from qamx.agents import FBRAC as FBRAC
    from qamx.agents import FQL as FQL
    from qamx.agents import IFQL as IFQL
    from qamx.agents import QAM as QAM
    from qamx.agents import QAMFQL as QAMFQL
    from qamx.agents import QGF as QGF
    from qamx.agents import QSM as QSM
    from qamx.agents import RLPD as RLPD
    from qamx.agents import RQL as RQL
    from qamx.agents import TRQAM as TRQAM
    from qamx.agents import AbstractAgent as AbstractAgent
    from qamx.agents import Agent as Agent
    from qamx.agents import CGQLLinex as CGQLLinex
    from qamx.agents import FEdit as FEdit
    from qamx.agents import Parts as Parts
    from qamx.agents import PReFlow as PReFlow
    from qamx.agents import QAMEdit as QAMEdit
    from qamx.agents import ReBRAC as ReBRAC
    from qamx.agents import TrainState as TrainState
    from qamx.agents import TRQAMEdit as TRQAMEdit
    from qamx.agents import adam as adam
    from qamx.agents import clone as clone
    from qamx.agents import create_state as create_state
    from qamx.agents import update as update
    from qamx.building import build_agent as build_agent
    from qamx.callbacks import TrainingEvent as TrainingEvent
    from qamx.config import Experiment as Experiment
    from qamx.config import load as load
    from qamx.errors import UserError as UserError
    from qamx.flow import Integrator as Integrator
    from qamx.nn import Networks as Networks
    from qamx.rl import Backup as Backup
    from qamx.running import build as build
    from qamx.running import run as run
    from qamx.trained_policy import TrainedPolicy as TrainedPolicy
    from qamx.trained_policy import load_agent as load_agent

    __version__: str

_modules: "dict[str, str]" = {}


def _module_of() -> "dict[str, str]":
    """The module of each public name, from the imports above; a submodule's is `qamx`."""
    if not _modules:
        import ast
        import inspect
        import sys

        for node in ast.walk(ast.parse(inspect.getsource(sys.modules[__name__]))):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("qamx."):
                _modules.update({alias.name: str(node.module) for alias in node.names})
    return _modules


def __getattr__(name: str) -> "Any":
    if name == "__all__":
        return sorted(name for name, module in _module_of().items() if module != "qamx")
    from importlib import import_module

    if name == "__version__":
        version = import_module("qamx._utils.files").package_version("qamx")
        return version or "0+unknown"  # a source tree, not installed
    if name.startswith("__") or name not in _module_of():
        raise AttributeError(f"module 'qamx' has no attribute {name!r}")
    module = _module_of()[name]
    return (
        import_module(f"qamx.{name}") if module == "qamx" else getattr(import_module(module), name)
    )


def __dir__() -> "list[str]":
    dunders = (name for name in globals() if name.startswith("__"))
    return sorted({*_module_of(), *dunders, "__all__", "__version__"})
