"""The data source over files of any format: opening, selecting, reading."""

import contextlib
import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from qamx.data.formats.episodes import Episode, Reading
from qamx.data.transitions import Transitions
from qamx.data.validation import BROKEN, refuse_dangling
from qamx.envs.gymnasium import SUCCESS_KEYS
from qamx.errors import UserError, suggestion


def library(module: str, extra: str) -> Any:
    """The module that reads a format.

    **Raises:** `UserError` naming the extra that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{extra}: data sources take {error.name or module}, which is not installed; "
            f'pip install "qamx[{extra}]"'
        ) from error


def existing(path: Path) -> Path:
    """The path, if there is something.

    **Raises:** `UserError` with what lies beside the place instead, or with the symbolic link that
    leads nowhere.
    """
    path = path.expanduser()
    refuse_dangling(path)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        beside = sorted(p.name for p in path.parent.glob("*")) if path.parent.is_dir() else []
        near = f"; {suggestion(path.name, beside)}" if beside else ""
        raise UserError(f"data.source: {path} does not exist (in {Path.cwd()}){near}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise UserError(f"data.source: {path}: cannot be read ({reason})") from error
    return path


def files_below(folder: Path, suffix: str = "") -> list[Path]:
    """The files of a kind in a folder and those inside it, through symbolic links, sorted.

    **Arguments:** without a `suffix`, such as `.parquet`, all files.

    **Raises:** `UserError` for a link that leads nowhere, and may have led to such files.
    """
    refuse_dangling(folder)
    return sorted(_files(folder, suffix, frozenset(map(str, folder.resolve().parents))))


def _files(folder: Path, suffix: str, above: frozenset[str]) -> Iterator[Path]:
    """`above` are the folders that a link may not lead back to."""
    real = os.path.realpath(folder)
    if real in above or not os.path.isdir(folder):
        return
    for path in folder.iterdir():
        if os.path.isdir(path):
            yield from _files(path, suffix, above | {real})
        elif path.suffix in (suffix or path.suffix, "") and not path.name.startswith("."):
            refuse_dangling(path)
            if path.suffix == suffix or not suffix:
                yield path


@contextlib.contextmanager
def reading_file(where: str, what: str) -> Iterator[None]:
    """Turns a library's complaint about a file into one message; `what` it should have been."""
    try:
        yield
    except BROKEN as error:
        raise UserError(
            f"{where}: not {what} that can be read ({type(error).__name__}: {error}); make or "
            "download it again"
        ) from error


def success_among(
    where: str,
    entries: Mapping[str, Any],
    name: str | None,
    usual: Sequence[str] = SUCCESS_KEYS,
) -> Any | None:
    """The entry that says whether the task is solved, or None.

    **Arguments:** `name` is that of `data.success`; without one, the first of `usual` that
    there is.

    **Raises:** `UserError` for a name that there is not.
    """
    if name == "last":
        return None
    if name is None:
        return next((entries[key] for key in usual if key in entries), None)
    if name not in entries:
        known = suggestion(name, entries) if entries else "there are no entries besides"
        raise UserError(f'{where}: data.success: found "{name}", which is not there; {known}')
    return entries[name]


class Part(Protocol):
    """What is read in one go: a file, a folder or a selection of its episodes."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are read."""
        ...

    def episodes(self) -> Iterator[Episode]:
        """Its episodes, in the order in which they are stored."""
        ...


@dataclass(frozen=True)
class AbstractFilePart:
    """A part that is one file, or a selection from it.

    **Arguments:** `success` is the value of `data.success`.
    """

    path: Path
    success: str | None

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)


class EpisodicData:
    """The transitions of a data set in whatever format, one part after the other.

    **Arguments:**

    - `parts`: the shards, in the order in which they are used.
    - `reading`: how their episodes become transitions.
    - `updates_per_shard`: given for more than one part.
    - `validation`: what is kept apart from training, where the format has such a thing.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        reading: Reading,
        updates_per_shard: int | None = None,
        validation: Part | None = None,
    ):
        self._parts, self._reading, self._validation = parts, reading, validation
        self.updates_per_shard = updates_per_shard

    @property
    def shards(self) -> int:
        return len(self._parts)

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for part in self._parts for file in part.files)

    def load(self, shard: int) -> Transitions:
        """Reads a part.

        **Raises:** `UserError` naming the file, and the array or episode at fault.
        """
        return _transitions(self._reading, self._parts[shard])

    def load_validation(self) -> Transitions | None:
        """The transitions that are kept apart from training, None where there are none.

        **Raises:** `UserError` as `load`.
        """
        return None if self._validation is None else _transitions(self._reading, self._validation)


def _transitions(reading: Reading, part: Part) -> Transitions:
    with reading_file(part.name, "data"):
        return reading.transitions(part.name, part.episodes())
