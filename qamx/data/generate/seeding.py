"""One seed an episode, whoever generates it and whatever was generated before."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EpisodeSeeds:
    """The sources of chance that a recipe hands out during one episode.

    OGBench's oracles and mazes take a third one, numpy's global state.

    **Arguments:**

    - `environment`: the seed for `reset`.
    - `generator`: for the recipe's own draws.
    """

    environment: int
    generator: np.random.Generator


@contextmanager
def seeded(sequence: np.random.SeedSequence) -> Iterator[EpisodeSeeds]:
    """Seeds all that an episode draws from; numpy's global state is put back afterwards."""
    environment, oracles, recipe = sequence.spawn(3)
    before = np.random.get_state()
    np.random.seed(oracles.generate_state(4))
    try:
        yield EpisodeSeeds(
            environment=int(environment.generate_state(1, np.uint64)[0]),
            generator=np.random.default_rng(recipe),
        )
    finally:
        np.random.set_state(before)
