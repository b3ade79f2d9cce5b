"""Checks of repetition: within a shard, between shards, and between training and validation."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool

from qamx._utils.finding import Finding, counted
from qamx.data.inspection.facts import Facts

LEAK = 0.001
"""Share of validation rows that may stand in the training data by chance."""


def check_duplicates(facts: Facts) -> Iterator[Finding]:
    """No episode is there twice."""
    _, first, counts = np.unique(facts.episodes, return_index=True, return_counts=True)
    copies = int(np.sum(counts - 1))
    if copies:
        row = int(facts.starts[first[np.argmax(counts > 1)]])
        yield Finding(
            "episodes-duplicate",
            "warn",
            f"episodes: {copies:,} of {len(facts.episodes):,} copy another bit by bit; one that is "
            f"copied begins in row {row:,}",
            "what is repeated weighs more in every batch, and validation may see what was learned",
            "drop the copies",
        )


@dataclass
class Shards:
    """What is kept of each shard to compare the next with: length and episodes."""

    lengths: list[int] = field(default_factory=list)
    episodes: dict[int, int] = field(default_factory=dict)

    def compare(self, shard: int, facts: Facts) -> Iterator[Finding]:
        """How a shard relates to those before it; it is one of them from then on."""
        size = len(facts.transitions)
        if self.lengths and size != self.lengths[0]:
            yield Finding(
                "shards-unequal",
                "refuse",
                f"{size:,} transitions, and the first shard has {self.lengths[0]:,}",
                "shards take each other's place in the buffer and must be equally long",
                "cut the shards to one length",
            )
        hashes = np.unique(facts.episodes).tolist()
        met = [self.episodes[one] for one in hashes if one in self.episodes]
        if met:
            yield Finding(
                "shards-duplicate",
                "warn",
                f"{len(met):,} of {counted(len(hashes), 'episode')} stand in shard "
                f"{met[0]} already",
                "the same data is learned from again in the place of new data",
                "replace the shard",
            )
        self.lengths.append(size)
        self.episodes |= {one: shard for one in hashes if one not in self.episodes}


def leakage(leaked: Bool[np.ndarray, " rows"]) -> Iterator[Finding]:
    """Whether validation rows stand in the training data; `leaked` marks those that do."""
    shared = int(leaked.sum())
    if shared > LEAK * len(leaked):
        yield Finding(
            "validation-leak",
            "warn",
            f"{shared:,} of {counted(len(leaked), 'validation row')} stand in the training data "
            "bit by bit",
            "figures on the validation data flatter: they measure what was learned by heart",
            "split the data anew, by episodes",
        )
