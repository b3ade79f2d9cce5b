"""Checks of arrays and files, shared by readers, downloads and the inspection of data.

The `find_*` functions yield findings, which `refuse` raises; the `require_*` functions raise
`UserError` themselves.
"""

import contextlib
import functools
import logging
import os
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from qamx._utils.finding import Finding, counted
from qamx.errors import UserError

LARGEST_ACTION = 1.0 + 1e-3
"""Actions beyond this are refused; between 1 and this they are rounding errors, and clipped."""

SMALLEST_SHARE = 1e-4
"""Deviation of an entry, relative to its mean, up to which it is nearly constant. It spans about a
thousand float32 numbers, which are 6e-8 of their size apart; dividing by a smaller one would turn a
value that differs by the entry's own size into more than 10,000."""

SMALLEST_DEVIATION = float(np.finfo(np.float32).eps)
"""Rounding error that is left where numbers of about 1 should cancel."""

BROKEN = (OSError, EOFError, KeyError, ValueError, IndexError, zipfile.BadZipFile, zlib.error)
"""Exceptions of libraries for a file that is cut off, damaged, or of another format."""

Entries: TypeAlias = Float[np.ndarray, " entries"]
Marked: TypeAlias = Bool[np.ndarray, " entries"]
"""A number, and a flag, for each entry of observations or actions."""

CROSSING = "action chunks and returns reach from one episode into another"


@functools.cache
def warn_once(text: str) -> None:
    """Logs a message once a process: a shard is loaded many times."""
    logging.getLogger("qamx").warning(text)


# --- predicates ---


def is_numeric(dtype: np.dtype) -> bool:
    return dtype.kind in "fiub"


def first_row(marked: Bool[np.ndarray, " rows"]) -> int | None:
    """The first marked row, or None."""
    return int(np.argmax(marked)) if marked.any() else None


def first_nonfinite(array: np.ndarray) -> int | None:
    """The first row with a NaN or an infinity, or None."""
    # A sum is finite only if all terms are; it costs one pass and no copy. (A sum may overflow
    # where no term is infinite: then the rows decide.)
    with np.errstate(over="ignore", invalid="ignore"):
        if array.dtype.kind != "f" or np.isfinite(np.sum(array)):
            return None
    return first_row(np.any(~np.isfinite(array.reshape(len(array), -1)), axis=1))


def nearly_constant(mean: Entries, deviation: Entries) -> Marked:
    """Marks entries that deviate too little from their mean to be divided by their deviation."""
    return deviation <= np.maximum(SMALLEST_SHARE * np.abs(mean), SMALLEST_DEVIATION)


def constant(low: Entries, high: Entries) -> Marked:
    """Marks entries that never change, up to rounding; they are nearly constant too."""
    return high - low <= np.maximum(1e-6 * np.abs(low), SMALLEST_DEVIATION)


# --- findings ---


def refuse(where: Path | str, findings: Iterable[Finding]) -> None:
    """Raises `UserError` for the first finding, with its remedy."""
    for finding in findings:
        raise UserError(f"{where}: {finding.found}; {finding.remedy}")


def find_nonfinite(
    name: str, array: np.ndarray, file_rows: Int[np.ndarray, " rows"] | None = None
) -> Iterator[Finding]:
    """Finds NaN and infinities.

    **Arguments:** `file_rows` are the numbers of the rows in their file, by default their own.
    """
    first = first_nonfinite(array)
    if first is None:
        return
    broken = ~np.isfinite(array.reshape(len(array), -1))
    value = array.reshape(len(array), -1)[first][broken[first]][0]
    row = first if file_rows is None else file_rows[first]
    rows = counted(int(np.sum(broken.any(axis=1))), "row")
    found = f"{name}: found {value} in row {row:,} ({rows} in all)"
    effect = "the first batch that holds one makes the loss NaN, and every weight after it"
    remedy = "remove the episode, or make or download the data again"
    yield Finding(f"{name.replace('_', '-')}-not-finite", "refuse", found, effect, remedy)


def find_out_of_range(
    actions: Float[np.ndarray, "rows act"], file_rows: Int[np.ndarray, " rows"] | None = None
) -> Iterator[Finding]:
    """Finds actions outside [-1, 1]; `file_rows` as for `find_nonfinite`."""
    # The extremes first: two passes without a copy.
    if len(actions) == 0 or max(actions.max(), -actions.min()) <= LARGEST_ACTION:
        return
    reach = np.abs(actions).max(axis=1)
    first = int(np.argmax(reach))
    largest = actions[first, np.argmax(np.abs(actions[first]))]
    row = first if file_rows is None else file_rows[first]
    yield Finding(
        "actions-outside",
        "refuse",
        f"actions: {np.sum(reach > LARGEST_ACTION):,} of {len(actions):,} rows lie outside "
        f"[-1, 1], the farthest is {largest:.4g} in row {row:,}",
        "policies act in [-1, 1], and can neither imitate nor evaluate such actions",
        'scale the actions to [-1, 1], or have their range scaled: data.scale_actions = "data"',
    )


def find_bad_ends(name: str, ends: Num[np.ndarray, " rows"]) -> Iterator[Finding]:
    """Finds ends of episodes that are not marked, by 1 on each last row and 0 elsewhere."""
    odd = first_row((ends != 0) & (ends != 1))
    if odd is not None:
        found = f"{name}: found {ends[odd]:g} in row {odd:,}"
        effect = "the ends of episodes are not known"
        remedy = "write 1 on the last row of each episode, else 0"
        yield Finding("ends-not-flags", "refuse", found, effect, remedy)
    elif not ends.any():
        found = f"{name}: no row of {len(ends):,} ends an episode"
        remedy = "write 1 on the last row of each episode"
        yield Finding("no-ends", "refuse", found, CROSSING, remedy)
    elif not ends[-1]:
        yield Finding(
            "cut-off",
            "warn",
            f"{name}: the last episode, from row {np.flatnonzero(ends)[-1] + 1:,} on, has no end",
            "the data may have been cut off; the last row is taken for the end",
            "make or download the data again, or write 1 on its last row",
        )


# --- arrays of a file ---


def require_column(name: str, array: Any) -> Num[np.ndarray, " rows"]:
    """An array with one number a row, as a vector; `name` names it in messages."""
    array = np.asarray(array)
    if not is_numeric(array.dtype) or array.ndim == 0 or array.size != len(array):
        raise UserError(
            f"{name}: found {array.dtype} of shape {array.shape}; write one number a row"
        )
    return array.reshape(-1)


def require_flags(name: str, array: Any) -> Bool[np.ndarray, " rows"]:
    """A column of flags, which hold where they are above 0."""
    column = require_column(name, array)
    if (row := first_nonfinite(column)) is not None:
        raise UserError(
            f"{name}: not finite in row {row:,}; write 1 for yes or 0 for no in each row"
        )
    return column > 0


def require_rows(name: str, array: Any, allowed: Collection[int], reference: str) -> None:
    """Refuses an array of another length; `reference` states the expected one in the message."""
    if len(array) not in allowed:
        raise UserError(
            f"{name}: {len(array):,} rows, and {reference}; every array has one row a step"
        )


def require_equal_lengths(names: Iterable[str], lengths: Iterable[int]) -> None:
    """Refuses shards that differ in length, since they replace each other in the buffer."""
    (first, expected), *others = zip(names, lengths, strict=True)
    for name, length in others:
        if length != expected:
            raise UserError(
                f"{name}: {length:,} transitions, and {Path(first).name} has {expected:,}; "
                "shards of one data set must be equally long"
            )


def refuse_dangling(path: Path) -> None:
    """Refuses a path that leads through a dangling symbolic link."""
    for part in (path, *path.parents):
        if os.path.islink(part) and not os.path.exists(part):
            raise UserError(
                f"{part}: a symbolic link to {os.readlink(part)}, where there is nothing to be "
                "read; mount or restore that, or remove the link"
            )


@contextlib.contextmanager
def reading_file(where: str, expected: str, remedy: str = "") -> Iterator[None]:
    """Turns a library's exceptions into `UserError`.

    **Arguments:** `expected` is the kind of file; `remedy` comes before making it again.
    """
    try:
        yield
    except BROKEN as error:
        raise UserError(
            f"{where}: not {expected} that can be read ({type(error).__name__}: {error}); {remedy}"
            "make or download it again"
        ) from error


# --- npz files ---


class NpyHeader(NamedTuple):
    """Shape and type of an array, read without its content."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_headers(path: Path) -> dict[str, NpyHeader]:
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


def _read_header(archive: zipfile.ZipFile, name: str) -> NpyHeader:
    npy = np.lib.format
    with archive.open(name) as member:
        first = npy.read_magic(member) == (1, 0)
        read = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
        shape, _, dtype = read(member)
    return NpyHeader(shape, dtype)


REQUIRED = ("observations", "actions", "terminals")


def check_headers(
    path: Path, headers: Mapping[str, NpyHeader], sizes: tuple[int, int] | None = None
) -> None:
    """Refuses a file of OGBench's whose arrays are missing, unequally long or no numbers.

    **Arguments:** `sizes` are those of the environment's observations and actions, if known.
    """
    for name in REQUIRED:
        if name not in headers:
            raise UserError(
                f"{path}: {name}: missing; the file has {', '.join(headers) or 'no arrays'}. Give "
                "it OGBench's arrays: observations, actions, terminals, qpos"
            )
        if not is_numeric(headers[name].dtype):
            raise UserError(f"{path}: {name}: found {headers[name].dtype}; store it as numbers")
    rows = headers["terminals"].shape
    for name in REQUIRED:
        if headers[name].shape[:1] != rows:
            raise UserError(
                f"{path}: {name}: shape {headers[name].shape}, and terminals has {rows}; every "
                "array has one row a step"
            )
    for name, size in zip(REQUIRED, sizes or (), strict=False):
        if headers[name].shape[1:] != (size,):
            raise UserError(
                f"{path}: {name}: shape {headers[name].shape}, and the environment's {name} have "
                f"{size} entries; name data of this environment in data.source"
            )


def check_values(
    path: Path, arrays: Mapping[str, Any], terminals: Num[np.ndarray, " rows"]
) -> None:
    """Refuses values of a file of OGBench's that are not finite, and actions outside [-1, 1].

    **Arguments:** `arrays` as OGBench's loader returns them: of an episode's last row, only the
    observation is kept, as the next observation of the row before.
    """
    rows = np.flatnonzero(terminals == 0)
    for name, array in arrays.items():
        if name != "next_observations":
            refuse(path, find_nonfinite(name, array, rows))
    last = np.flatnonzero(arrays["terminals"])
    refuse(path, find_nonfinite("observations", arrays["next_observations"][last], rows[last] + 1))
    refuse(path, find_out_of_range(arrays["actions"], rows))
