"""Which data sets can be generated, and how large OGBench makes them."""

import difflib
from dataclasses import dataclass

from qamx.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """One data set: an environment, the behaviour that acts in it, and its size.

    **Arguments:**

    - `environment`: the OGBench environment without its version, such as `cube-double`.
    - `behaviour`: `play`, `noisy`, `navigate` or `stitch`.
    - `episodes`: training episodes in OGBench's own file.
    - `steps`: rows an episode; the last one has no successor, so it holds `steps - 1` transitions.
    """

    environment: str
    behaviour: str
    episodes: int
    steps: int

    @property
    def name(self) -> str:
        """The OGBench data set without its version, such as `cube-double-play`."""
        return f"{self.environment}-{self.behaviour}"

    @property
    def environment_id(self) -> str:
        """The Gymnasium id of the environment."""
        return f"{self.environment}-v0"


# OGBench, appendix on data sets: a million transitions where that suffices, more where it doesn't.
# The octuple cube has no such file, only shards of a million; its plain file is one of them.
_MANIPULATION_EPISODES = {
    "cube-single": 1000,
    "cube-double": 1000,
    "cube-triple": 3000,
    "cube-quadruple": 5000,
    "cube-octuple": 1000,
    "scene": 1000,
    "puzzle-3x3": 1000,
    "puzzle-4x4": 1000,
    "puzzle-4x5": 3000,
    "puzzle-4x6": 5000,
}
_NAVIGATE_SIZES = {
    "pointmaze-medium": (1000, 1001),
    "pointmaze-large": (1000, 1001),
    "pointmaze-giant": (500, 2001),
    "pointmaze-teleport": (1000, 1001),
}
_STITCH_SIZE = (5000, 201)
_NEEDS_EXPERT = ("antmaze", "humanoidmaze", "antsoccer")


def _catalogue() -> dict[str, Dataset]:
    manipulation = [
        Dataset(environment, behaviour, episodes, 1001)
        for environment, episodes in _MANIPULATION_EPISODES.items()
        for behaviour in ("play", "noisy")
    ]
    navigate = [Dataset(maze, "navigate", *size) for maze, size in _NAVIGATE_SIZES.items()]
    stitch = [Dataset(maze, "stitch", *_STITCH_SIZE) for maze in _NAVIGATE_SIZES]
    return {dataset.name: dataset for dataset in manipulation + navigate + stitch}


_DATASETS = _catalogue()


def dataset_names() -> tuple[str, ...]:
    """Every data set that can be generated, without the version."""
    return tuple(_DATASETS)


def lookup(name: str) -> Dataset:
    """The data set of that name, with or without the version `-v0`.

    **Raises:** `UserError` for a name that can't be generated, saying which names are near.
    """
    bare = name.removesuffix("-v0")
    if bare in _DATASETS:
        return _DATASETS[bare]
    if bare.startswith(_NEEDS_EXPERT):
        raise UserError(
            f"{name!r} can't be generated: it needs an expert locomotion policy; "
            f"download it from OGBench (qamx data download {bare})."
        )
    near = difflib.get_close_matches(bare, _DATASETS, n=3, cutoff=0.0)
    raise UserError(f"{name!r} can't be generated; the nearest names are {', '.join(near)}.")
