"""Which data sets can be generated, and how large OGBench makes them."""

import difflib
from dataclasses import dataclass

from qamx.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """One data set: an environment, the behaviour that acts in it, and its size.

    **Arguments:**

    - `environment`: the OGBench environment without its version, such as `cube-double`.
    - `behaviour`: `play`, `noisy`, `navigate`, `stitch` or `explore`.
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

    @property
    def walker(self) -> str | None:
        """The body whose expert must move it, where the behaviour isn't scripted throughout."""
        return _WALKERS.get(self.environment.partition("-")[0])


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
# Episodes and rows an episode; OGBench walks the humanoid, who is slower, for twice as long.
_MAZE_SIZES = {
    "navigate": {
        "pointmaze-medium": (1000, 1001),
        "pointmaze-large": (1000, 1001),
        "pointmaze-giant": (500, 2001),
        "pointmaze-teleport": (1000, 1001),
        "antmaze-medium": (1000, 1001),
        "antmaze-large": (1000, 1001),
        "antmaze-giant": (500, 2001),
        "antmaze-teleport": (1000, 1001),
        "humanoidmaze-medium": (1000, 2001),
        "humanoidmaze-large": (1000, 2001),
        "humanoidmaze-giant": (1000, 4001),
    },
    "stitch": {
        "pointmaze-medium": (5000, 201),
        "pointmaze-large": (5000, 201),
        "pointmaze-giant": (5000, 201),
        "pointmaze-teleport": (5000, 201),
        "antmaze-medium": (5000, 201),
        "antmaze-large": (5000, 201),
        "antmaze-giant": (5000, 201),
        "antmaze-teleport": (5000, 201),
        "humanoidmaze-medium": (5000, 401),
        "humanoidmaze-large": (5000, 401),
        "humanoidmaze-giant": (10000, 401),
    },
    "explore": {
        "antmaze-medium": (10000, 501),
        "antmaze-large": (10000, 501),
        "antmaze-teleport": (10000, 501),
    },
}
_WALKERS = {"antmaze": "ant", "humanoidmaze": "humanoid"}


def _catalogue() -> dict[str, Dataset]:
    manipulation = [
        Dataset(environment, behaviour, episodes, 1001)
        for environment, episodes in _MANIPULATION_EPISODES.items()
        for behaviour in ("play", "noisy")
    ]
    mazes = [
        Dataset(maze, behaviour, *size)
        for behaviour, sizes in _MAZE_SIZES.items()
        for maze, size in sizes.items()
    ]
    return {dataset.name: dataset for dataset in manipulation + mazes}


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
    if bare.startswith("antsoccer"):
        raise UserError(
            f"{name!r} can't be generated: it needs an expert that dribbles; "
            f"download it from OGBench (qamx data download {bare})."
        )
    near = difflib.get_close_matches(bare, _DATASETS, n=3, cutoff=0.0)
    raise UserError(f"{name!r} can't be generated; the nearest names are {', '.join(near)}.")
