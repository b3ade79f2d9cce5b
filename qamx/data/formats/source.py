"""Data of any format as a source of transitions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from qamx.data.episodes import Episode, Reading
from qamx.data.formats.access import reading_file
from qamx.data.sequences import Transitions


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
