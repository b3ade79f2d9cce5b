"""Environments: the interface that the runner needs, OGBench's tasks, and action chunks."""

from qamx.envs.base import ChunkExecutor, Environment, Step
from qamx.envs.checked import opened
from qamx.envs.locomotion import WalkEnvironment
from qamx.envs.ogbench import OGBenchEnvironment
from qamx.envs.rendering import Renderable
from qamx.envs.vector import LocalPlayer, Player, close_players, open_players

__all__ = [
    "ChunkExecutor",
    "Environment",
    "LocalPlayer",
    "OGBenchEnvironment",
    "Player",
    "Renderable",
    "Step",
    "WalkEnvironment",
    "close_players",
    "open_players",
    "opened",
]
