"""The npz files: written whole or not at all, and stamped with what determines their content."""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qamx.errors import UserError

Stamp = Mapping[str, str | int]


def write_archive(path: Path, arrays: Mapping[str, np.ndarray], stamp: Stamp) -> None:
    """Writes arrays as `numpy.savez_compressed` does, with the stamp as the archive's comment.

    The file appears under its name only when it is complete; the same arrays and stamp give the
    same bytes, because a member's date is zip's fixed earliest one.

    **Raises:** `UserError` where the file can't be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.comment = json.dumps(dict(stamp), sort_keys=True).encode()
            for name, array in arrays.items():
                # The size isn't known beforehand and may pass two gigabytes, hence zip64.
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def read_stamp(path: Path) -> dict[str, str | int] | None:
    """The stamp of an archive, or `None` for a file that `write_archive` didn't write."""
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.comment)
    except (zipfile.BadZipFile, ValueError):
        return None
