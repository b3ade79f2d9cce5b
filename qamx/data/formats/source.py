"""The data source over files of any format: opening, selecting, reading."""

import functools
import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from qamx.data.formats.episodes import EpisodeReader, StoredEpisode
from qamx.data.transitions import Transitions
from qamx.data.validation import reading_file, refuse_dangling
from qamx.envs.gymnasium import SUCCESS_KEYS
from qamx.errors import UserError, install_extra, suggestion


def library(module: str, extra: str) -> Any:
    """The module that reads a format.

    **Raises:** `UserError` naming the extra that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{extra}: data sources take {error.name or module}, which is not installed; "
            f"{install_extra(extra)}"
        ) from error


def existing(path: Path) -> Path:
    """The path, `~` expanded.

    **Raises:** `UserError` if there is nothing, or a dangling symbolic link.
    """
    path = path.expanduser()
    refuse_dangling(path)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        names = sorted(p.name for p in path.parent.glob("*")) if path.parent.is_dir() else []
        near = f"; {suggestion(path.name, names)}" if names else ""
        raise UserError(f"data.source: {path} does not exist (in {Path.cwd()}){near}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise UserError(f"data.source: {path}: cannot be read ({reason})") from error
    return path


def files_below(folder: Path, suffix: str = "") -> list[Path]:
    """The files in a folder and its subfolders, through symbolic links, sorted.

    **Arguments:** `suffix` selects files, such as `.parquet`.

    **Raises:** `UserError` for a dangling link that may have led to such files.
    """
    refuse_dangling(folder)
    return sorted(_files(folder, suffix, frozenset(map(str, folder.resolve().parents))))


def _files(folder: Path, suffix: str, parents: frozenset[str]) -> Iterator[Path]:
    """`parents` are the folders that a link may not lead back to."""
    real = os.path.realpath(folder)
    if real in parents or not os.path.isdir(folder):
        return
    for path in folder.iterdir():
        if os.path.isdir(path):
            yield from _files(path, suffix, parents | {real})
        elif path.suffix in (suffix or path.suffix, "") and not path.name.startswith("."):
            refuse_dangling(path)
            if path.suffix == suffix or not suffix:
                yield path


def select_success(
    where: str, entries: Mapping[str, Any], name: str | None, defaults: Sequence[str] = SUCCESS_KEYS
) -> Any | None:
    """The entry that marks solved steps, or None.

    **Arguments:** `name` is the value of `data.success`; without one, the first of `defaults`
    that exists is selected.

    **Raises:** `UserError` for a name that does not exist.
    """
    if name == "last":
        return None
    if name is None:
        return next((entries[key] for key in defaults if key in entries), None)
    if name not in entries:
        known = suggestion(name, entries) if entries else "there are no entries besides"
        raise UserError(f'{where}: data.success: found "{name}", which is not there; {known}')
    return entries[name]


@dataclass(frozen=True)
class EpisodeShard:
    """Episodes that are read together: a file, a folder or a selection of its episodes.

    **Arguments:** `name` names it in messages; `episodes` reads it, in the order in which episodes
    are stored.
    """

    name: str
    files: tuple[Path, ...]
    episodes: Callable[[], Iterator[StoredEpisode]]

    @classmethod
    def of_file(
        cls, path: Path, read: Callable[..., Iterator[StoredEpisode]], *arguments: Any
    ) -> Self:
        """The shard of one file, read by `read(path, *arguments)`."""
        return cls(str(path), (path,), functools.partial(read, path, *arguments))


@dataclass(frozen=True)
class EpisodicData:
    """The transitions of a data set in any format, one shard at a time.

    **Arguments:**

    - `parts`: the shards, in the order in which they are used.
    - `reader`: turns their episodes into transitions.
    - `updates_per_shard`: given for more than one shard.
    - `validation`: the episodes kept for validation, where the format has some.
    """

    parts: Sequence[EpisodeShard]
    reader: EpisodeReader
    updates_per_shard: int | None = None
    validation: EpisodeShard | None = None

    @property
    def shards(self) -> int:
        return len(self.parts)

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for part in self.parts for file in part.files)

    def load(self, shard: int) -> Transitions:
        """Reads a shard.

        **Raises:** `UserError` naming the file, and the array or episode at fault.
        """
        return self._read(self.parts[shard])

    def load_validation(self) -> Transitions | None:
        """The transitions kept for validation, if any; raises as `load`."""
        return None if self.validation is None else self._read(self.validation)

    def _read(self, part: EpisodeShard) -> Transitions:
        with reading_file(part.name, "data"):
            return self.reader.transitions(part.name, part.episodes())
