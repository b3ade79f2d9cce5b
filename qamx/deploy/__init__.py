"""Acting with an exported policy, with JAX (or ONNX Runtime) and NumPy alone.

`load_policy` reads the folder of `qamx export`; `ChunkExecutor` turns its chunks into one action a
step, `RealTimeExecutor` within a bounded time. `python -m qamx.deploy FOLDER` checks a bundle on
its target machine.
"""

from qamx.deploy.check import Check, Latency, check, measure_latency
from qamx.deploy.executors import (
    ChunkExecutor,
    Execution,
    OpenLoop,
    RealTimeExecutor,
    RecedingHorizon,
    TemporalEnsemble,
    TimedAction,
)
from qamx.deploy.loading import ChunkPolicy, load_policy
from qamx.deploy.metadata import Draw, Metadata, read_metadata

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
    "TimedAction",
    "check",
    "load_policy",
    "measure_latency",
    "read_metadata",
]
