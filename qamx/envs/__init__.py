"""Environments: interface, OGBench's tasks, worker processes, action chunks."""

from qamx.envs.base import ActionQueue, Environment, Step
from qamx.envs.checked import opened
from qamx.envs.ogbench import OGBenchEnvironment, WalkEnvironment
from qamx.envs.rendering import Renderable
from qamx.envs.vector import EnvHandle, LocalEnv, close_envs, open_envs

__all__ = [
    "ActionQueue",
    "EnvHandle",
    "Environment",
    "LocalEnv",
    "OGBenchEnvironment",
    "Renderable",
    "Step",
    "WalkEnvironment",
    "close_envs",
    "open_envs",
    "opened",
]
