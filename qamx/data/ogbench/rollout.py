"""Episodes of a scripted behaviour: plan, seeds, one episode, archive."""

import itertools
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from qamx.data.ogbench.catalogue import Dataset, lookup
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


Stamp = Mapping[str, str | int]


def write_archive(path: Path, arrays: Mapping[str, np.ndarray], stamp: Stamp) -> None:
    """Writes arrays as `numpy.savez_compressed` does, with the stamp as the archive's comment.

    The file appears under its name only when it is complete; the same arrays and stamp give the
    same bytes, because a member's date is zip's fixed earliest one.

    **Raises:** `UserError` where the file can't be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.comment = json.dumps(dict(stamp), sort_keys=True).encode()
            for name, array in arrays.items():
                # The size isn't known beforehand and may pass two gigabytes, hence zip64.
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def read_stamp(path: Path) -> dict[str, str | int] | None:
    """The stamp of an archive, or `None` for a file that `write_archive` didn't write."""
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.comment)
    except (zipfile.BadZipFile, ValueError):
        return None


def is_generated(path: Path) -> bool:
    """True for a file of `qamx data generate`."""
    return read_stamp(path) is not None
