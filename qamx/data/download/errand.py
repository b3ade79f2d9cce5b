"""Fetching files from one server into one data directory."""

import errno
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qamx.data.download.arrival import Damaged, check_arrival
from qamx.data.download.hashes import Record, keep_record
from qamx.data.download.parallel import side_by_side
from qamx.data.download.patience import Patience
from qamx.data.download.probe import Need, check_room, readable, size_of
from qamx.data.download.progress import Watcher, count, watching
from qamx.data.download.transfer import Transfer
from qamx.data.download.workplace import Workplace
from qamx.errors import UserError


@dataclass(frozen=True)
class Errand:
    """From where files come, to where they go, and how.

    Files are named by their path below the server's folder, which is that below the directory.

    **Arguments:** `jobs` is how many files are fetched at a time, `say` shows a line of text.
    """

    server: str
    place: Workplace
    jobs: int
    patience: Patience
    say: Callable[[str], None]
    stop: threading.Event = field(default_factory=threading.Event)

    def url(self, file: str) -> str:
        """The address of a file."""
        return f"{self.server}/{file}"

    def ask(self, files: Sequence[str]) -> dict[str, Need]:
        """How large the files are, and how much of each has arrived.

        **Raises:** `UserError` if one is not there, the server cannot be reached, or there is no
        room for them.
        """

        def ask(file: str) -> Need:
            return Need(size_of(self.url(file), self.patience), self.place.part(file).size)

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
        self.say(f"{count(len(needs))} from {self.server}{size}{kept}")

    def _fetch(self, file: str, known: Record | None, watcher: Watcher) -> None:
        arrived = self._through_pooch(file, known, watcher)
        record = Record.of(arrived, self.url(file))
        path = self.place.directory / file
        self.place.prepare(path.parent)
        # The record first: were it second, a kill in between would leave a file without one.
        self.keep(file, record)
        _move(arrived, path)
        watcher.ended(file)
        self.say(f"{path}: {record}")

    def _through_pooch(self, file: str, known: Record | None, watcher: Watcher) -> Path:
        """The file in the workplace; one that is not as it should be was fetched twice."""
        import pooch

        pooch.get_logger().setLevel("ERROR")  # what it does is shown by the watcher
        name = Path(file).name
        keeper = pooch.create(
            path=self.place.folder(file),
            base_url="",
            registry={name: known.sha256 if known else None},
            urls={name: self.url(file)},
            retry_if_failed=1,
        )
        try:
            return Path(keeper.fetch(name, downloader=_Downloader(self, file, watcher)))
        except Damaged as error:
            raise UserError(f"{error}, twice") from error
        except ValueError as error:
            raise UserError(_other_content(self.url(file), str(error))) from error

    def keep(self, file: str, record: Record) -> None:
        """Writes a record down."""
        self.place.prepare(self.place.root)
        keep_record(self.place.directory, self.place.root / "hashes.lock", file, record)


@dataclass(frozen=True)
class _Downloader:
    """What pooch calls to fetch a file: resumes, and looks at what has arrived."""

    errand: Errand
    file: str
    watcher: Watcher

    def __call__(
        self, fname: str, action: Any, pooch: Any, *, check_only: bool | None = None
    ) -> None:
        # The names are pooch's: `fname` is the address, `action` the file to write.
        part = self.errand.place.part(self.file)

        def moved(size: int, total: int | None) -> None:
            self.watcher.reached(self.file, size, total)

        Transfer(part, self.errand.patience, self.errand.stop, moved).run(fname)
        try:
            check_arrival(part.path, fname)
        except Damaged:
            part.discard()
            raise
        part.hand_over(Path(action))


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
        f"{url}: twice not the file that was recorded in hashes.json ({hashes or said}); if it may "
        "have changed there, --again takes it as it is now"
    )
