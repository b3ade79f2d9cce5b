"""LeRobot's data sets of versions 2 and 3: parquet files, described by `meta/info.json`."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qamx.data.episodes import Episode, Reading
from qamx.data.formats.access import existing, library, reading_file, success_among
from qamx.data.formats.source import EpisodicData
from qamx.errors import UserError

ORDER = ("episode_index", "frame_index")
ACTION, REWARD, DONE, SUCCESS = "action", "next.reward", "next.done", "next.success"
NUMBERS = ("float", "int", "uint", "bool")
"""How the types of features that are numbers begin."""


@dataclass(frozen=True)
class LeRobotFolder:
    """A data set as LeRobot lays it out.

    **Arguments:** `tables` are its parquet files, `features` the columns that are numbers,
    `frames` is how many rows there should be, `success` the value of `data.success`.
    """

    folder: Path
    tables: tuple[Path, ...]
    features: tuple[str, ...]
    frames: int
    success: str | None

    @property
    def name(self) -> str:
        return str(self.folder)

    @property
    def files(self) -> tuple[Path, ...]:
        return (_description(self.folder), *self.tables)

    def episodes(self) -> Iterator[Episode]:
        columns = self._columns()
        order = np.lexsort([columns[name] for name in reversed(ORDER)])
        columns = {name: column[order] for name, column in columns.items()}
        starts = np.flatnonzero(np.diff(columns[ORDER[0]], prepend=np.nan))
        for rows in map(slice, starts, [*starts[1:], len(order)]):
            yield self._episode({name: column[rows] for name, column in columns.items()})

    def _columns(self) -> dict[str, np.ndarray]:
        parquet = library("pyarrow.parquet", "lerobot")
        tables = [parquet.read_table(file, columns=[*self.features]) for file in self.tables]
        parts = [{name: _array(table[name]) for name in self.features} for table in tables]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in self.features}
        found = len(columns[ORDER[0]])
        if found != self.frames:
            raise UserError(
                f"{self.folder}: {found:,} frames, and meta/info.json says {self.frames:,}; copy "
                "or download the data set anew"
            )
        return columns

    def _episode(self, columns: dict[str, np.ndarray]) -> Episode:
        return Episode(
            {name: column for name, column in columns.items() if _is_observation(name)},
            columns[ACTION],
            rewards=columns.get(REWARD),
            terminations=columns.get(DONE),
            success=success_among(self.name, columns, self.success, (SUCCESS,)),
        )


def lerobot_data(place: str, success: str | None, reading: Reading) -> EpisodicData:
    """A data set's states, actions and rewards; images are left aside.

    **Raises:** `UserError` if pyarrow or the folder is missing, it is of another version, or has
    images alone.
    """
    library("pyarrow.parquet", "lerobot")
    folder = existing(Path(place))
    with reading_file(str(folder), "a LeRobot data set"):
        info = json.loads(_description(folder).read_text(encoding="utf-8"))
        version, features = str(info["codebase_version"]), dict(info["features"])
        frames = int(info["total_frames"])
    if not version.startswith(("v2.", "v3.")):
        raise UserError(
            f"{folder}: a LeRobot data set of version {version}; versions 2 and 3 can be read: "
            "convert it with LeRobot's own scripts"
        )
    names = _numbers(folder, features)
    files = tuple(sorted((folder / "data").rglob("*.parquet")))
    if not files:
        raise UserError(f"{folder / 'data'}: no parquet files; copy or download them too")
    return EpisodicData([LeRobotFolder(folder, files, names, frames, success)], reading)


def _description(folder: Path) -> Path:
    return folder / "meta" / "info.json"


def _numbers(folder: Path, features: dict[str, Any]) -> tuple[str, ...]:
    """The columns to read; says which observations are left aside.

    **Raises:** `UserError` if there are no states or no actions.
    """
    numbers = tuple(name for name in features if features[name]["dtype"].startswith(NUMBERS))
    observations = [name for name in features if _is_observation(name)]
    ignored = [name for name in observations if name not in numbers]
    if ignored == observations:
        raise UserError(
            f"{folder}: observations: found {', '.join(ignored) or 'nothing'} alone, and qamx "
            "learns from vectors; add a state, or features of the images, as observation.state"
        )
    for name in (ACTION, *ORDER):
        if name not in numbers:
            raise UserError(f"{folder}: {name}: missing among {', '.join(features)}; add it")
    if ignored:
        print(f"note: {folder}: ignores {', '.join(ignored)}: no vectors", file=sys.stderr)
    return numbers


def _is_observation(name: str) -> bool:
    return name.partition(".")[0] == "observation"


def _array(column: Any) -> np.ndarray:
    """A column of numbers, or of (nested) lists of equal length."""
    flat, shape = column.combine_chunks(), [len(column)]
    while hasattr(flat.type, "value_type"):
        flat = flat.flatten()
        shape.append(len(flat) // max(1, int(np.prod(shape))))
    return flat.to_numpy(zero_copy_only=False).reshape(shape)
