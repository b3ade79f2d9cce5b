"""Columns of parquet files as arrays: numbers, or (nested) lists of them that are equally long."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from qamx.data.formats.access import library, reading_file
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
