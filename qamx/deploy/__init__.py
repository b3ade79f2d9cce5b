"""Acting with an exported policy, with JAX (or ONNX Runtime) and NumPy alone.

`load_policy` reads the folder of `qamx export`; `ChunkExecutor` turns its chunks into one action a
step, `RealTimeExecutor` within a bounded time. `python -m qamx.deploy FOLDER` checks a bundle on
its target machine.
"""

from qamx.deploy.check import Check as Check
from qamx.deploy.check import Latency as Latency
from qamx.deploy.check import check as check
from qamx.deploy.check import measure_latency as measure_latency
from qamx.deploy.executors import ChunkExecutor as ChunkExecutor
from qamx.deploy.executors import Execution as Execution
from qamx.deploy.executors import OpenLoop as OpenLoop
from qamx.deploy.executors import RealTimeExecutor as RealTimeExecutor
from qamx.deploy.executors import RecedingHorizon as RecedingHorizon
from qamx.deploy.executors import TemporalEnsemble as TemporalEnsemble
from qamx.deploy.executors import TimedAction as TimedAction
from qamx.deploy.loading import ChunkPolicy as ChunkPolicy
from qamx.deploy.loading import load_policy as load_policy
from qamx.deploy.metadata import Draw as Draw
from qamx.deploy.metadata import Metadata as Metadata
from qamx.deploy.metadata import read_metadata as read_metadata
