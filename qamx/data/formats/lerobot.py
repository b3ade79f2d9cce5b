"""LeRobot data sets: parquet tables of steps with metadata."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeAlias

import numpy as np
from jaxtyping import Num

from qamx._utils.files import read_text
from qamx.data.formats.episodes import EpisodeReader, StoredEpisode
from qamx.data.formats.source import (
    EpisodeShard,
    EpisodicData,
    existing,
    files_below,
    library,
    select_success,
)
from qamx.data.validation import is_numeric, reading_file, refuse_dangling, warn_once
from qamx.envs.spaces import is_image
from qamx.errors import UserError

Shape: TypeAlias = tuple[int, ...]

INFO = Path("meta", "info.json")

ORDER = ("episode_index", "frame_index")
ACTION, REWARD, DONE, SUCCESS = "action", "next.reward", "next.done", "next.success"
NUMERIC = ("float", "int", "uint", "bool")
"""Prefixes of the types of numeric features."""

_REMEDY = "correct the row, or drop its episode"


class LeRobotInfo(NamedTuple):
    """Content of `meta/info.json`: all columns, the row shapes of the numeric ones, the number of
    rows."""

    names: tuple[str, ...]
    shapes: Mapping[str, Shape]
    frames: int


def _read(
    folder: Path, tables: Sequence[Path], info: LeRobotInfo, success: str | None
) -> Iterator[StoredEpisode]:
    parts = [read_columns(file, info.shapes) for file in tables]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in info.shapes}
    frames = len(columns[ORDER[0]])
    if frames != info.frames:
        raise UserError(
            f"{folder}: {frames:,} frames, and meta/info.json says {info.frames:,}; copy or "
            "download the data set again"
        )
    order = np.lexsort([columns[name].reshape(-1) for name in reversed(ORDER)])
    columns = {name: column[order] for name, column in columns.items()}
    starts = np.flatnonzero(np.diff(columns[ORDER[0]].reshape(-1), prepend=np.nan))
    for rows in map(slice, starts, [*starts[1:], len(order)]):
        episode = {name: column[rows] for name, column in columns.items()}
        yield StoredEpisode(
            {name: column for name, column in episode.items() if _is_observation(name)},
            episode[ACTION],
            rewards=episode.get(REWARD),
            terminations=episode.get(DONE),
            success=select_success(str(folder), episode, success, (SUCCESS,)),
            name=f"episode {episode[ORDER[0]].flat[0]:.0f}",
        )


def lerobot_data(name: str, success: str | None, reader: EpisodeReader) -> EpisodicData:
    """A data set's states, actions and rewards; images are ignored.

    **Raises:** `UserError` if pyarrow or the folder is missing, it is of another version, or has
    images alone.
    """
    library("pyarrow.parquet", "lerobot")
    folder = existing(Path(name))
    info = _read_info(folder)
    _require_vectors(folder, info)
    with reading_file(str(folder), "a LeRobot data set"):
        files = tuple(files_below(folder / "data", ".parquet"))
    if not files:
        raise UserError(f"{folder / 'data'}: no parquet files; copy or download them too")
    read = functools.partial(_read, folder, files, info, success)
    return EpisodicData([EpisodeShard(str(folder), (folder / INFO, *files), read)], reader)


def _is_observation(name: str) -> bool:
    return name.partition(".")[0] == "observation"


def _read_info(folder: Path) -> LeRobotInfo:
    path = folder / INFO
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
                if feature["dtype"].startswith(NUMERIC)
                and not is_image(feature["shape"], feature["dtype"])
            }
            return LeRobotInfo(tuple(info["features"]), shapes, int(info["total_frames"]))
    except (TypeError, AttributeError, OverflowError) as error:  # other JSON
        raise UserError(
            f"{path}: not a description of LeRobot's ({error}); copy it again"
        ) from error


def _require_vectors(folder: Path, info: LeRobotInfo) -> None:
    """Refuses a data set without states or actions; notes which observations are ignored."""
    observations = [name for name in info.names if _is_observation(name)]
    ignored = [name for name in observations if name not in info.shapes]
    if ignored == observations:
        raise UserError(
            f"{folder}: observations: found {', '.join(ignored) or 'nothing'} alone, and qamx "
            "learns from vectors; add a state, or features of the images, as observation.state"
        )
    for name in (ACTION, *ORDER):
        if name not in info.shapes:
            raise UserError(f"{folder}: {name}: missing among {', '.join(info.names)}; add it")
    if ignored:
        warn_once(f"note: {folder}: ignores {', '.join(ignored)}: no vectors")


# --- parquet ---


def read_columns(file: Path, shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """Columns of a file, by name.

    **Arguments:** `shapes` are the expected shapes of a row of each column, () or (1,) for a
    number; a row may hold all its entries in one list.

    **Raises:** `UserError` with the column, and with its first row that is null or of another
    shape.
    """
    parquet = library("pyarrow.parquet", "lerobot")
    with reading_file(str(file), "a parquet file"):
        table = parquet.ParquetFile(file).read(columns=[*shapes])
    columns = {}
    for name, shape in shapes.items():
        if name not in table.column_names:
            raise UserError(
                f"{file}: {name}: missing, and meta/info.json lists it; copy or download the data "
                "set again"
            )
        columns[name] = _unpack(f"{file}: {name}", table[name].combine_chunks(), shape)
    return columns


def _unpack(where: str, column: Any, shape: Shape) -> Num[np.ndarray, "rows *entries"]:
    """The numbers of a column, without its lists."""
    compute = library("pyarrow.compute", "lerobot")
    flat, lengths = _plain(column), ()  # lengths of the lists unpacked so far, the outermost first
    expected = shape if _depth(flat.type) == len(shape) else (int(np.prod(shape)),)
    while True:
        entries = int(np.prod(lengths))  # of a row, as far as its lists are unpacked
        if flat.null_count:
            row = int(np.argmax(flat.is_null())) // entries
            raise UserError(f"{where}: row {row:,} holds a null; {_REMEDY}")
        if not _is_list(flat.type):
            break
        found = np.asarray(compute.list_value_length(flat))
        length = expected[len(lengths)] if len(lengths) < len(expected) else 1
        if (odd := np.flatnonzero(found != length)).size:
            _refuse_row(where, int(odd[0]) // entries, f"a list of {found[odd[0]]}", shape)
        flat, lengths = _plain(flat.flatten()), (*lengths, length)
    if entries != np.prod(shape) and len(column):
        _refuse_row(where, 0, f"{entries} in its lists" if lengths else "one", shape)
    numbers = flat.to_numpy(zero_copy_only=False)
    if not is_numeric(numbers.dtype):
        raise UserError(f"{where}: holds {flat.type}; store it as numbers")
    return numbers.reshape(len(column), *lengths)


def _refuse_row(where: str, row: int, found: str, shape: Shape) -> NoReturn:
    numbers = " x ".join(map(str, shape)) or "1"
    raise UserError(
        f"{where}: row {row:,} holds {found}, and by meta/info.json a row has {numbers} numbers; "
        + _REMEDY
    )


def _plain(array: Any) -> Any:
    """An array without extension types and dictionary encoding."""
    while hasattr(array, "storage"):
        array = array.storage
    return array.dictionary_decode() if hasattr(array, "dictionary_decode") else array


def _is_list(kind: Any) -> bool:
    return hasattr(kind, "value_field")  # types of dictionaries have a value_type, too


def _depth(kind: Any) -> int:
    """The number of nested lists in a row."""
    return 1 + _depth(kind.value_type) if _is_list(kind) else 0
