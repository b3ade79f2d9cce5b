"""The random keys of a run, and the reset seeds of its evaluations."""

from typing import NamedTuple

import jax

from qamx._types import Key
from qamx._utils.seeds import check_seed
from qamx.runner.collect import EVALUATION_STREAM, derived_seed


class Keys(NamedTuple):
    """What seeds each kind of draw of a run."""

    agent: Key
    update: Key
    batch: Key
    collect: Key
    evaluation: Key


def keys_of(seed: int) -> Keys:
    """The keys of the run with that seed.

    **Raises:** `UserError` for one that JAX does not tell from another.
    """
    check_seed("seed", seed)
    return Keys(*jax.random.split(jax.random.key(seed), len(Keys._fields)))


def evaluation_seeds(seed: int, episodes: int) -> list[int]:
    """The reset seeds of every evaluation of the run with that seed."""
    return [derived_seed(seed, EVALUATION_STREAM, index) for index in range(episodes)]
