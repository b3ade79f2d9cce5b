"""What the runner needs of a data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from qamx.errors import UserError

if TYPE_CHECKING:
    from qamx.data.inspection import Finding
    from qamx.data.sequences import Transitions


class DataSource(Protocol):
    """A data set in one or more shards, of which one is in memory at a time.

    A source that reads files may list them in an attribute `files`: they are then hashed for the
    run's passport, and a continued run refuses others. Where states jump in the environment
    itself, an attribute `jumps` says so. `qamx data inspect` also asks for two methods:
    `load_validation() -> Transitions | None`, and `tasks(shard)`, which gives the number, rewards
    and masks of every task that the shard's rows may be labelled for.
    """

    @property
    def shards(self) -> int:
        """How many shards there are."""
        ...

    @property
    def updates_per_shard(self) -> int | None:
        """Updates after which the next shard takes the place of the present one."""
        ...

    def load(self, shard: int) -> "Transitions":
        """The transitions of a shard, as host arrays (float32), actions inside (-1, 1)."""
        ...


class AbstractDataAround:
    """Another source's shards, changed or looked at as they are loaded."""

    def __init__(self, source: DataSource):
        self._source = source

    @property
    def shards(self) -> int:
        return self._source.shards

    @property
    def updates_per_shard(self) -> int | None:
        return self._source.updates_per_shard

    @property
    def files(self) -> tuple[Path, ...]:
        return files_of(self._source)


def files_of(source: DataSource) -> tuple[Path, ...]:
    """The data files that a source reads: its attribute `files`, if it has one."""
    return tuple(Path(file) for file in getattr(source, "files", ()))


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


def jumps_of(source: DataSource) -> bool:
    """Whether states jump in mid-episode, as through a portal."""
    return bool(getattr(source, "jumps", False))


def findings_of(source: DataSource) -> "tuple[Finding, ...]":
    """Findings about the first shard that it no longer shows, since its units were changed."""
    return getattr(source, "findings", ())


def validation_of(source: DataSource) -> "Transitions | None":
    """The validation data that belong to a source, if it has any."""
    load = getattr(source, "load_validation", None)
    return None if load is None else load()
