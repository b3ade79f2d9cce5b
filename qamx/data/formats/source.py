"""Data of any format as a source of transitions."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from qamx.data.episodes import Episode, Reading
from qamx.data.formats.access import reading_file
from qamx.data.sequences import Transitions
from qamx.errors import UserError


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


def require_equal_lengths(names: Sequence[str], lengths: Sequence[int]) -> None:
    """Shards take each other's place in the buffer: they must be equally long.

    **Raises:** `UserError` naming the first that is not.
    """
    for name, length in zip(names, lengths, strict=True):
        if length != lengths[0]:
            raise UserError(
                f"{name}: {length:,} transitions, and {Path(names[0]).name} has {lengths[0]:,}; "
                "shards of one data set must be equally long"
            )


def _transitions(reading: Reading, part: Part) -> Transitions:
    with reading_file(part.name, "data"):
        return reading.transitions(part.name, part.episodes())
