"""Sets made here: how to make one instead of fetching it, and never taking one for OGBench's."""

import zipfile
import zlib
from pathlib import Path

from qamx.data.generate import dataset_names, default_directory
from qamx.data.generate.archive import read_stamp
from qamx.data.generate.standard import compare, read_first_episode
from qamx.errors import UserError
from qamx.ogbench_names import SHARDED, VERSION


def alternative(name: str, directory: Path) -> str:
    """How to come by a set without the server."""
    base = name.removesuffix(VERSION).removesuffix(SHARDED)
    if base not in dataset_names():
        return (
            "It takes an expert locomotion policy to make: get its files elsewhere and put them "
            f"into {directory}"
        )
    if SHARDED not in name:
        return f"Or generate it here:\n  {_command(base, directory)}"
    return (
        "Or generate shards here (100 of them are OGBench's size; fewer serve as well):\n"
        f"  {_command(base, directory)} --shards 100"
    )


def _command(base: str, directory: Path) -> str:
    place = "" if directory == default_directory() else f" --directory {directory}"
    return f"qamx data generate {base}{place}"


def is_generated(path: Path) -> bool:
    """Whether a file was made by `qamx data generate`."""
    return read_stamp(path) is not None


def refuse_generated(path: Path) -> None:
    """A file that was generated here is not OGBench's, and is not replaced by it.

    **Raises:** `UserError`.
    """
    stamp = read_stamp(path)
    if stamp is None:
        return
    made = ", ".join(f"{key} {value}" for key, value in stamp.items() if key != "name")
    raise UserError(
        f"{path}: generated here ({made}{_likeness(path, str(stamp['name']))}), not OGBench's, and "
        "never replaced by a download; name another place with --directory, or move the file away"
    )


def _likeness(path: Path, name: str) -> str:
    """How the file's first episode compares with the one on record, where there is one."""
    try:
        episode = read_first_episode(path)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        return f"; damaged: {error}"
    likeness = None if episode is None else compare(name, episode)
    return "" if likeness is None else f"; its first episode is {likeness.value}"
