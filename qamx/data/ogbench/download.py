"""`qamx data download`: plan, transfer, verify, record."""

import contextlib
import errno
import functools
import json
import os
import shutil
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from qamx._utils.files import sha256_of
from qamx._utils.machine import map_in_threads
from qamx.data.ogbench.catalogue import (
    SHARDED,
    VERSION,
    NotOffered,
    RemoteSet,
    addresses,
    dataset_names,
    default_directory,
    elsewhere,
    lookup,
    near_names,
    remote_set,
    servers_of,
)
from qamx.data.ogbench.expert import find_expert, training_command
from qamx.data.ogbench.http import (
    CONTACTS,
    Absent,
    Need,
    Part,
    Patience,
    ServerTrouble,
    Transfer,
    Unreachable,
    check_room,
    readable,
    size_of,
)
from qamx.data.ogbench.reference_episodes import compare, read_first_episode
from qamx.data.ogbench.rollout import read_stamp
from qamx.data.validation import BROKEN, check_arrays, read_headers
from qamx.errors import UserError

FILE_NAME = "hashes.json"


@dataclass(frozen=True)
class Record:
    """A file as it was when it was first seen, and where it came from."""

    sha256: str
    size: int
    source: str

    @classmethod
    def of(cls, path: Path, source: str) -> "Record":
        """The record of a file as it is now."""
        import pooch

        return cls(pooch.file_hash(str(path)), path.stat().st_size, source)

    def same_as(self, other: "Record") -> bool:
        """Whether both are of the same content."""
        return (self.sha256, self.size) == (other.sha256, other.size)

    def __str__(self) -> str:
        return f"{self.size:,} bytes, SHA-256 {self.sha256}"


PUBLISHED = {
    "cube-double-play-v0.npz": Record(
        "a73d1a33d029cedb8bc170ef94791ec585fa2d9450096f4f2a02b8cfbcf608c9",
        297_435_656,
        "OGBench's server",
    )
}
"""What is known of OGBench's files without having fetched them."""


def read_records(directory: Path) -> dict[str, Record]:
    """The records of a data directory, by path below it; none where nothing was downloaded.

    **Raises:** `UserError` if the file is damaged.
    """
    path = directory / FILE_NAME
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {file: Record(**entry) for file, entry in entries.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not a record of hashes ({error}); remove it: the next qamx data download "
            "records the files that are there anew"
        ) from error


def keep_record(directory: Path, lock: Path, file: str, record: Record) -> None:
    """Adds a record, or replaces the file's; other threads and processes may do so meanwhile."""
    import filelock

    path = directory / FILE_NAME
    with filelock.FileLock(lock):
        records = read_records(directory) | {file: record}
        content = {name: asdict(one) for name, one in sorted(records.items())}
        partial = path.with_name(f".{FILE_NAME}.{os.getpid()}")
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)


def check_recorded(directory: Path, files: Sequence[str]) -> None:
    """Files that were downloaded are what they were then; others pass.

    A large file is read once, and again when its size or date changes (`qamx._utils.files`);
    `qamx data download` reads every byte.

    **Raises:** `UserError` with both hashes.
    """
    records = read_records(directory)
    known = [file for file in files if file in records]
    hashes = sha256_of([directory / file for file in known])
    for file, sha256 in zip(known, hashes, strict=True):
        found = Record(sha256, (directory / file).stat().st_size, "")
        if not found.same_as(records[file]):
            raise UserError(
                f"{changed(directory / file, records[file], found)}\n"
                f"{what_now(directory, 'qamx data download NAME --again')}"
            )


def changed(path: Path, then: Record, now: Record) -> str:
    """That a file is not what it was."""
    return f"{path}: changed\n  then: {then}\n  now:  {now}"


def what_now(directory: Path, again: str) -> str:
    """What to do about files that changed."""
    return (
        f"fetch the set anew with {again}, or remove its entries from {directory / FILE_NAME} if "
        "the change is yours"
    )


def alternative(name: str, directory: Path) -> str:
    """How to come by a set without the server."""
    base = name.removesuffix(VERSION).removesuffix(SHARDED)
    if base not in dataset_names():
        return f"It cannot be generated here: get its files elsewhere and put them into {directory}"
    if SHARDED not in name:
        return f"Or generate it here:\n{_commands(base, directory)}"
    return (
        "Or generate shards here (100 of them are OGBench's size; fewer serve as well):\n"
        f"{_commands(base, directory)} --shards 100"
    )


def _commands(base: str, directory: Path) -> str:
    """What makes a data set: training its walker's expert, where that is missing, comes first."""
    place = "" if directory == default_directory() else f" --directory {directory}"
    commands = [f"  qamx data generate {base}{place}"]
    walker = lookup(base).walker
    if walker is not None and find_expert(walker, directory) is None:
        commands.insert(0, f"  {training_command(walker, directory)}")
    return "\n".join(commands)


def is_generated(path: Path) -> bool:
    """Whether a file was made by `qamx data generate`."""
    return read_stamp(path) is not None


def refuse_generated(path: Path) -> None:
    """A file that was generated here is not OGBench's, and is not replaced by it.

    **Raises:** `UserError`.
    """
    stamp = read_stamp(path)
    if stamp is None:
        return
    made = ", ".join(f"{key} {value}" for key, value in stamp.items() if key != "name")
    raise UserError(
        f"{path}: generated here ({made}{_likeness(path, str(stamp['name']))}), not OGBench's, and "
        "never replaced by a download; name another place with --directory, or move the file away"
    )


def _likeness(path: Path, name: str) -> str:
    """How the file's first episode compares with the one on record, where there is one."""
    try:
        episode = read_first_episode(path)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        return f"; damaged: {error}"
    likeness = None if episode is None else compare(name, episode)
    return "" if likeness is None else f"; its first episode is {likeness.value}"


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


class Damaged(ValueError):
    """What arrived is no data set. (A `ValueError`, so that pooch fetches the file once more.)"""


def check_arrival(path: Path, origin: str) -> None:
    """The file is an npz with OGBench's arrays, and all bytes are those that were packed.

    OGBench publishes no hashes; the checksums inside the archive stand in for them the first time.

    **Arguments:** `origin` is what messages call the file.

    **Raises:** `Damaged`.
    """
    try:
        check_arrays(path, read_headers(path))
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (*BROKEN, UserError) as error:
        raise Damaged(f"{origin}: no data set ({_seen(path) or error})") from error
    if damaged is not None:
        raise Damaged(f"{origin}: damaged ({damaged} does not fit its checksum)")


def _seen(path: Path) -> str:
    """The beginning of a text, such as a server's page about an error; else nothing."""
    with path.open("rb") as file:
        beginning = file.read(200)
    try:
        text = " ".join(beginning.decode("ascii").split())
    except UnicodeDecodeError:
        return ""
    return f"it begins {text[:60]!r}" if text.isprintable() and text else ""


_SECONDS_BETWEEN_LINES = 30.0


class Watcher(Protocol):
    """Told how far each file is."""

    def reached(self, file: str, size: int, total: int | None) -> None:
        """So many bytes of a file are there."""
        ...

    def ended(self, file: str) -> None:
        """A file is complete."""
        ...


class Silent:
    """Shows nothing."""

    def reached(self, file: str, size: int, total: int | None) -> None:
        pass

    def ended(self, file: str) -> None:
        pass


@contextmanager
def watching(console: Any, needs: dict[str, Need], say: Callable[[str], None]) -> Iterator[Watcher]:
    """Bars on a terminal, a line now and then elsewhere, nothing without a console."""
    if console is None:
        yield Silent()
    elif console.is_terminal:
        with _display(console) as display:
            yield _Bars(display, needs)
    else:
        yield _Lines(say, needs)


def open_console(enabled: bool) -> tuple[Any, Callable[[str], None]]:
    """A `rich` console and what shows a line on it; `None` and nothing where it isn't wanted."""
    if not enabled:
        return None, lambda text: None
    from rich.console import Console

    console = Console()
    return console, lambda text: console.print(text, soft_wrap=True, highlight=False, markup=False)


class _Bars:
    """A bar for each file on its way, and one for all of them."""

    def __init__(self, display: Any, needs: dict[str, Need]):
        self._display = display
        self._lock = threading.Lock()
        self._sizes = {file: need.arrived for file, need in needs.items()}
        self._bars: dict[str, Any] = {}
        total = _sum_of_totals(list(needs.values()))
        self._all = display.add_task(
            count(len(needs)), total=total, completed=sum(self._sizes.values())
        )

    def reached(self, file: str, size: int, total: int | None) -> None:
        with self._lock:
            if file not in self._bars:
                name = file.rpartition("/")[2]
                self._bars[file] = self._display.add_task(name, total=total, completed=size)
            self._sizes[file] = size
            self._display.update(self._bars[file], completed=size)
            self._display.update(self._all, completed=sum(self._sizes.values()))

    def ended(self, file: str) -> None:
        with self._lock:
            if file in self._bars:
                self._display.remove_task(self._bars.pop(file))


class _Lines:
    """A line now and then: for logs, and anything else that isn't a terminal."""

    def __init__(self, say: Callable[[str], None], needs: dict[str, Need]):
        self._say = say
        self._lock = threading.Lock()
        self._sizes = {file: need.arrived for file, need in needs.items()}
        self._total = _sum_of_totals(list(needs.values()))
        self._at_first = sum(self._sizes.values())
        self._started = self._last_line = time.monotonic()

    def reached(self, file: str, size: int, total: int | None) -> None:
        with self._lock:
            self._sizes[file] = size
            now = time.monotonic()
            if now - self._last_line >= _SECONDS_BETWEEN_LINES:
                self._last_line = now
                self._say(self._line(now - self._started))

    def _line(self, seconds: float) -> str:
        arrived = sum(self._sizes.values())
        rate = max(arrived - self._at_first, 1) / seconds
        said = f"{readable(arrived)}{f' of {readable(self._total)}' if self._total else ''}"
        left = f", {(self._total - arrived) / rate / 60:.1f} min left" if self._total else ""
        return f"{said}, {readable(int(rate))}/s{left}"

    def ended(self, file: str) -> None:
        pass


def count(files: int) -> str:
    """A number of files, in words."""
    return f"{files:,} file{'' if files == 1 else 's'}"


def _sum_of_totals(needs: Sequence[Need]) -> int | None:
    totals = [need.total for need in needs if need.total is not None]
    return sum(totals) if len(totals) == len(needs) else None


def _display(console: Any) -> Any:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


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

        needs = dict(zip(files, map_in_threads(ask, files, self.jobs, self.stop), strict=True))
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

            map_in_threads(one, list(needs), self.jobs, self.stop)

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


JOBS = 4
"""Files at a time."""


def download(
    names: Sequence[str],
    *,
    directory: Path | None = None,
    shards: int | None = None,
    jobs: int = JOBS,
    mirror: str | None = None,
    again: bool = False,
    patience: Patience | None = None,
    progress: bool = True,
) -> list[Path]:
    """Downloads OGBench data sets, and verifies the files that are there.

    What has arrived is kept through failures and interruptions, and the same call goes on from
    there. The hash of each file is recorded in `hashes.json` when it is first seen, and compared
    from then on.

    **Arguments:**

    - `names`: OGBench's, with or without `-v0`; `cube-double-play-100m` is a folder of shards.
    - `directory`: by default `$QAMX_DATA`, else `~/.ogbench/data`.
    - `shards`: the first so many training files of a folder, with their validation files.
    - `jobs`: files at a time.
    - `mirror`: the address of a folder that has the files; by default `$QAMX_MIRROR`, else
        OGBench's server and, where that fails, a public copy of it.
    - `again`: fetch files that are there anew, and record what arrives.
    - `patience`: time limits and attempts.
    - `progress`: whether to show what is going on.

    **Returns:** the files, training before validation, shard by shard.

    **Raises:** `UserError` with what to do: an unknown name, a file that was generated here or is
    not what it was when it was recorded, a server that does not have it, fails or is out of reach,
    a disk without room.
    """
    if jobs < 1:
        raise UserError(f"--jobs: found {jobs}; write a positive integer, e.g. {JOBS}")
    console, say = open_console(progress)
    place = Workplace(default_directory() if directory is None else directory.expanduser())
    sets = list(dict.fromkeys(_offered(name, shards, place.directory) for name in names))
    errand = Errand(addresses(mirror), place, jobs, patience or Patience(), say)
    files = [file for one in sets for file in one.files]
    there = [file for file in files if (place.directory / file).exists()]
    for file in there:
        refuse_generated(place.directory / file)
    if not again:
        _verify(errand, there)
    if again or len(there) < len(files):
        _bring(errand, sets, shards, again, console)
    return [place.directory / file for file in files]


def _bring(
    errand: Errand, sets: Sequence[RemoteSet], shards: int | None, again: bool, console: object
) -> None:
    """Fetches what is missing, or everything again, while no other process does."""
    place, names = errand.place, [one.name for one in sets]
    with place.alone(names, errand.say), _saying_what_is_left(errand, names):
        # Another process may have fetched some meanwhile.
        files = [file for one in sets for file in one.files]
        needs = errand.ask([one for one in files if again or not (place.directory / one).exists()])
        for name in names:
            place.note(name, shards)
        # A named mirror is taken at its word the first time.
        published = {} if len(errand.servers) == 1 else PUBLISHED
        known = {} if again else {**published, **read_records(place.directory)}
        errand.fetch(needs, known, console)
        for name in names:
            place.strike(name)


def unfinished(name: str, directory: Path) -> Unfinished | None:
    """What a download of this set that was stopped, or is under way, is to bring."""
    return Workplace(directory).noted(name)


def _offered(name: str, shards: int | None, directory: Path) -> RemoteSet:
    try:
        return remote_set(name, shards)
    except NotOffered as error:
        raise UserError(f"{error}. {alternative(name, directory)}") from error


def _verify(errand: Errand, files: Sequence[str]) -> None:
    """Compares files with their records, and records those that have none.

    **Raises:** `UserError` listing those that have changed.
    """
    directory = errand.place.directory
    records = read_records(directory)

    def look(file: str) -> str | None:
        found = Record.of(directory / file, "found in the data directory")
        known = records.get(file)
        if known is None:
            _sound(directory / file)
            errand.keep(file, found)
            errand.say(f"{directory / file}: recorded as it is, {found}")
        elif not found.same_as(known):
            return changed(directory / file, known, found)
        else:
            errand.say(f"{directory / file}: ok, {readable(found.size)}, as recorded")
        return None

    problems = [one for one in map_in_threads(look, files, errand.jobs, errand.stop) if one]
    if problems:
        raise UserError("\n".join([*problems, what_now(directory, "--again")]))


def _sound(path: Path) -> None:
    try:
        check_arrival(path, str(path))
    except Damaged as error:
        raise UserError(f"{error}; remove it, or fetch the set anew with --again") from error


@contextlib.contextmanager
def _saying_what_is_left(errand: Errand, names: Sequence[str]) -> Iterator[None]:
    """Says of a failure what is kept, and what else can be done."""
    try:
        yield
    except (UserError, OSError) as error:
        said = str(error)
        absent = [name for name in names if isinstance(error, Absent) and name in said]
        others = dict.fromkeys(alternative(name, errand.place.directory) for name in names)
        where = [elsewhere(errand.servers, names)] if isinstance(error, ServerTrouble) else []
        lines = [said, *map(near_names, absent), *where, errand.place.kept(), *others]
        raise UserError("\n".join(lines)) from error
    except KeyboardInterrupt:
        errand.say(errand.place.kept())
        raise
