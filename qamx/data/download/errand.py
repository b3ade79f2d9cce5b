"""Fetching files into one data directory, each from the first server that brings it."""

import errno
import functools
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from qamx._utils.machine import side_by_side
from qamx.data.download.arrival import Damaged, check_arrival
from qamx.data.download.hashes import Record, keep_record
from qamx.data.download.patience import Patience
from qamx.data.download.probe import CONTACTS, Need, check_room, readable, size_of
from qamx.data.download.progress import Watcher, count, watching
from qamx.data.download.table import servers_of
from qamx.data.download.transfer import Absent, ServerTrouble, Transfer, Unreachable
from qamx.data.download.workplace import Workplace

T = TypeVar("T")


@dataclass(frozen=True)
class Errand:
    """From where files come, to where they go, and how.

    Files are named by their path below a server's folder, which is that below the directory.

    **Arguments:** `servers` are asked one after the other, `jobs` is how many files are fetched at
    a time, `say` shows a line of text.
    """

    servers: tuple[str, ...]
    place: Workplace
    jobs: int
    patience: Patience
    say: Callable[[str], None]
    stop: threading.Event = field(default_factory=threading.Event)
    _down: dict[str, Unreachable] = field(default_factory=dict)
    """The servers that did not answer, and are not asked again."""

    def ask(self, files: Sequence[str]) -> dict[str, Need]:
        """How large the files are, and how much of each has arrived.

        **Raises:** `UserError` if one is not there, the server cannot be reached, or there is no
        room for them.
        """

        def ask(file: str) -> Need:
            def at(url: str, last: bool) -> Need:
                size = size_of(url, self.patience, CONTACTS if last else 1)
                return Need(size, self.place.part(file).size, url)

            return self._anywhere(file, at)

        needs = dict(zip(files, side_by_side(ask, files, self.jobs, self.stop), strict=True))
        check_room(self.place.directory, needs.values())
        return needs

    def fetch(self, needs: dict[str, Need], records: dict[str, Record], console: Any) -> None:
        """Fetches files, and gives each its name when it is whole and sound.

        **Arguments:** `needs` is what `ask` answered; `records` says what is expected of files
        that were recorded before.

        **Raises:** `UserError`; what has arrived is kept.
        """
        self._announce(needs)
        with watching(console, needs, self.say) as watcher:

            def one(file: str) -> None:
                self._fetch(file, records.get(file), watcher)

            side_by_side(one, list(needs), self.jobs, self.stop)

    def _announce(self, needs: dict[str, Need]) -> None:
        known = [need.total for need in needs.values() if need.total is not None]
        size = f", {readable(sum(known))}" if known else ""
        arrived = sum(need.arrived for need in needs.values())
        kept = f", {readable(arrived)} of it here already" if arrived else ""
        servers = {
            need.url.removesuffix(f"/{file}"): None for file, need in needs.items() if need.url
        }
        self.say(f"{count(len(needs))} from {' and '.join(servers)}{size}{kept}")

    def _anywhere(self, file: str, work: Callable[[str, bool], T]) -> T:
        """What the work brings from the first server with which it succeeds.

        **Arguments:** `work` is given the file's address there, and whether that is the last.

        **Raises:** `ServerTrouble` with what became of each server, `Absent` if none has the file.
        """
        servers = servers_of(file, self.servers)
        troubles: list[ServerTrouble] = []
        for server, after in zip(servers, (*servers[1:], None), strict=True):
            if server in self._down:
                troubles.append(self._down[server])
                continue
            try:
                return work(f"{server}/{file}", after is None)
            except ServerTrouble as trouble:
                troubles.append(trouble)
                if isinstance(trouble, Unreachable):
                    self._down[server] = trouble
                if after is not None:
                    self.say(f"{trouble}; asking {after}")
        kind = Absent if all(isinstance(one, Absent) for one in troubles) else ServerTrouble
        raise kind("\n".join(dict.fromkeys(map(str, troubles))))

    def _fetch(self, file: str, known: Record | None, watcher: Watcher) -> None:
        def at(url: str, last: bool) -> tuple[Path, str]:
            patience = self.patience if last else self.patience.shortened()
            transfer = functools.partial(
                Transfer, self.place.part(file), patience, self.stop, hashed=known is not None
            )
            return self._through_pooch(url, file, known, _Downloader(transfer, file, watcher)), url

        arrived, url = self._anywhere(file, at)
        record = Record.of(arrived, url)
        path = self.place.directory / file
        self.place.prepare(path.parent)
        # The record first: were it second, a kill in between would leave a file without one.
        self.keep(file, record)
        _move(arrived, path)
        watcher.ended(file)
        self.say(f"{path}: {record}")

    def _through_pooch(
        self, url: str, file: str, known: Record | None, downloader: "_Downloader"
    ) -> Path:
        """The file in the workplace; one that is not as it should be was fetched twice.

        **Raises:** `ServerTrouble`.
        """
        import pooch

        pooch.get_logger().setLevel("ERROR")  # what it does is shown by the watcher
        name = Path(file).name
        keeper = pooch.create(
            path=self.place.folder(file),
            base_url="",
            registry={name: known.sha256 if known else None},
            urls={name: url},
            retry_if_failed=1,
        )
        try:
            return Path(keeper.fetch(name, downloader=downloader))
        except Damaged as error:
            raise ServerTrouble(f"{error}, twice") from error
        except ValueError as error:
            raise ServerTrouble(_other_content(url, str(error))) from error

    def keep(self, file: str, record: Record) -> None:
        """Writes a record down."""
        self.place.prepare(self.place.root)
        keep_record(self.place.directory, self.place.root / "hashes.lock", file, record)


@dataclass(frozen=True)
class _Downloader:
    """What pooch calls to fetch a file: resumes, and looks at what has arrived."""

    make_transfer: Callable[..., Transfer]
    file: str
    watcher: Watcher

    def __call__(
        self, fname: str, action: Any, pooch: Any, *, check_only: bool | None = None
    ) -> None:
        # The names are pooch's: `fname` is the address, `action` the file to write.
        def moved(size: int, total: int | None) -> None:
            self.watcher.reached(self.file, size, total)

        transfer = self.make_transfer(moved=moved)
        transfer.run(fname)
        try:
            check_arrival(transfer.part.path, fname)
        except Damaged:
            transfer.part.discard()
            raise
        transfer.part.hand_over(Path(action))


def _move(arrived: Path, path: Path) -> None:
    """Gives a file its name, in one step."""
    try:
        os.replace(arrived, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # The folder of a set may be a link to another disk.
        copy = path.with_name(f".{path.name}.arriving")
        shutil.copyfile(arrived, copy)
        os.replace(copy, path)
        arrived.unlink()


def _other_content(url: str, said: str) -> str:
    hashes = said.partition("known hash: ")[2].partition(". Deleted")[0]
    return (
        f"{url}: twice not the file that was recorded ({hashes or said}); if it may "
        "have changed there, --again takes it as it is now"
    )
