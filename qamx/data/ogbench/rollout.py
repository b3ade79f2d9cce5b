"""Episodes of a scripted behaviour: plan, seeds, rollout, archive."""

import itertools
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from qamx._utils.files import atomic_path
from qamx.data.ogbench.catalogue import VERSION, Dataset, file_stems, lookup
from qamx.envs.base import GlobalRandomness
from qamx.errors import UserError

EPISODES_PER_SHARD = 1000
Split = Literal["train", "val"]


@dataclass(frozen=True)
class Plan:
    """A data set to generate.

    **Arguments:**

    - `episodes`: training episodes (in each shard, if sharded); a tenth more, and at least
        one, go to the validation file.
    - `shards`: the number of shards, or `None` for one plain file.
    - `seed`: a non-negative integer.
    - `steps`: rows an episode.
    - `expert`: the SHA-256 of the expert that moves the walker, if there is one.
    """

    dataset: Dataset
    episodes: int
    shards: int | None
    seed: int
    steps: int
    expert: str | None = None

    @classmethod
    def of(cls, name: str, *, episodes: int | None, shards: int | None, seed: int) -> "Plan":
        """The plan for a data set by name, by default of OGBench's size.

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
    def files(self) -> tuple["ShardSpec", ...]:
        """The files in their order: each training file, then its validation file."""
        # OGBench's scripts leave the validation file empty below ten episodes.
        splits: tuple[tuple[Split, str, int], ...] = (
            ("train", "", self.episodes),
            ("val", "-val", max(1, self.episodes // 10)),
        )
        return tuple(
            ShardSpec(self, Path(f"{stem}{ending}.npz"), shard, split, episodes)
            for shard, stem in enumerate(file_stems(self.dataset.name, self.shards))
            for split, ending, episodes in splits
        )


@dataclass(frozen=True)
class ShardSpec:
    """One file of a plan.

    **Arguments:**

    - `path`: relative to the data directory.
    - `shard`, `split`: with the plan's seed and an episode's index they determine the episode.
    - `episodes`: the number of episodes in the file.
    """

    plan: Plan
    path: Path
    shard: int
    split: Split
    episodes: int

    @property
    def stamp(self) -> dict[str, str | int]:
        """The arguments that determine the file's content, to be kept inside the file."""
        expert = {} if self.plan.expert is None else {"expert": self.plan.expert}
        return expert | {
            "name": self.plan.dataset.name,
            "seed": self.plan.seed,
            "shard": self.shard,
            "split": self.split,
            "episodes": self.episodes,
            "steps": self.plan.steps,
        }


class EpisodeSeeds(NamedTuple):
    """Random sources of an episode, besides NumPy's global state, which OGBench draws from.

    **Arguments:** `environment` is the seed for `reset`, `generator` is for the behaviour.
    """

    environment: int
    generator: np.random.Generator


@contextmanager
def seeded(sequence: np.random.SeedSequence) -> Iterator[EpisodeSeeds]:
    """Seeds all random sources of an episode; NumPy's global state is restored afterwards."""
    environment, oracles, behaviour = sequence.spawn(3)
    seed = int(environment.generate_state(1, np.uint64)[0])
    with GlobalRandomness(oracles.generate_state(4)):
        yield EpisodeSeeds(seed, np.random.default_rng(behaviour))


Row = dict[str, np.ndarray]
"""One step: `observations`, `actions`, `qpos`, `qvel`, perhaps `button_states`.

All but the action are from before the action.
"""
Episode = dict[str, np.ndarray]
"""The rows of one episode stacked, and `terminals`."""


def make_row(observation: np.ndarray, action: np.ndarray, info: Mapping[str, Any]) -> Row:
    """The row of a step with OGBench's `info`."""
    buttons = ("button_states",) if "prev_button_states" in info else ()
    states = {name: info[f"prev_{name}"] for name in ("qpos", "qvel", *buttons)}
    return {"observations": observation, "actions": action, **states}


def clip_action(action: np.ndarray) -> np.ndarray:
    """The action in [-1, 1], rounded before it is taken, so that the stored one was taken."""
    return np.clip(action, -1.0, 1.0).astype(np.float32)


def make_environment(dataset: Dataset, module: str, **options: Any) -> Any:
    """The environment of a data set, which continues at its goal; `module` is OGBench's."""
    import gymnasium

    return gymnasium.make(
        f"ogbench.{module}:{dataset.environment}{VERSION}",
        terminate_at_goal=False,
        max_episode_steps=dataset.steps,
        disable_env_checker=True,
        **options,
    )


class ScriptedBehaviour(Protocol):
    """A scripted policy in its environment, built once for any number of episodes."""

    def play(self, seeds: EpisodeSeeds, steps: int) -> Iterator[Row]:
        """Plays an episode of `steps` rows."""
        ...

    def accepts(self, episode: Episode, /) -> bool:
        """True to keep the episode, False to draw another in its place."""
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


def draw_episode(behaviour: ScriptedBehaviour, file: ShardSpec, index: int) -> Episode:
    """Plays the episode with an index in a file; the first attempt that the behaviour accepts.

    It depends on seed, shard, split and `index` alone: not on the process, nor on earlier episodes.
    `reset` clears the whole simulation state (`mj_resetData`, the solver's warm start included),
    and the rest of an environment's state is drawn again, or read by no oracle before it is set.
    """

    def attempt(number: int) -> Episode:
        key = (file.shard, {"train": 0, "val": 1}[file.split], index, number)
        with seeded(np.random.SeedSequence(file.plan.seed, spawn_key=key)) as seeds:
            return _stack(list(behaviour.play(seeds, file.plan.steps)))

    return next(filter(behaviour.accepts, map(attempt, itertools.count())))


def _stack(rows: list[Row]) -> Episode:
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    columns["terminals"] = np.arange(len(rows)) == len(rows) - 1
    return {name: columns[name].astype(_DTYPES[name]) for name in _DTYPES if name in columns}


Stamp = Mapping[str, str | int]


def write_archive(path: Path, arrays: Mapping[str, np.ndarray], stamp: Stamp) -> None:
    """Writes arrays as `numpy.savez_compressed` does, with the stamp as the archive's comment.

    The same arrays and stamp give the same bytes: a member's date is zip's earliest one.

    **Raises:** `UserError` where the file can't be written.
    """
    try:
        with (
            atomic_path(path) as partial,
            zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            archive.comment = json.dumps(dict(stamp), sort_keys=True).encode()
            for name, array in arrays.items():
                # The size isn't known beforehand and may pass two gigabytes, hence zip64.
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}.") from error


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


def describe_stamp(stamp: Stamp) -> str:
    """The arguments of a generated file, for messages."""
    return ", ".join(f"{key} {value}" for key, value in stamp.items() if key != "name")
