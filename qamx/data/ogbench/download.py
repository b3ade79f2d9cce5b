"""`qamx data download`: plan, fetch, verify, record."""

import contextlib
import functools
import itertools
import json
import logging
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from qamx._utils.files import atomic_write, cached_sha256, make_folder, sha256
from qamx._utils.finding import counted
from qamx._utils.machine import map_in_threads
from qamx._utils.terminal import Progress
from qamx.data.ogbench import catalogue, http
from qamx.data.ogbench.catalogue import SHARDED, VERSION
from qamx.data.ogbench.expert import find_expert, training_command
from qamx.data.ogbench.http import PartialFile, RetryPolicy, format_bytes
from qamx.data.ogbench.rollout import describe_stamp, read_stamp
from qamx.data.validation import BROKEN, check_headers, read_headers
from qamx.errors import UserError

RECORDS_FILE = "hashes.json"
JOBS = 4
"""Files at a time."""

_ATTEMPTS_BEFORE_NEXT_SERVER = 3
_LINE = "{done} of {total}, {rate}, {left} left"
_LINE_WITHOUT_TOTAL = "{done}, {rate}"

_LOG = logging.getLogger("qamx")

T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """Checksum, size and origin of a file when it was first seen; equal for equal content."""

    sha256: str
    size: int
    source: str = field(compare=False)

    @classmethod
    def of(cls, path: Path, source: str) -> "Record":
        """The record of a file's present content."""
        return cls(sha256(path), path.stat().st_size, source)

    def __str__(self) -> str:
        return f"{self.size:,} bytes, SHA-256 {self.sha256}"


PUBLISHED = {
    "cube-double-play-v0.npz": Record(
        "a73d1a33d029cedb8bc170ef94791ec585fa2d9450096f4f2a02b8cfbcf608c9",
        297_435_656,
        "OGBench's server",
    )
}
"""Records of OGBench's files that are known without fetching them."""


def read_records(directory: Path) -> dict[str, Record]:
    """The records of a data directory, by path below it; none where nothing was downloaded.

    **Raises:** `UserError` if the file is damaged.
    """
    path = directory / RECORDS_FILE
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {file: Record(**entry) for file, entry in entries.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not a record of hashes ({error}); remove it, and the next qamx data "
            "download records the existing files"
        ) from error


def add_record(directory: Path, file: str, record: Record) -> None:
    """Adds or replaces a file's record; safe among threads and processes."""
    import filelock

    staging = StagingDir(directory).root
    make_folder(staging)
    with filelock.FileLock(staging / "hashes.lock"):
        records = read_records(directory) | {file: record}
        content = {name: asdict(records[name]) for name in sorted(records)}
        atomic_write(directory / RECORDS_FILE, json.dumps(content, indent=2) + "\n")


def check_recorded(directory: Path, files: Sequence[str]) -> None:
    """Compares files with their records, if they have one.

    Checksums of large files are cached; `qamx data download` reads every byte.

    **Raises:** `UserError` with both checksums.
    """
    records = read_records(directory)
    paths = {file: directory / file for file in files if file in records}
    checksums = cached_sha256([*paths.values()])
    now = {
        file: Record(checksum, path.stat().st_size, "")
        for (file, path), checksum in zip(paths.items(), checksums, strict=True)
    }
    _refuse_changed(directory, records, now, "qamx data download NAME --force")


def _refuse_changed(
    directory: Path, then: dict[str, Record], now: dict[str, Record], command: str
) -> None:
    changes = [
        f"{directory / file}: changed\n  then: {then[file]}\n  now:  {record}\n"
        for file, record in now.items()
        if file in then and record != then[file]
    ]
    if changes:
        raise UserError(
            f"{''.join(changes)}fetch the set again with {command}, or remove its entries from "
            f"{directory / RECORDS_FILE} if the change is yours"
        )


def _generation_hint(name: str, directory: Path) -> str:
    """The commands that generate a data set instead of downloading it."""
    base = name.removesuffix(VERSION).removesuffix(SHARDED)
    if base not in catalogue.dataset_names():
        return f"It cannot be generated here: get its files elsewhere and put them into {directory}"
    commands = f"  qamx data generate {base}{catalogue.directory_option(directory)}"
    walker = catalogue.lookup(base).walker
    if walker is not None and find_expert(walker, directory) is None:
        commands = f"  {training_command(walker, directory)}\n{commands}"
    if SHARDED not in name:
        return f"Or generate it here:\n{commands}"
    return (
        "Or generate shards here (100 of them are OGBench's size; fewer serve as well):\n"
        f"{commands} --shards 100"
    )


@dataclass(frozen=True)
class StagingDir:
    """Partial files, locks and pending downloads of a data directory.

    Files are named by their path below the data directory, which is that below a server's URL.
    """

    directory: Path

    @property
    def root(self) -> Path:
        return self.directory / ".downloads"

    def part(self, file: str) -> PartialFile:
        """The partial file, in a folder for each set."""
        path = Path(file)
        sharded = path.parent != Path(".")
        folder = path.parent if sharded else Path(path.stem.removesuffix("-val"))
        return PartialFile(self.root / folder / f"{path.name}.part")

    @contextlib.contextmanager
    def pending(self, names: Sequence[str], shards: int | None) -> Iterator[None]:
        """Records how much of sets is being downloaded, until they are there."""
        for name in names:
            atomic_write(self._pending_file(name), json.dumps({"shards": shards}))
        yield
        for name in names:
            self._pending_file(name).unlink(missing_ok=True)

    def find_pending(self, name: str) -> dict[str, int | None] | None:
        """The `shards` of a set's unfinished download, None for all of them."""
        try:
            return json.loads(self._pending_file(name).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:  # damaged
            return {"shards": None}

    def _pending_file(self, name: str) -> Path:
        return self.root / name / "wanted.json"

    def describe_partial(self) -> str:
        """A sentence about the partial files."""
        size = sum(part.stat().st_size for part in self.root.rglob("*.part"))
        if not size:
            return "The same command tries again."
        return f"{format_bytes(size)} of unfinished files are kept: the same command continues."

    @contextlib.contextmanager
    def lock(self, names: Sequence[str], log: Callable[[str], None]) -> Iterator[None]:
        """Locks sets against other processes, after waiting for theirs."""
        import filelock

        make_folder(self.root)
        with contextlib.ExitStack() as stack:
            # In one order for all, or two processes could wait for each other.
            for name in sorted(names):
                lock = filelock.FileLock(self.root / f"{name}.lock")
                try:
                    lock.acquire(timeout=0)
                except filelock.Timeout:
                    log(f"{name}: another process downloads it; waiting for its end")
                    lock.acquire(poll_interval=0.1)
                stack.callback(lock.release)
                stack.callback(_remove_empty, self.root / name)
                make_folder(self.root / name)
            yield


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def find_damage(path: Path) -> str | None:
    """The reason why a file is no intact archive with OGBench's arrays, if there is one.

    OGBench publishes no checksums; those inside the archive replace them the first time.
    """
    try:
        check_headers(path, read_headers(path))
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except (*BROKEN, UserError) as error:
        return f"no data set ({_beginning_of_text(path) or error})"
    return None if member is None else f"damaged ({member} does not fit its checksum)"


def _beginning_of_text(path: Path) -> str:
    """The first words of a text, such as a server's error page; empty for other files."""
    with path.open("rb") as file:
        beginning = file.read(200)
    text = " ".join(beginning.decode("ascii", errors="replace").split())
    is_text = beginning.isascii() and text.isprintable() and text
    return f"it begins {text[:60]!r}" if is_text else ""


class FileSize(NamedTuple):
    """Total (`None` if unknown) and received bytes of a file, and the URL that told the total."""

    total: int | None
    received: int
    url: str = ""


class DownloadProgress:
    """Received bytes of files, together in one display that names those on their way."""

    def __init__(self, sizes: dict[str, FileSize]):
        self._received = {file: size.received for file, size in sizes.items()}
        self._label, self._lock = counted(len(sizes), "file"), threading.Lock()
        self._under_way: set[str] = set()
        totals = [size.total for size in sizes.values() if size.total is not None]
        known = len(totals) == len(sizes)
        total, line = (sum(totals), _LINE) if known else (None, _LINE_WITHOUT_TOTAL)
        first = sum(self._received.values())
        self._display = Progress(total, first, unit="", line=line, show=format_bytes)

    def __enter__(self) -> "DownloadProgress":
        self._display.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._display.__exit__(*exception)

    def update(self, file: str, size: int, complete: bool = False) -> None:
        """Shows the received bytes of a file."""
        with self._lock:
            self._received[file] = size
            self._under_way = self._under_way - {file} if complete else self._under_way | {file}
            self._display.advance(sum(self._received.values()), self._label)
            self._display.note(", ".join(sorted(Path(name).name for name in self._under_way)))


@dataclass(frozen=True)
class DownloadJob:
    """Servers, destination and options of a download.

    **Arguments:** `servers` are URLs, tried in order; `jobs` is the number of files at a time;
    `log` shows a line of text; `progress` shows the received bytes too.
    """

    servers: tuple[str, ...]
    staging: StagingDir
    jobs: int
    retry_policy: RetryPolicy
    log: Callable[[str], None]
    progress: bool
    stop: threading.Event = field(default_factory=threading.Event)
    _unreachable: dict[str, http.UnreachableError] = field(default_factory=dict)
    """Servers that failed, which are not tried again."""

    def sizes(self, files: Sequence[str]) -> dict[str, FileSize]:
        """Asks for the sizes of files, and checks that the missing bytes fit on the disk."""

        def ask(file: str) -> FileSize:
            def ask_server(url: str, last: bool) -> FileSize:
                total = http.remote_size(url, self.retry_policy, http.CONTACTS if last else 1)
                return FileSize(total, self.staging.part(file).size, url)

            return self._try_servers(file, ask_server)

        sizes = dict(zip(files, map_in_threads(ask, files, self.jobs, self.stop), strict=True))
        missing = sum(max((size.total or 0) - size.received, 0) for size in sizes.values())
        free = shutil.disk_usage(self.staging.directory).free
        if missing > free:
            raise UserError(
                f"{self.staging.directory}: {format_bytes(missing)} are to come and "
                f"{format_bytes(free)} are free; make room, name another place with --directory, "
                "or take fewer files of a folder with --shards"
            )
        return sizes

    def fetch(self, sizes: dict[str, FileSize], records: dict[str, Record]) -> None:
        """Fetches files, and moves each to its path when it is complete and verified.

        **Arguments:** `records` are the expected contents, where they are known.
        """
        self.log(_announcement(sizes))
        with DownloadProgress(sizes) if self.progress else contextlib.nullcontext() as progress:
            fetch = functools.partial(self._fetch, records, progress)
            map_in_threads(fetch, list(sizes), self.jobs, self.stop)

    def _try_servers(self, file: str, work: Callable[[str, bool], T]) -> T:
        """The result of the first server for which the work succeeds.

        **Arguments:** `work` takes the file's URL, and True for the last server.
        """
        # The public copy has no folders of shards.
        servers = self.servers[:1] if "/" in file else self.servers
        failed = dict(self._unreachable)  # by now: other threads add to it
        errors: list[http.ServerError] = [failed[server] for server in servers if server in failed]
        servers = [server for server in servers if server not in failed]
        for server, following in itertools.zip_longest(servers, servers[1:]):
            try:
                return work(f"{server}/{file}", following is None)
            except http.ServerError as error:
                errors.append(error)
                if isinstance(error, http.UnreachableError):
                    self._unreachable[server] = error
                if following is not None:
                    self.log(f"{error}; asking {following}")
        missing = all(isinstance(error, http.NotFoundError) for error in errors)
        kind = http.NotFoundError if missing else http.ServerError
        raise kind("\n".join(dict.fromkeys(map(str, errors))))

    def _fetch(
        self, records: dict[str, Record], progress: DownloadProgress | None, file: str
    ) -> None:
        part, expected = self.staging.part(file), records.get(file)

        def update(size: int, complete: bool = False) -> None:
            if progress is not None:
                progress.update(file, size, complete)

        def fetch(url: str, last: bool) -> Record:
            attempts = self.retry_policy.attempts
            attempts = attempts if last else min(attempts, _ATTEMPTS_BEFORE_NEXT_SERVER)
            policy = replace(self.retry_policy, attempts=attempts)
            transfer = http.Transfer(part, policy, self.stop, update, hashed=expected is not None)
            return _fetch_verified(transfer, url, expected)

        record = self._try_servers(file, fetch)
        path = self.staging.directory / file
        make_folder(path.parent)
        # The record first: a kill in between must not leave a file without one.
        add_record(self.staging.directory, file, record)
        part.move_to(path)
        update(record.size, complete=True)
        self.log(f"{path}: {record}")


def _announcement(sizes: dict[str, FileSize]) -> str:
    totals = [size.total for size in sizes.values() if size.total is not None]
    total = f", {format_bytes(sum(totals))}" if totals else ""
    received = sum(size.received for size in sizes.values())
    kept = f", {format_bytes(received)} of it here already" if received else ""
    servers = {size.url.removesuffix(f"/{file}"): None for file, size in sizes.items() if size.url}
    return f"{counted(len(sizes), 'file')} from {' and '.join(servers)}{total}{kept}"


def _fetch_verified(transfer: http.Transfer, url: str, expected: Record | None) -> Record:
    """Completes a partial file and verifies it; wrong content is fetched once more."""
    problem = ""
    for _ in range(2):
        transfer.run(url)
        record = Record.of(transfer.part.path, url)
        if (damage := find_damage(transfer.part.path)) is not None:
            problem = f"{damage}, twice"
        elif expected is None or record == expected:
            return record
        else:
            problem = (
                f"twice not the file that was recorded (expected {expected.sha256} but got "
                f"{record.sha256}); if it may have changed there, --force takes it as it is now"
            )
        transfer.part.discard()
    raise http.ServerError(f"{url}: {problem}")


def download(
    names: Sequence[str],
    *,
    directory: Path | None = None,
    shards: int | None = None,
    jobs: int = JOBS,
    mirror: str | None = None,
    again: bool = False,
    retry_policy: RetryPolicy | None = None,
    progress: bool = True,
) -> list[Path]:
    """Downloads OGBench data sets, and verifies the files that are there.

    After a failure or an interruption the same call resumes. The checksum of each file is recorded
    in `hashes.json` when it is first seen, and compared from then on.

    **Arguments:**

    - `names`: OGBench's, with or without `-v0`; `cube-double-play-100m` is a folder of shards.
    - `directory`: by default `$QAMX_DATA`, else `~/.ogbench/data`.
    - `shards`: the number of training files of a folder, with their validation files.
    - `jobs`: files at a time.
    - `mirror`: the URL of a folder that has the files; by default `$QAMX_MIRROR`, else
        OGBench's server and, where that fails, a public copy of it.
    - `again`: fetch and record existing files again.
    - `retry_policy`: timeouts and attempts.
    - `progress`: show a bar, and log each file at level INFO.

    **Returns:** the files, training before validation, shard by shard.

    **Raises:** `UserError` with the remedy: an unknown name, a generated file, a file that differs
    from its record, a server that does not have it, fails or is out of reach, a full disk.
    """
    if jobs < 1:
        raise UserError(f"--jobs: found {jobs}; write a positive integer, e.g. {JOBS}")
    directory = catalogue.default_directory() if directory is None else directory.expanduser()
    names = list(dict.fromkeys(f"{name.removesuffix(VERSION)}{VERSION}" for name in names))
    files = [file for name in names for file in _find_files(name, shards, directory)]
    staging, policy = StagingDir(directory), retry_policy or RetryPolicy()
    log = _LOG.info if progress else _LOG.debug
    job = DownloadJob(catalogue.server_urls(mirror), staging, jobs, policy, log, progress)
    existing = [file for file in files if (directory / file).exists()]
    for path in (directory / file for file in existing):
        if (stamp := read_stamp(path)) is not None:
            raise UserError(
                f"{path}: generated here ({describe_stamp(stamp)}), not OGBench's, and never "
                "replaced by a download; name another place with --directory, or move the file away"
            )
    if not again:
        _verify(job, existing)
    if again or len(existing) < len(files):
        _fetch_missing(job, names, files, shards, again)
    return [directory / file for file in files]


def _find_files(name: str, shards: int | None, directory: Path) -> tuple[str, ...]:
    try:
        return catalogue.remote_files(name, shards)
    except catalogue.UnavailableError as error:
        raise UserError(f"{error}. {_generation_hint(name, directory)}") from error


def _fetch_missing(
    job: DownloadJob, names: Sequence[str], files: Sequence[str], shards: int | None, again: bool
) -> None:
    """Fetches the missing files of data sets, or all again, while no other process does."""
    directory = job.staging.directory
    with job.staging.lock(names, job.log), _report_partial_on_error(job, names):
        # Another process may have fetched some meanwhile.
        sizes = job.sizes([f for f in files if again or not (directory / f).exists()])
        # A named mirror may have other files under the published names.
        published = PUBLISHED if len(job.servers) > 1 else {}
        with job.staging.pending(names, shards):
            job.fetch(sizes, {} if again else published | read_records(directory))


def _verify(job: DownloadJob, files: Sequence[str]) -> None:
    """Compares files with their records, and records those that have none."""
    directory = job.staging.directory
    records = read_records(directory)

    def verify(file: str) -> Record:
        path = directory / file
        record = Record.of(path, "found in the data directory")
        if file not in records:
            if (damage := find_damage(path)) is not None:
                raise UserError(f"{path}: {damage}; remove it, or fetch the set again with --force")
            add_record(directory, file, record)
            job.log(f"{path}: recorded as it is, {record}")
        elif record == records[file]:
            job.log(f"{path}: ok, {format_bytes(record.size)}, as recorded")
        return record

    now = dict(zip(files, map_in_threads(verify, files, job.jobs, job.stop), strict=True))
    _refuse_changed(directory, records, now, "--force")


@contextlib.contextmanager
def _report_partial_on_error(job: DownloadJob, names: Sequence[str]) -> Iterator[None]:
    """Adds to an error the size of the partial files and the alternatives."""
    try:
        yield
    except (UserError, OSError) as error:
        lines = [str(error)]
        if isinstance(error, http.NotFoundError):
            lines += [catalogue.near_names(name) for name in names if name in lines[0]]
        if isinstance(error, http.ServerError):
            lines.append(catalogue.other_servers(job.servers, names))
        lines.append(job.staging.describe_partial())
        lines += dict.fromkeys(_generation_hint(name, job.staging.directory) for name in names)
        raise UserError("\n".join(lines)) from error
    except KeyboardInterrupt:
        job.log(job.staging.describe_partial())
        raise
