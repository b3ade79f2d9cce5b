"""Where files are until they have arrived: `.downloads` in the data directory."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qamx.data.download.part import Part
from qamx.data.download.probe import readable
from qamx.errors import UserError

_WANTED = "wanted.json"


class Unfinished(NamedTuple):
    """A download that has not come to its end: of how many shards, if not of all."""

    shards: int | None


@dataclass(frozen=True)
class Workplace:
    """The folder of parts and locks that belongs to a data directory.

    Files are named by their path below the data directory, as the server names them.
    """

    directory: Path

    @property
    def root(self) -> Path:
        """The folder itself."""
        return self.directory / ".downloads"

    def folder(self, file: str) -> Path:
        """Where a file is while it arrives: a folder for each set."""
        path = Path(file)
        of_a_set = path.parent != Path(".")
        return self.root / (path.parent if of_a_set else path.stem.removesuffix("-val"))

    def part(self, file: str) -> Part:
        """What has arrived of a file."""
        return Part(self.folder(file) / f"{Path(file).name}.part")

    def prepare(self, folder: Path) -> None:
        """Makes a folder.

        **Raises:** `UserError` where it can't be made or written into.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: can't be made ({error.strerror})") from error
        if not os.access(folder, os.W_OK):
            raise UserError(f"{folder}: can't be written into; name another place with --directory")

    def note(self, name: str, shards: int | None) -> None:
        """Remembers how much of a set is wanted, until all of it is there."""
        (self.root / name / _WANTED).write_text(json.dumps({"shards": shards}), encoding="utf-8")

    def noted(self, name: str) -> Unfinished | None:
        """How much of a set is wanted and not there yet."""
        try:
            note = (self.root / name / _WANTED).read_text(encoding="utf-8")
            return Unfinished(**json.loads(note))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError):  # the process was killed over it
            return Unfinished(None)

    def strike(self, name: str) -> None:
        """All that is wanted of a set is there."""
        (self.root / name / _WANTED).unlink(missing_ok=True)

    def kept(self) -> str:
        """How much is there that is not whole yet, for people to read."""
        size = sum(part.stat().st_size for part in self.root.rglob("*.part"))
        if not size:
            return "The same command tries again."
        return f"{readable(size)} of unfinished files are kept: the same command continues."

    @contextlib.contextmanager
    def alone(self, names: Sequence[str], say: Callable[[str], None]) -> Iterator[None]:
        """Holds sets by name, so that no two processes write into the same part.

        A process that comes later waits.
        """
        import filelock

        self.prepare(self.root)
        with contextlib.ExitStack() as held:
            # In one order for all, or two processes could wait for each other.
            for name in sorted(names):
                lock = filelock.FileLock(self.root / f"{name}.lock")
                try:
                    lock.acquire(timeout=0)
                except filelock.Timeout:
                    say(f"{name}: another process downloads it; waiting for its end")
                    lock.acquire(poll_interval=0.1)
                held.callback(lock.release)
                held.callback(_tidy, self.root / name)
                self.prepare(self.root / name)
            yield


def _tidy(folder: Path) -> None:
    """Removes what an earlier process was killed over, and the folder if nothing is left."""
    for left in folder.glob("tmp*"):  # pooch's, for a file that is being moved
        left.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
