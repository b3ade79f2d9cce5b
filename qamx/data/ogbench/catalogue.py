"""OGBench's data sets: names, sizes, shards, servers."""

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from qamx.errors import UserError, suggestion

VERSION = "-v0"
"""The end of every data set's name."""

SHARDED = "-100m"
"""The mark of a folder of shards, as in `cube-quadruple-play-100m-v0`."""


class Dataset(NamedTuple):
    """A data set: environment, behaviour and size.

    **Arguments:**

    - `environment`: the OGBench environment without its version, such as `cube-double`.
    - `behaviour`: `play`, `noisy`, `navigate`, `stitch` or `explore`.
    - `episodes`: training episodes in OGBench's own file.
    - `steps`: rows an episode, which hold `steps - 1` transitions.
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
    def walker(self) -> str | None:
        """The body, `ant` or `humanoid`, whose trained expert generates the data, if any."""
        return _WALKERS.get(self.environment.partition("-")[0])


# Source: OGBench, appendix on data sets.
# The octuple cube has only shards of a million transitions; its plain file here is one of them.
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
# Episodes and rows an episode in the mazes medium, large, giant and teleport, where there are any.
_MAZES = ("medium", "large", "giant", "teleport")
_MAZE_SIZES = {
    ("pointmaze", "navigate"): ((1000, 1001), (1000, 1001), (500, 2001), (1000, 1001)),
    ("antmaze", "navigate"): ((1000, 1001), (1000, 1001), (500, 2001), (1000, 1001)),
    ("humanoidmaze", "navigate"): ((1000, 2001), (1000, 2001), (1000, 4001), None),
    ("pointmaze", "stitch"): ((5000, 201), (5000, 201), (5000, 201), (5000, 201)),
    ("antmaze", "stitch"): ((5000, 201), (5000, 201), (5000, 201), (5000, 201)),
    ("humanoidmaze", "stitch"): ((5000, 401), (5000, 401), (10000, 401), None),
    ("antmaze", "explore"): ((10000, 501), (10000, 501), None, (10000, 501)),
}
_WALKERS = {"antmaze": "ant", "humanoidmaze": "humanoid"}


def _datasets() -> Iterator[Dataset]:
    for environment, episodes in _MANIPULATION_EPISODES.items():
        for behaviour in ("play", "noisy"):
            yield Dataset(environment, behaviour, episodes, 1001)
    for (body, behaviour), sizes in _MAZE_SIZES.items():
        for maze, size in zip(_MAZES, sizes, strict=True):
            if size is not None:
                yield Dataset(f"{body}-{maze}", behaviour, *size)


_DATASETS = {dataset.name: dataset for dataset in _datasets()}

DOMAIN_OF = {name: dataset.environment for name, dataset in _DATASETS.items()}
"""The domain of each OGBench name: `cube-double-play` belongs to `cube-double`."""


def dataset_names() -> tuple[str, ...]:
    """The names of all data sets that can be generated, without the version."""
    return tuple(_DATASETS)


def lookup(name: str) -> Dataset:
    """The data set of a name with or without the version `-v0`.

    **Raises:** `UserError` for a name that can't be generated, with the nearest names.
    """
    bare = name.removesuffix(VERSION)
    if bare in _DATASETS:
        return _DATASETS[bare]
    if bare.startswith("antsoccer"):
        raise UserError(
            f"{name!r} can't be generated: it needs an expert that dribbles; "
            f"download it from OGBench (qamx data download {bare})."
        )
    near = difflib.get_close_matches(bare, _DATASETS, n=3, cutoff=0.0)
    raise UserError(f"{name!r} can't be generated; the nearest names are {', '.join(near)}.")


def file_stems(name: str, shards: int | None) -> list[str]:
    """The training files of a set without their ending: one, or those of a folder of shards."""
    stem = f"{name}{VERSION}"
    if shards is None:
        return [stem]
    return [f"{name}{SHARDED}{VERSION}/{stem}-{shard:03d}" for shard in range(shards)]


SERVER = "https://rail.eecs.berkeley.edu/datasets/ogbench"
COPY = "https://huggingface.co/datasets/zhouzypaul/ogbench_datasets/resolve/main"
"""A public copy of the plain files, without folders of shards: the fallback."""

# Training files of each folder. Sources: OGBench's README and its authors' repository (Park et al.,
# arXiv 2506.04168): a million transitions a file, four where episodes have 4,000.
_OF_100_SHARDS = (
    "cube-double-play cube-triple-play cube-quadruple-play cube-quadruple-noisy cube-octuple-play "
    "scene-play puzzle-3x3-play puzzle-4x4-play puzzle-4x5-play puzzle-4x6-play"
)
_SHARDS_OF = {"humanoidmaze-giant-navigate": 25, **dict.fromkeys(_OF_100_SHARDS.split(), 100)}
_ONLY_SHARDED = "cube-octuple"


class UnavailableError(UserError):
    """A data set that OGBench names, but has no file of."""


def known_names() -> tuple[str, ...]:
    """The names of all sets that can be downloaded, without the version, folders of shards last."""
    plain = [name for name, domain in DOMAIN_OF.items() if domain != _ONLY_SHARDED]
    return (*plain, *(f"{name}{SHARDED}" for name in _SHARDS_OF))


def remote_files(name: str, shards: int | None = None) -> tuple[str, ...]:
    """The files of a set, each training file followed by its validation file, as paths below a
    server's URL, and below the data directory.

    **Arguments:** `name` is OGBench's, with or without `-v0`; `shards` is the number of a folder's
    training files, all by default.

    **Raises:** `UserError` for an unknown name or number of shards; `UnavailableError` for a set
    that the server does not have.
    """
    bare = name.removesuffix(VERSION)
    if bare not in known_names():
        raise _unknown_name(bare)
    base = bare.removesuffix(SHARDED)
    total = None if bare == base else _SHARDS_OF[base]
    if shards is not None and total is None:
        raise UserError(f"--shards: {bare} is one file, not a folder of shards; leave it out")
    if shards is not None and total is not None and not 1 <= shards <= total:
        raise UserError(f"--shards: found {shards}; {bare} has {total}: write 1 to {total}")
    stems = file_stems(base, shards or total)
    return tuple(f"{stem}{end}.npz" for stem in stems for end in ("", "-val"))


def _unknown_name(bare: str) -> UserError:
    base = bare.removesuffix(SHARDED)
    if base not in DOMAIN_OF:
        return UserError(
            f'found "{bare}", no data set of OGBench; {suggestion(bare, known_names())}'
        )
    if base in _SHARDS_OF:
        return UnavailableError(f"{bare}: OGBench has only the folder {base}{SHARDED}")
    if bare == base:
        return UnavailableError(f"{bare}: OGBench has no file of it")
    return UnavailableError(
        f"{bare}: OGBench has folders of shards only of {', '.join(_SHARDS_OF)}"
    )


def near_names(name: str) -> str:
    """A sentence with names like that of a set that a server does not have."""
    bare = name.removesuffix(VERSION)
    names = [known for known in known_names() if known != bare]
    near = ", ".join(difflib.get_close_matches(bare, names, n=3, cutoff=0.0))
    return f"Names near {bare}: {near}; a mirror may have fewer than OGBench's server."


def server_urls(mirror: str | None) -> tuple[str, ...]:
    """The servers' folders in the order of trying: the mirror alone, by default `$QAMX_MIRROR`;
    else OGBench's and the public copy.

    **Raises:** `UserError` for a mirror that is no HTTP address.
    """
    url = mirror or os.environ.get("QAMX_MIRROR")
    if not url:
        return SERVER, COPY
    if not url.startswith(("http://", "https://")):
        raise UserError(
            f"mirror: found {url}; write the address of a folder with OGBench's files, "
            "e.g. https://data.example.org/ogbench"
        )
    return (url.rstrip("/"),)


def other_servers(servers: tuple[str, ...], names: Sequence[str]) -> str:
    """A sentence about further servers for sets that none of `servers` delivered."""
    if len(servers) == 1:
        return f"--mirror (or QAMX_MIRROR) is asked alone; without it {SERVER} and {COPY} are."
    lacking = f"{COPY} has no folders of shards. " if any(SHARDED in name for name in names) else ""
    return f"{lacking}--mirror URL (or QAMX_MIRROR) names another server that has the files."


def default_directory() -> Path:
    """The data directory: `$QAMX_DATA` if it is set, else OGBench's own `~/.ogbench/data`."""
    return Path(os.environ.get("QAMX_DATA") or "~/.ogbench/data").expanduser()


def directory_option(directory: Path) -> str:
    """The option of a command that names a data directory, empty for the default one."""
    return "" if directory == default_directory() else f" --directory {directory}"
