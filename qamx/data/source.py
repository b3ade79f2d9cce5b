"""What the runner needs of a data set."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from qamx.data.sequences import Transitions


class DataSource(Protocol):
    """A data set in one or more shards, of which one is in memory at a time.

    A source that reads files may list them in an attribute `files`: they are then hashed for the
    run's passport, and a continued run refuses others. One that keeps data apart from training
    may give it by a method `load_validation() -> Transitions | None`.
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
