"""One episode of a recipe, determined by its place in a plan."""

import itertools
from collections.abc import Iterable

import numpy as np

from qamx.data.generate.plan import Portion
from qamx.data.generate.recipe import Episode, Recipe, Row
from qamx.data.generate.seeding import seeded

# In the order of OGBench's files.
_DTYPES = {
    "observations": np.float32,
    "actions": np.float32,
    "terminals": np.bool_,
    "qpos": np.float32,
    "qvel": np.float32,
    "button_states": np.int64,
}


def draw_episode(recipe: Recipe, portion: Portion, index: int) -> Episode:
    """The first episode at that place in a file that the recipe accepts.

    It depends on the portion's seed, shard and split and on `index` alone: not on the process, nor
    on what the recipe has played before. `reset` sees to the latter: it clears the whole simulation
    state (`mj_resetData`, the solver's warm start included), and what the environments keep beside
    it is either drawn anew or read by no oracle before it is set.
    """
    attempts = (_attempt(recipe, portion, index, number) for number in itertools.count())
    return next(episode for episode in attempts if recipe.accepts(episode))


def _attempt(recipe: Recipe, portion: Portion, index: int, number: int) -> Episode:
    split = {"train": 0, "val": 1}[portion.split]
    place = (portion.shard, split, index, number)
    with seeded(np.random.SeedSequence(portion.seed, spawn_key=place)) as seeds:
        return _stacked(recipe.play(seeds, portion.steps))


def _stacked(played: Iterable[Row]) -> Episode:
    rows = list(played)
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    columns["terminals"] = np.arange(len(rows)) == len(rows) - 1
    return {name: columns[name].astype(_DTYPES[name]) for name in _DTYPES if name in columns}
