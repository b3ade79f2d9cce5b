"""What a scripted behaviour has to offer, and the recipe of each data set."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

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
