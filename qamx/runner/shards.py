"""The shard that training is on, and the next one, which is made ready beside it."""

from concurrent.futures import Future, ThreadPoolExecutor

from qamx.data.replay import on_device
from qamx.data.sequences import Transitions
from qamx.data.source import DataSource
from qamx.errors import UserError


class Shards:
    """A data set's shards in turn, each for the same number of updates.

    While one is trained on, a thread reads and relabels the next and moves it to the device, so
    that two shards are there at a time and a swap need not wait. (Reading, decompressing and
    copying leave Python's lock to the loop.)

    **Arguments:** `updates` are those taken so far, `total` those of the whole run, after which no
    shard is needed.
    """

    def __init__(self, data: DataSource, updates: int, total: int):
        self._data, self._every, self._total = data, data.updates_per_shard, total
        self._present = self._at(updates)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shard")
        self._next: tuple[int, Future[Transitions]] | None = None
        self._length = 0

    @property
    def ahead(self) -> int:
        """How many shards are on the device besides the present one."""
        return 0 if self._every is None or self._data.shards == 1 else 1

    def first(self) -> Transitions:
        """Loads the shard of the present update; the runner puts it on the device."""
        transitions = self._data.load(self._present)
        self._length = len(transitions)
        return transitions

    def left(self, updates: int) -> int:
        """Updates until the next shard takes the place of the present one."""
        return self._total if self._every is None else self._every - updates % self._every

    def is_due(self, updates: int) -> bool:
        """Whether another shard than the present one is to be trained on."""
        return self._at(updates) != self._present

    def prepare(self, updates: int) -> None:
        """Begins to make the next shard ready, if the run comes to it."""
        comes = updates + self.left(updates) < self._total
        if self.ahead and comes and self._next is None:
            self._next = self._begin(self._at(updates + self.left(updates)))

    def swap(self, updates: int) -> Transitions:
        """Waits for the shard of the present update; it is on the device.

        **Raises:** what loading it raised; `UserError` if it has another number of transitions.
        """
        self._present = self._at(updates)
        # Another one was made ready only if a step brings more updates than a shard is used for.
        if self._next is None or self._next[0] != self._present:
            self._next = self._begin(self._present)
        (_, loading), self._next = self._next, None
        return loading.result()

    def close(self) -> None:
        """Waits for no shard any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _at(self, updates: int) -> int:
        return 0 if self._every is None else updates // self._every % self._data.shards

    def _begin(self, shard: int) -> tuple[int, Future[Transitions]]:
        return shard, self._thread.submit(self._load, shard)

    def _load(self, shard: int) -> Transitions:
        transitions = self._data.load(shard)
        if len(transitions) != self._length:
            raise UserError(
                f"shard {shard} holds {len(transitions):,} transitions and the first one "
                f"{self._length:,}; shards of one data set must be equally long"
            )
        return on_device(transitions)
