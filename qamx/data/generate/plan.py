"""What is to be generated, file by file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qamx.data.generate.catalogue import Dataset, lookup
from qamx.errors import UserError

EPISODES_PER_SHARD = 1000
Split = Literal["train", "val"]


def shard_folder(name: str) -> str:
    """The folder of a sharded data set, as OGBench calls it: `<name>-100m-v0`."""
    return f"{name.removesuffix('-v0')}-100m-v0"


@dataclass(frozen=True)
class Portion:
    """The episodes of one file.

    **Arguments:**

    - `path`: the file, relative to the data directory.
    - `dataset`: what is in it.
    - `seed`, `shard`, `split`: with an episode's index they determine the episode, bit for bit.
    - `episodes`: how many episodes the file holds.
    - `steps`: rows an episode.
    - `expert`: the SHA-256 of the expert that moves the walker, where there is one.
    """

    path: Path
    dataset: Dataset
    seed: int
    shard: int
    split: Split
    episodes: int
    steps: int
    expert: str | None = None

    @property
    def stamp(self) -> dict[str, str | int]:
        """All that determines the file's content, in a form to keep inside the file."""
        expert = {} if self.expert is None else {"expert": self.expert}
        return expert | {
            "name": self.dataset.name,
            "seed": self.seed,
            "shard": self.shard,
            "split": self.split,
            "episodes": self.episodes,
            "steps": self.steps,
        }


@dataclass(frozen=True)
class Plan:
    """A data set to generate: which one, how much of it, and from which seed.

    **Arguments:**

    - `dataset`: which one.
    - `episodes`: training episodes (in each shard, if sharded); a tenth more, and at least
        one, go to the validation file.
    - `shards`: the number of shards, or `None` for one plain file.
    - `seed`: a non-negative integer.
    - `steps`: rows an episode.
    - `expert`: the SHA-256 of the expert that moves the walker, where there is one.
    """

    dataset: Dataset
    episodes: int
    shards: int | None
    seed: int
    steps: int
    expert: str | None = None

    @classmethod
    def of(cls, name: str, *, episodes: int | None, shards: int | None, seed: int) -> "Plan":
        """The plan for a data set by name, OGBench's size where none is given.

        **Raises:** `UserError` for an unknown name or a size or seed out of range.
        """
        dataset = lookup(name)
        if episodes is None:
            episodes = dataset.episodes if shards is None else EPISODES_PER_SHARD
        if episodes < 1:
            raise UserError(f"episodes must be at least 1, got {episodes}.")
        if shards is not None and shards < 1:
            raise UserError(f"shards must be at least 1, got {shards}; leave it out for one file.")
        if seed < 0:
            raise UserError(f"seed must not be negative, got {seed}.")
        return cls(dataset, episodes, shards, seed, dataset.steps)

    @property
    def portions(self) -> tuple[Portion, ...]:
        """The files in the order they are made: each training file, then its validation file."""
        # OGBench's scripts leave the validation file empty below ten episodes.
        splits: tuple[tuple[Split, str, int], ...] = (
            ("train", "", self.episodes),
            ("val", "-val", max(1, self.episodes // 10)),
        )
        return tuple(
            Portion(
                Path(f"{stem}{ending}.npz"),
                self.dataset,
                self.seed,
                shard,
                split,
                episodes,
                self.steps,
                self.expert,
            )
            for shard, stem in enumerate(self._stems())
            for split, ending, episodes in splits
        )

    def _stems(self) -> list[str]:
        stem = f"{self.dataset.name}-v0"
        if self.shards is None:
            return [stem]
        folder = shard_folder(self.dataset.name)
        return [f"{folder}/{stem}-{shard:03d}" for shard in range(self.shards)]
