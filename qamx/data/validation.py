"""Validation of arrays: finite values, ranges, marks, archives."""

import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num

from qamx.errors import UserError

LARGEST_ACTION = 1.0 + 1e-3
"""Actions beyond this are refused; between it and 1 they are rounding, and clipped."""


@dataclass(frozen=True)
class Outside:
    """Actions beyond their range: how many rows of how many, and where the largest is."""

    count: int
    rows: int
    row: int
    largest: float

    def text(self, row: int) -> str:
        """The message, with the row as the reader counts it."""
        return (
            f"actions: {self.count:,} of {self.rows:,} rows lie outside [-1, 1], the farthest by "
            f"an entry of {self.largest:.4g} in row {row:,}; scale the actions to [-1, 1], or have "
            'their range scaled: data.scale_actions = "data"'
        )


def outside(actions: Float[np.ndarray, "size act"], limit: float) -> Outside | None:
    """The actions with an entry beyond ±`limit`, if there are any."""
    # No row is looked at where the extremes are inside: two passes without a copy.
    if len(actions) == 0 or max(actions.max(), -actions.min()) <= limit:
        return None
    reach = np.abs(actions).max(axis=1)
    row = int(np.argmax(reach))
    largest = actions[row, np.argmax(np.abs(actions[row]))]
    return Outside(int(np.sum(reach > limit)), len(actions), row, float(largest))


def not_finite(array: np.ndarray) -> int | None:
    """The first row with a NaN or an infinity, or None."""
    # A sum is finite only if all terms are; it costs one pass and no copy. (A sum may overflow
    # where no term is infinite: then the rows decide.)
    with np.errstate(over="ignore", invalid="ignore"):
        if array.dtype.kind != "f" or np.isfinite(np.sum(array)):
            return None
    return first_row(np.any(~np.isfinite(array.reshape(len(array), -1)), axis=1))


def require_marks(where: str, name: str, column: np.ndarray) -> None:
    """Every row of a column says yes (above 0) or no.

    **Raises:** `UserError` with the first row that holds a NaN or an infinity.
    """
    if (row := not_finite(column)) is not None:
        raise UserError(
            f"{where}: {name}: not finite in row {row:,}; write 1 for yes or 0 for no in each row"
        )


SMALLEST_SHARE = 1e-4
"""Of its size, how much an entry must deviate to be told from a constant. In float32, numbers of
that size are 6e-8 of it apart, so that a deviation has a thousand of them; below, normalising would
turn a value that differs by the entry's own size into more than 10,000."""

SMALLEST_DEVIATION = float(np.finfo(np.float32).eps)
"""What rounding leaves of numbers about as large as 1 that should cancel: no entry varies less."""


def nearly_constant(
    mean: Float[np.ndarray, " entries"], deviation: Float[np.ndarray, " entries"]
) -> Bool[np.ndarray, " entries"]:
    """Which entries deviate too little from their mean for a unit of their own."""
    return deviation <= np.maximum(SMALLEST_SHARE * np.abs(mean), SMALLEST_DEVIATION)


def constant(
    low: Float[np.ndarray, " entries"], high: Float[np.ndarray, " entries"]
) -> Bool[np.ndarray, " entries"]:
    """Which entries never change, up to rounding; they are nearly constant too."""
    return high - low <= np.maximum(1e-6 * np.abs(low), SMALLEST_DEVIATION)


def first_row(marked: Bool[np.ndarray, " rows"]) -> int | None:
    """The first marked row, or None."""
    return int(np.argmax(marked)) if marked.any() else None


def refuse_dangling(path: Path) -> None:
    """Nothing on the way to a path is a symbolic link that leads nowhere.

    **Raises:** `UserError` with the link and where it leads.
    """
    for place in (path, *path.parents):
        if os.path.islink(place) and not os.path.exists(place):
            raise UserError(
                f"{place}: a symbolic link to {os.readlink(place)}, where there is nothing to be "
                "read; mount or restore that, or remove the link"
            )


REQUIRED = ("observations", "actions", "terminals")


BROKEN = (OSError, EOFError, KeyError, ValueError, IndexError, zipfile.BadZipFile, zlib.error)
"""What libraries raise for a file that is cut off, damaged, or of another format."""


class Header(NamedTuple):
    """An array's shape and type, as its header in the archive says."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_headers(path: Path) -> dict[str, Header]:
    """The header of every array of an npz file.

    **Raises:** `UserError` for an array of Python objects: to read one is to run code;
    `OSError`, `ValueError` or `BadZipFile` if the file is no npz file.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        headers = {name.removesuffix(".npy"): _read_header(archive, name) for name in names}
    for name, header in headers.items():
        if header.dtype.hasobject:
            raise UserError(
                f"{path}: {name}: holds Python objects (pickled), and reading those can run code; "
                "store it as an array of numbers"
            )
    return headers


def _read_header(archive: zipfile.ZipFile, name: str) -> Header:
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(member)
    return Header(shape, dtype)


def check_arrays(path: Path, headers: Mapping[str, Header]) -> None:
    """The arrays of a data set are there, hold numbers, and are equally long.

    **Raises:** `UserError` naming the file and the array.
    """
    for name in REQUIRED:
        if name not in headers:
            raise UserError(
                f"{path}: {name}: missing; the file has {', '.join(headers) or 'no arrays'}. Give "
                "it OGBench's arrays: observations, actions, terminals, qpos"
            )
        if headers[name].dtype.kind not in "fiub":
            raise UserError(f"{path}: {name}: found {headers[name].dtype}; store it as numbers")
    rows = headers["terminals"].shape
    for name in REQUIRED:
        if headers[name].shape[:1] != rows:
            raise UserError(
                f"{path}: {name}: shape {headers[name].shape}, and terminals has {rows}; every "
                "array has one row a step"
            )


def check_headers(path: Path, headers: Mapping[str, Header], sizes: tuple[int, int]) -> None:
    """The arrays are there, equally long, and as wide as the environment's vectors.

    **Arguments:** `sizes` are those of the environment's observations and actions.

    **Raises:** `UserError` naming the file and the array.
    """
    check_arrays(path, headers)
    for name, size in zip(REQUIRED, sizes, strict=False):
        if headers[name].shape[1:] != (size,):
            raise UserError(
                f"{path}: {name}: shape {headers[name].shape}, and the environment's {name} have "
                f"{size} entries; name data of this environment in data.source"
            )


def check_terminals(path: Path | str, terminals: Num[np.ndarray, " rows"]) -> None:
    """The ends of episodes are marked: 1 on each last row, 0 elsewhere.

    Without a mark, windows would reach from one episode into the next, and the last
    observation would be followed by none.

    **Raises:** `UserError` with the row.
    """
    odd = first_row((terminals != 0) & (terminals != 1))
    if odd is not None:
        raise UserError(
            f"{path}: terminals: found {terminals[odd]} in row {odd:,}; write 1 on the last row of "
            "each episode, else 0"
        )
    if len(terminals) == 0 or not terminals.any():
        raise UserError(
            f"{path}: terminals: no row of {len(terminals):,} ends an episode, so that action "
            "chunks would reach from one episode into the next; write 1 on each episode's last row"
        )
    if not terminals[-1]:
        last = int(np.flatnonzero(terminals)[-1])
        raise UserError(
            f"{path}: terminals: the last episode, from row {last + 1:,} on, has no end; the file "
            "is cut off, or its last row lacks a 1"
        )


def check_values(
    path: Path, arrays: Mapping[str, Any], terminals: Num[np.ndarray, " rows"]
) -> None:
    """Numbers are finite, and actions inside [-1, 1].

    **Arguments:** `arrays` as OGBench's loader gives them: of an episode's last row, only the
    observation is kept, as the one that follows.

    **Raises:** `UserError` with the array and the row of the file.
    """
    kept = np.flatnonzero(terminals == 0)
    for name, array in arrays.items():
        if name == "next_observations":
            continue
        row = not_finite(array)
        if row is not None:
            raise UserError(_not_finite_text(path, name, array[row], int(kept[row])))
    last = np.flatnonzero(arrays["terminals"])
    after = arrays["next_observations"][last]
    row = not_finite(after)
    if row is not None:
        text = _not_finite_text(path, "observations", after[row], int(kept[last[row]]) + 1)
        raise UserError(text)
    wild = outside(arrays["actions"], LARGEST_ACTION)
    if wild is not None:
        raise UserError(f"{path}: {wild.text(int(kept[wild.row]))}")


def _not_finite_text(path: Path, name: str, values: np.ndarray, row: int) -> str:
    value = np.ravel(values)[~np.isfinite(np.ravel(values))][0]
    return (
        f"{path}: {name}: found {value} in row {row:,}; remove the episode, or download or make "
        "the file again"
    )
