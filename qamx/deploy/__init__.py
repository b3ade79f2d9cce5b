"""Acting with an exported policy: JAX (or ONNX Runtime) and NumPy are all that it needs.

`load_policy` reads the folder that `qamx export` writes; `ChunkExecutor` turns its chunks into one
action a step, `RealTimeExecutor` within a bounded time. `python -m qamx.deploy FOLDER` checks a
bundle on the machine where it is to act.
"""

from typing import TYPE_CHECKING, Any

from qamx.deploy.execution import (
    ChunkExecutor,
    Execution,
    OpenLoop,
    RecedingHorizon,
    TemporalEnsemble,
)
from qamx.deploy.metadata import Draw, Metadata, read_metadata
from qamx.deploy.realtime import RealTimeExecutor, Timed

if TYPE_CHECKING:
    from qamx.deploy.checking import Check, Latency, check, measure_latency
    from qamx.deploy.loading import ChunkPolicy, load_policy

_LATER = {
    "Check": "checking",
    "ChunkPolicy": "loading",
    "Latency": "checking",
    "check": "checking",
    "load_policy": "loading",
    "measure_latency": "checking",
}

__all__ = [
    "Check",
    "ChunkExecutor",
    "ChunkPolicy",
    "Draw",
    "Execution",
    "Latency",
    "Metadata",
    "OpenLoop",
    "RealTimeExecutor",
    "RecedingHorizon",
    "TemporalEnsemble",
    "Timed",
    "check",
    "load_policy",
    "measure_latency",
    "read_metadata",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'qamx.deploy' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"qamx.deploy.{_LATER[name]}"), name)
