"""The first episode of each generated set, on record: what a generator's output is held against.

OGBench publishes no hashes, and a file's bytes depend on how much of a set was made. But the first
training episode of seed 0 is in every file of that seed, whatever its size.
"""

import enum
import functools
import hashlib
import json
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from qamx.data.ogbench.catalogue import dataset_names, lookup
from qamx.data.ogbench.generate import build_recipe
from qamx.data.ogbench.rollout import Episode, Plan, draw_episode, read_stamp

_TABLE = Path(__file__).with_name("reference_episodes.json")
_PLACE = {"seed": 0, "shard": 0, "split": "train"}
_SOFTWARE = ("mujoco", "dm-control", "gymnasium", "numpy", "ogbench")


class Likeness(enum.Enum):
    """How near an episode is to the one on record; the value says so in words."""

    SAME = "the one on record, bit for bit"
    CLOSE = "the one on record, up to rounding"
    ALIKE = "like the one on record, as under other versions of the simulator"
    OTHER = "not the one on record"


def draw_standard(name: str) -> Episode:
    """The first training episode of seed 0."""
    portion = Plan.of(name, episodes=1, shards=None, seed=0).portions[0]
    return draw_episode(build_recipe(lookup(name)), portion, 0)


def read_first_episode(path: Path) -> Episode | None:
    """The first episode of a generated file, if it is of the kind on record; no more is read.

    **Raises:** `OSError`, `ValueError`, `BadZipFile` or `zlib.error` if the file is damaged.
    """
    stamp = read_stamp(path)
    if stamp is None or any(stamp.get(key) != value for key, value in _PLACE.items()):
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


def surroundings() -> dict[str, str]:
    """What an episode's last bits depend on: the software, and what the processor can do."""
    import platform

    config: Any = np.__config__.show(mode="dicts")
    found = config["SIMD Extensions"]["found"]
    processor = {"machine": platform.machine(), "processor": " ".join(found)}
    return {name: version(name) for name in _SOFTWARE} | processor


@functools.cache
def record() -> Mapping[str, Any]:
    """The table: `made_with`, and under `episodes` what is known of each set's first one."""
    return json.loads(_TABLE.read_text(encoding="utf-8"))


def compare(name: str, episode: Episode) -> Likeness | None:
    """How near an episode is to the one on record, or `None` if there is none of that set."""
    known = record()["episodes"].get(name)
    if known is None:
        return None
    if _sha256(episode) == known["sha256"]:
        return Likeness.SAME
    found, expected = _described(episode), known["arrays"]
    if {name: _form(array) for name, array in found.items()} != {
        name: _form(array) for name, array in expected.items()
    }:
        return Likeness.OTHER
    pairs = [(array, expected[name]) for name, array in found.items()]
    if not all(_near(ours["first"], theirs["first"]) for ours, theirs in pairs):
        return Likeness.OTHER
    if all(_near(ours["last"], theirs["last"]) for ours, theirs in pairs):
        return Likeness.CLOSE
    return Likeness.ALIKE if all(_akin(*pair) for pair in pairs) else Likeness.OTHER


def _form(array: Mapping[str, Any]) -> tuple[Any, Any]:
    return array["shape"], array["dtype"]


def _near(ours: list[float], theirs: list[float]) -> bool:
    return np.allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def _akin(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Means within half a standard deviation, deviations within a factor of two."""
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


def _described(episode: Episode) -> dict[str, dict[str, Any]]:
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


def write_record() -> None:
    """Draws the first episode of every set that takes no expert, and writes the table anew."""
    episodes = {}
    for name in (name for name in dataset_names() if lookup(name).walker is None):
        episode = draw_standard(name)
        episodes[name] = {"sha256": _sha256(episode), "arrays": _described(episode)}
    table = {"made_with": surroundings(), "episodes": episodes}
    _TABLE.write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_record()
