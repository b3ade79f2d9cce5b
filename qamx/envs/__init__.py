"""Environments: the interface that the runner needs, OGBench's tasks, and action chunks."""

from qamx.envs.base import Environment, Step
from qamx.envs.chunk import ChunkExecutor
from qamx.envs.closing import opened
from qamx.envs.ogbench import OGBenchEnvironment
from qamx.envs.players import LocalPlayer, Player, close_players, open_players
from qamx.envs.rendering import Renderable
from qamx.envs.walk import WalkEnvironment

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
