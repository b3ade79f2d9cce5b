"""What must be true of a file before it takes the name of a data set."""

import zipfile
from pathlib import Path

from qamx.data.archive_checks import BROKEN, check_arrays, read_headers
from qamx.errors import UserError


class Damaged(ValueError):
    """What arrived is no data set. (A `ValueError`, so that pooch fetches the file once more.)"""


def check_arrival(path: Path, origin: str) -> None:
    """The file is an npz with OGBench's arrays, and all bytes are those that were packed.

    OGBench publishes no hashes; the checksums inside the archive stand in for them the first time.

    **Arguments:** `origin` is what messages call the file.

    **Raises:** `Damaged`.
    """
    try:
        check_arrays(path, read_headers(path))
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (*BROKEN, UserError) as error:
        raise Damaged(f"{origin}: no data set ({_seen(path) or error})") from error
    if damaged is not None:
        raise Damaged(f"{origin}: damaged ({damaged} does not fit its checksum)")


def _seen(path: Path) -> str:
    """The beginning of a text, such as a server's page about an error; else nothing."""
    with path.open("rb") as file:
        beginning = file.read(200)
    try:
        text = " ".join(beginning.decode("ascii").split())
    except UnicodeDecodeError:
        return ""
    return f"it begins {text[:60]!r}" if text.isprintable() and text else ""
