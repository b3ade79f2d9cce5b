"""The first episode of each generated data set, compared with a table.

OGBench publishes no checksums, and a file's bytes depend on its number of episodes. The first
training episode of seed 0 is in every file of that seed, whatever its size. `python
tests/_support/reference_episodes.py` renews the table after an intended change.
"""

import enum
import functools
import hashlib
import json
import platform
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from qamx.data.ogbench.catalogue import dataset_names, lookup
from qamx.data.ogbench.generate import build_behaviour
from qamx.data.ogbench.rollout import Episode, Plan, draw_episode, read_stamp

TABLE = Path(__file__).parents[1] / "golden" / "reference_episodes.json"
STAMP = {"seed": 0, "shard": 0, "split": "train"}
SOFTWARE = ("mujoco", "dm-control", "gymnasium", "numpy", "ogbench")


class ReferenceMatch(enum.Enum):
    """Agreement of an episode with the reference."""

    IDENTICAL = enum.auto()
    ROUNDING = enum.auto()
    SIMILAR = enum.auto()
    """As under other versions of the simulator."""
    DIFFERENT = enum.auto()


def draw_reference(name: str) -> Episode:
    """The first training episode of seed 0."""
    spec = Plan.of(name, episodes=1, shards=None, seed=0).files[0]
    return draw_episode(build_behaviour(lookup(name)), spec, 0)


def read_first_episode(path: Path) -> Episode | None:
    """The first episode of a generated file with the reference's seed; no more is read.

    **Raises:** `OSError`, `ValueError`, `BadZipFile` or `zlib.error` if the file is damaged.
    """
    stamp = read_stamp(path)
    if stamp is None or any(stamp.get(key) != value for key, value in STAMP.items()):
        return None
    with zipfile.ZipFile(path) as archive:
        return {
            member.removesuffix(".npy"): _first_rows(archive, member, int(stamp["steps"]))
            for member in archive.namelist()
        }


def _first_rows(archive: zipfile.ZipFile, member: str, rows: int) -> np.ndarray:
    with archive.open(member) as stream:
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        shape = (rows, *shape[1:])
        content = stream.read(int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(content, dtype).reshape(shape)


def platform_info() -> dict[str, str]:
    """Software versions and processor, which an episode's last bits depend on."""
    config: Any = np.__config__.show(mode="dicts")
    features = " ".join(config["SIMD Extensions"]["found"])
    processor = {"machine": platform.machine(), "processor": features}
    return {name: version(name) for name in SOFTWARE} | processor


@functools.cache
def read_table() -> Mapping[str, Any]:
    """The table: `made_with`, and `episodes` by data set."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def compare(name: str, episode: Episode) -> ReferenceMatch | None:
    """The agreement with the reference; `None` without one."""
    reference = read_table()["episodes"].get(name)
    if reference is None:
        return None
    if _sha256(episode) == reference["sha256"]:
        return ReferenceMatch.IDENTICAL
    found, expected = _summary(episode), reference["arrays"]
    if {key: _form(array) for key, array in found.items()} != {
        key: _form(array) for key, array in expected.items()
    }:
        return ReferenceMatch.DIFFERENT
    pairs = [(array, expected[key]) for key, array in found.items()]
    if not all(_close(ours["first"], theirs["first"]) for ours, theirs in pairs):
        return ReferenceMatch.DIFFERENT
    if all(_close(ours["last"], theirs["last"]) for ours, theirs in pairs):
        return ReferenceMatch.ROUNDING
    similar = all(_similar(*pair) for pair in pairs)
    return ReferenceMatch.SIMILAR if similar else ReferenceMatch.DIFFERENT


def _form(array: Mapping[str, Any]) -> tuple[Any, Any]:
    return array["shape"], array["dtype"]


def _close(ours: list[float], theirs: list[float]) -> bool:
    return np.allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def _similar(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Compares means within half a standard deviation, deviations within a factor of two."""
    spread = max(theirs["deviation"], 1e-3)
    return (
        abs(ours["mean"] - theirs["mean"]) <= spread / 2
        and spread / 2 <= max(ours["deviation"], 1e-3) <= spread * 2
    )


def _sha256(episode: Episode) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(episode.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _summary(episode: Episode) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "shape": list(values.shape),
            "dtype": values.dtype.name,
            "mean": _rounded(np.mean(values, dtype=np.float64)),
            "deviation": _rounded(np.std(values, dtype=np.float64)),
            "first": [_rounded(value) for value in np.ravel(values[0])],
            "last": [_rounded(value) for value in np.ravel(values[-1])],
        }
        for name, values in episode.items()
    }


def _rounded(value: Any) -> float:
    return float(f"{float(value):.5g}")


def write_table() -> None:
    """Draws the first episode of every set that needs no expert, and writes the table."""
    episodes = {}
    for name in (name for name in dataset_names() if lookup(name).walker is None):
        episode = draw_reference(name)
        episodes[name] = {"sha256": _sha256(episode), "arrays": _summary(episode)}
    table = {"made_with": platform_info(), "episodes": episodes}
    TABLE.write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_table()
