"""Environments: the interface that the runner needs, OGBench's tasks, and action chunks."""

from qamx.envs.base import Environment, Step
from qamx.envs.chunk import ChunkExecutor
from qamx.envs.ogbench import OGBenchEnvironment

__all__ = ["ChunkExecutor", "Environment", "OGBenchEnvironment", "Step"]
