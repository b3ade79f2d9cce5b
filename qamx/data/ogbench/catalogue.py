"""OGBench's data sets: names, sizes, shards, and where they live."""

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from qamx.errors import UserError, suggestion

_DATA_TYPES = {
    ("pointmaze-medium", "pointmaze-large", "pointmaze-giant", "pointmaze-teleport"): (
        "navigate",
        "stitch",
    ),
    ("antmaze-medium", "antmaze-large", "antmaze-teleport"): ("navigate", "stitch", "explore"),
    ("antmaze-giant",): ("navigate", "stitch"),
    ("humanoidmaze-medium", "humanoidmaze-large", "humanoidmaze-giant"): ("navigate", "stitch"),
    ("cube-single", "cube-double", "cube-triple", "cube-quadruple", "cube-octuple"): (
        "play",
        "noisy",
    ),
    ("scene",): ("play", "noisy"),
    ("puzzle-3x3", "puzzle-4x4", "puzzle-4x5", "puzzle-4x6"): ("play", "noisy"),
}

DOMAIN_OF = {
    f"{domain}-{data_type}": domain
    for domains, data_types in _DATA_TYPES.items()
    for domain, data_type in product(domains, data_types)
}
"""The domain of each OGBench name: `cube-double-play` belongs to `cube-double`."""

VERSION = "-v0"
"""What ends the name of every data set."""

SHARDED = "-100m"
"""What marks the name of a folder of shards, as in `cube-quadruple-play-100m-v0`."""


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


SERVER = "https://rail.eecs.berkeley.edu/datasets/ogbench"
COPY = "https://huggingface.co/datasets/zhouzypaul/ogbench_datasets/resolve/main"
"""A public copy of the plain files, without folders of shards; asked where the server fails."""

# OGBench's README lists the folders; the files in each are those of its makers' repository
# (Park et al., arXiv 2506.04168): a million transitions a file, four where episodes have 4,000.
_SHARDS_OF = {
    "humanoidmaze-giant-navigate": 25,
    "cube-double-play": 100,
    "cube-triple-play": 100,
    "cube-quadruple-play": 100,
    "cube-quadruple-noisy": 100,
    "cube-octuple-play": 100,
    "scene-play": 100,
    "puzzle-3x3-play": 100,
    "puzzle-4x4-play": 100,
    "puzzle-4x5-play": 100,
    "puzzle-4x6-play": 100,
}
_ONLY_SHARDED = ("cube-octuple",)


class NotOffered(UserError):
    """A data set that OGBench names, but has no file of."""


@dataclass(frozen=True)
class RemoteSet:
    """A data set to be had by download.

    **Arguments:** `name` is OGBench's, with the version; `files` are paths below the server's
    folder, and below the data directory too.
    """

    name: str
    files: tuple[str, ...]


def known_names() -> tuple[str, ...]:
    """Every set that can be downloaded, without the version: the plain ones, then the folders."""
    plain = [name for name, domain in DOMAIN_OF.items() if domain not in _ONLY_SHARDED]
    return (*plain, *(f"{name}{SHARDED}" for name in _SHARDS_OF))


def remote_set(name: str, shards: int | None = None) -> RemoteSet:
    """The files of a set, each training file followed by its validation file.

    **Arguments:** `name` is OGBench's, with or without `-v0`; `shards` takes the first so many of
    a folder's training files.

    **Raises:** `UserError` for an unknown name, or a number of shards that the set does not have;
    `NotOffered` for a set that the server does not have.
    """
    bare = name.removesuffix(VERSION)
    if bare not in known_names():
        raise _refusal(bare)
    base = bare.removesuffix(SHARDED)
    if bare == base:
        if shards is not None:
            raise UserError(f"--shards: {bare} is one file, not a folder of shards; leave it out")
        stems = [f"{base}{VERSION}"]
    else:
        count = _count(bare, shards, _SHARDS_OF[base])
        stems = [f"{bare}{VERSION}/{base}{VERSION}-{shard:03d}" for shard in range(count)]
    files = tuple(f"{stem}{end}.npz" for stem in stems for end in ("", "-val"))
    return RemoteSet(f"{bare}{VERSION}", files)


def _count(name: str, wanted: int | None, there: int) -> int:
    if wanted is not None and not 1 <= wanted <= there:
        raise UserError(f"--shards: found {wanted}; {name} has {there}: write 1 to {there}")
    return there if wanted is None else wanted


def _refusal(bare: str) -> UserError:
    base = bare.removesuffix(SHARDED)
    if base not in DOMAIN_OF:
        return UserError(
            f'found "{bare}", no data set of OGBench; {suggestion(bare, known_names())}'
        )
    if base in _SHARDS_OF:
        return NotOffered(f"{bare}: OGBench has only the folder {base}{SHARDED}")
    if bare == base:
        return NotOffered(f"{bare}: OGBench has no file of it")
    return NotOffered(f"{bare}: OGBench has folders of shards only of {', '.join(_SHARDS_OF)}")


def near_names(name: str) -> str:
    """What else could have been meant by the name of a set that a server does not have."""
    bare = name.removesuffix(VERSION)
    others = [known for known in known_names() if known != bare]
    near = ", ".join(difflib.get_close_matches(bare, others, n=3, cutoff=0.0))
    return f"Names near {bare}: {near}; a mirror may have fewer than OGBench's server."


def addresses(mirror: str | None) -> tuple[str, ...]:
    """The folders that files are fetched from, one after the other.

    A mirror alone, if one is named, else OGBench's and the public copy.

    **Raises:** `UserError` for a mirror that is no HTTP address.
    """
    named = mirror or os.environ.get("QAMX_MIRROR")
    return (server_url(named),) if named else (SERVER, COPY)


def servers_of(file: str, servers: tuple[str, ...]) -> tuple[str, ...]:
    """Those that may have a file: the public copy has no folders of shards."""
    return servers[:1] if "/" in file else servers


def elsewhere(servers: tuple[str, ...], names: Sequence[str]) -> str:
    """Where else to look for sets that none of the servers brought."""
    if len(servers) == 1:
        return f"--mirror (or QAMX_MIRROR) is asked alone; without it {SERVER} and {COPY} are."
    lacking = f"{COPY} has no folders of shards. " if any(SHARDED in name for name in names) else ""
    return f"{lacking}--mirror URL (or QAMX_MIRROR) names another server that has the files."


def server_url(mirror: str | None) -> str:
    """The folder that files are fetched from: the mirror, else `$QAMX_MIRROR`, else OGBench's.

    **Raises:** `UserError` for a mirror that is no HTTP address.
    """
    url = mirror or os.environ.get("QAMX_MIRROR") or SERVER
    if not url.startswith(("http://", "https://")):
        raise UserError(
            f"mirror: found {url}; write the address of a folder with OGBench's files, "
            "e.g. https://data.example.org/ogbench"
        )
    return url.rstrip("/")


def default_directory() -> Path:
    """Where data sets live: `$QAMX_DATA` if it is set, else OGBench's own `~/.ogbench/data`."""
    return Path(os.environ.get("QAMX_DATA") or "~/.ogbench/data").expanduser()
