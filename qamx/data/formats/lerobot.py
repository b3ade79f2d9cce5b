"""LeRobot data sets: parquet tables of steps with metadata."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Num

from qamx._utils.files import read_text
from qamx.data.formats.episodes import Episode, Reading
from qamx.data.formats.source import (
    EpisodicData,
    existing,
    files_below,
    library,
    reading_file,
    success_among,
)
from qamx.data.validation import refuse_dangling
from qamx.envs.spaces import is_image
from qamx.errors import UserError

Shape = tuple[int, ...]

_REMEDY = "mend the row, or drop its episode"


def read_columns(file: Path, shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """Some columns of a file, by name.

    **Arguments:** `shapes` are those that a row of each column should have, () or (1,) for a
    number; a row may hold all its entries in one list.

    **Raises:** `UserError` with the column, and with its first row that is null or of another
    shape.
    """
    parquet = library("pyarrow.parquet", "lerobot")
    with reading_file(str(file), "a parquet file"):
        table = parquet.ParquetFile(file).read(columns=[*shapes])
    for name in shapes:
        if name not in table.column_names:
            raise UserError(
                f"{file}: {name}: missing, and meta/info.json lists it; copy or download the data "
                "set anew"
            )
    return {name: _values(f"{file}: {name}", table[name], shape) for name, shape in shapes.items()}


def _values(where: str, column: Any, shape: Shape) -> Num[np.ndarray, "rows *entries"]:
    parts, begin = [], 0
    for chunk in column.chunks:
        parts.append(_unpacked(where, chunk, shape, begin))
        begin += len(chunk)
    return np.concatenate(parts) if begin else np.zeros((0, *shape))


def _unpacked(where: str, chunk: Any, shape: Shape, begin: int) -> Num[np.ndarray, "rows *entries"]:
    """The numbers of consecutive rows, the first of which is row `begin` of the file."""
    compute = library("pyarrow.compute", "lerobot")
    flat, found = _plain(chunk), ()  # found: how long the lists are, the outermost first
    expected = shape if _depth(flat.type) == len(shape) else (int(np.prod(shape)),)
    while True:
        each = int(np.prod(found))  # entries of a row, as far as its lists are unpacked
        if flat.null_count:
            row = begin + int(np.argmax(flat.is_null())) // each
            raise UserError(f"{where}: row {row:,} holds a null; {_REMEDY}")
        if not _is_list(flat.type):
            break
        lengths = np.asarray(compute.list_value_length(flat))
        wanted = expected[len(found)] if len(found) < len(expected) else 1
        if (odd := np.flatnonzero(lengths != wanted)).size:
            _refuse(where, begin + int(odd[0]) // each, f"a list of {lengths[odd[0]]}", shape)
        flat, found = _plain(flat.flatten()), (*found, wanted)
    if np.prod(found) != np.prod(shape) and len(chunk):
        _refuse(where, begin, f"{int(np.prod(found))} in its lists" if found else "one", shape)
    numbers = flat.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in "fiub":
        raise UserError(f"{where}: holds {flat.type}; store it as numbers")
    return numbers.reshape(len(chunk), *found)


def _refuse(where: str, row: int, found: str, shape: Shape) -> None:
    said = " x ".join(map(str, shape)) or "1"
    raise UserError(
        f"{where}: row {row:,} holds {found}, and by meta/info.json a row has {said} numbers; "
        + _REMEDY
    )


def _plain(array: Any) -> Any:
    """An array without what other libraries call its type, and without a dictionary of values."""
    while hasattr(array, "storage"):
        array = array.storage
    return array.dictionary_decode() if hasattr(array, "dictionary_decode") else array


def _is_list(kind: Any) -> bool:
    return hasattr(kind, "value_field")  # types of dictionaries have a value_type, too


def _depth(kind: Any) -> int:
    """How many lists are nested in a row."""
    return 1 + _depth(kind.value_type) if _is_list(kind) else 0


ORDER = ("episode_index", "frame_index")
ACTION, REWARD, DONE, SUCCESS = "action", "next.reward", "next.done", "next.success"
NUMBERS = ("float", "int", "uint", "bool")
"""How the types of features that are numbers begin."""


class Description(NamedTuple):
    """`meta/info.json`: the names of all columns, the shapes of those that are numbers, and how
    many rows there are."""

    names: tuple[str, ...]
    shapes: Mapping[str, Shape]
    frames: int


@dataclass(frozen=True)
class LeRobotFolder:
    """A data set as LeRobot lays it out.

    **Arguments:** `tables` are its parquet files, `shapes` those of a row of each column that is
    numbers, `frames` is how many rows there should be, `success` the value of
    `data.success`.
    """

    folder: Path
    tables: tuple[Path, ...]
    shapes: Mapping[str, Shape]
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
        order = np.lexsort([columns[name].reshape(-1) for name in reversed(ORDER)])
        columns = {name: column[order] for name, column in columns.items()}
        starts = np.flatnonzero(np.diff(columns[ORDER[0]].reshape(-1), prepend=np.nan))
        for rows in map(slice, starts, [*starts[1:], len(order)]):
            yield self._episode({name: column[rows] for name, column in columns.items()})

    def _columns(self) -> dict[str, np.ndarray]:
        parts = [read_columns(file, self.shapes) for file in self.tables]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in self.shapes}
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
            name=f"episode {columns[ORDER[0]].flat[0]:.0f}",
        )


def lerobot_data(place: str, success: str | None, reading: Reading) -> EpisodicData:
    """A data set's states, actions and rewards; images are left aside.

    **Raises:** `UserError` if pyarrow or the folder is missing, it is of another version, or has
    images alone.
    """
    library("pyarrow.parquet", "lerobot")
    folder = existing(Path(place))
    description = _described(folder)
    shapes = _numbers(folder, description)
    with reading_file(str(folder), "a LeRobot data set"):
        files = tuple(files_below(folder / "data", ".parquet"))
    if not files:
        raise UserError(f"{folder / 'data'}: no parquet files; copy or download them too")
    return EpisodicData(
        [LeRobotFolder(folder, files, shapes, description.frames, success)], reading
    )


def _description(folder: Path) -> Path:
    return folder / "meta" / "info.json"


def _described(folder: Path) -> Description:
    path = _description(folder)
    refuse_dangling(path)
    try:
        with reading_file(str(folder), "a LeRobot data set"):
            info = json.loads(read_text(path))
            version = str(info["codebase_version"])
            if not version.startswith(("v2.", "v3.")):
                raise UserError(
                    f"{folder}: a LeRobot data set of version {version}; versions 2 and 3 can be "
                    "read: convert it with LeRobot's own scripts"
                )
            shapes = {
                name: tuple(map(int, feature["shape"]))
                for name, feature in info["features"].items()
                if feature["dtype"].startswith(NUMBERS)
                and not is_image(feature["shape"], feature["dtype"])
            }
            return Description(tuple(info["features"]), shapes, int(info["total_frames"]))
    except (TypeError, AttributeError, OverflowError) as error:  # other JSON
        raise UserError(
            f"{path}: not a description of LeRobot's ({error}); copy it anew"
        ) from error


def _numbers(folder: Path, description: Description) -> Mapping[str, Shape]:
    """The columns to read, with the shape of a row; says which observations are left aside.

    **Raises:** `UserError` if there are no states or no actions.
    """
    names, numbers = description.names, description.shapes
    observations = [name for name in names if _is_observation(name)]
    ignored = [name for name in observations if name not in numbers]
    if ignored == observations:
        raise UserError(
            f"{folder}: observations: found {', '.join(ignored) or 'nothing'} alone, and qamx "
            "learns from vectors; add a state, or features of the images, as observation.state"
        )
    for name in (ACTION, *ORDER):
        if name not in numbers:
            raise UserError(f"{folder}: {name}: missing among {', '.join(names)}; add it")
    if ignored:
        print(f"note: {folder}: ignores {', '.join(ignored)}: no vectors", file=sys.stderr)
    return numbers


def _is_observation(name: str) -> bool:
    return name.partition(".")[0] == "observation"
