"""Sets made here: how to make one instead of fetching it, and never taking one for OGBench's."""

import zipfile
import zlib
from pathlib import Path

from qamx.data.generate.archive import read_stamp
from qamx.data.generate.catalogue import dataset_names, lookup
from qamx.data.generate.expert import find_expert, training_command
from qamx.data.generate.places import default_directory
from qamx.data.generate.standard import compare, read_first_episode
from qamx.errors import UserError
from qamx.ogbench_names import SHARDED, VERSION


def alternative(name: str, directory: Path) -> str:
    """How to come by a set without the server."""
    base = name.removesuffix(VERSION).removesuffix(SHARDED)
    if base not in dataset_names():
        return f"It cannot be generated here: get its files elsewhere and put them into {directory}"
    if SHARDED not in name:
        return f"Or generate it here:\n{_commands(base, directory)}"
    return (
        "Or generate shards here (100 of them are OGBench's size; fewer serve as well):\n"
        f"{_commands(base, directory)} --shards 100"
    )


def _commands(base: str, directory: Path) -> str:
    """What makes a data set: training its walker's expert, where that is missing, comes first."""
    place = "" if directory == default_directory() else f" --directory {directory}"
    commands = [f"  qamx data generate {base}{place}"]
    walker = lookup(base).walker
    if walker is not None and find_expert(walker, directory) is None:
        commands.insert(0, f"  {training_command(walker, directory)}")
    return "\n".join(commands)


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
