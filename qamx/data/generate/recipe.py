"""What a scripted behaviour has to offer, and the recipe of each data set."""

import warnings
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from qamx.data.generate.catalogue import Dataset
from qamx.data.generate.expert import Expert
from qamx.data.generate.seeding import EpisodeSeeds

Row = dict[str, np.ndarray]
"""One step: `observations`, `actions`, `qpos`, `qvel`, perhaps `button_states`.

All but the action are from before the action.
"""
Episode = dict[str, np.ndarray]
"""The rows of one episode stacked, and `terminals`."""


class Recipe(Protocol):
    """A behaviour in its environment, which is built once and plays any number of episodes."""

    def play(self, seeds: EpisodeSeeds, steps: int) -> Iterator[Row]:
        """Plays one episode of that many rows."""
        ...

    def accepts(self, episode: Episode, /) -> bool:
        """Whether the episode may stay; if not, another is drawn in its place."""
        ...


def build_recipe(dataset: Dataset, expert: Expert | None = None) -> Recipe:
    """The recipe of a data set, its environment built (seconds for the robot arm).

    **Arguments:** `expert` moves the walker of a data set that has one.
    """
    # The simulators take seconds to import, and listing the names needs none of them.
    from qamx.data.generate.manipulation import manipulation_recipe
    from qamx.data.generate.maze import maze_recipe

    with warnings.catch_warnings():
        # A missing display and the precision of bounds matter to no episode, yet every worker
        # would say so.
        warnings.simplefilter("ignore")
        if "maze" in dataset.environment:
            return maze_recipe(dataset, expert)
        return manipulation_recipe(dataset)
