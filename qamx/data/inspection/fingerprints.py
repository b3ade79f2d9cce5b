"""Hashes of rows and episodes, by which repetitions are found."""

import numpy as np
from jaxtyping import Int, UInt64

from qamx.data.inspection.columns import BLOCK_ROWS
from qamx.data.sequences import Transitions

_STEP = np.uint64(0x9E3779B97F4A7C15)


def row_hashes(transitions: Transitions) -> UInt64[np.ndarray, " size"]:
    """A hash of each row's observation and action; equal rows have equal ones."""
    observations = np.asarray(transitions.observations)
    actions = np.asarray(transitions.actions)
    width = observations.shape[1] + actions.shape[1]
    factors = np.random.default_rng(0).integers(1, 2**63, width, dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(actions), np.uint64)
    for begin in range(0, len(actions), BLOCK_ROWS):
        part = slice(begin, begin + BLOCK_ROWS)
        both = np.concatenate([observations[part], actions[part]], axis=1, dtype=np.float32)
        hashes[part] = both.view(np.uint32) @ factors
    return _mixed(hashes)


def episode_hashes(
    rows: UInt64[np.ndarray, " size"], starts: Int[np.ndarray, " episodes"]
) -> UInt64[np.ndarray, " episodes"]:
    """A hash of each episode, of its rows in their order."""
    lengths = np.diff(starts, append=len(rows))
    position = np.arange(len(rows)) - np.repeat(starts, lengths)
    return np.add.reduceat(rows * _mixed(position.astype(np.uint64) + np.uint64(1)), starts)


def _mixed(values: UInt64[np.ndarray, " size"]) -> UInt64[np.ndarray, " size"]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): every bit matters."""
    mixed = values * _STEP
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
