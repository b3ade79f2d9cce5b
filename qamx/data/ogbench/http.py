"""One resumable HTTP transfer, and the rules of retrying."""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from qamx.errors import UserError

if TYPE_CHECKING:
    from requests import Response, Session
import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from requests import Response


@dataclass(frozen=True)
class Version:
    """Which version of a file a server has.

    **Arguments:** `etag` and `modified` are the headers of that name, `total` the file's size in
    bytes; each `None` where the server does not say. `source` is the address that was asked.
    """

    etag: str | None = None
    modified: str | None = None
    total: int | None = None
    source: str | None = None

    @property
    def validator(self) -> str | None:
        """What a server can compare: a strong ETag, else the date of change (RFC 9110, 13.1.5)."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.modified

    def comes_from(self, url: str) -> bool:
        """Whether it is what that address has, as far as is known."""
        return self.source in (None, url)

    def contradicts(self, other: "Version") -> bool:
        """Whether the two say that they are different versions."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return any(None not in pair and pair[0] != pair[1] for pair in pairs)


class Part:
    """A file that has not arrived as a whole, and beside it which version it is the beginning of.

    **Arguments:** `path` is where the bytes go; the version goes to `path` with `.json` behind it.
    """

    def __init__(self, path: Path):
        self.path = path
        self._notes = path.with_name(f"{path.name}.json")

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def version(self) -> Version:
        """What the bytes are the beginning of; says nothing where that is not known."""
        try:
            return Version(**json.loads(self._notes.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Version()

    @property
    def whole(self) -> bool:
        """Whether every byte is there."""
        return self.path.exists() and self.size == self.version.total

    def begin(self, version: Version) -> None:
        """Starts from nothing with that version."""
        # In this order, a process that ends in between leaves nothing to be mistaken for a part.
        self.path.write_bytes(b"")
        self.relabel(version)

    def relabel(self, version: Version) -> None:
        """Goes on as the beginning of that version."""
        self._notes.write_text(json.dumps(asdict(version)), encoding="utf-8")

    @contextlib.contextmanager
    def appending(self) -> Iterator[FileIO]:
        """The file, open for writes to its end without a buffer: what was written is there."""
        with self.path.open("ab", buffering=0) as file:
            yield file
            os.fsync(file.fileno())

    def discard(self) -> None:
        """Forgets all that has arrived."""
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def hand_over(self, to: Path) -> None:
        """Moves the file, whole now, to another name in the same file system."""
        os.replace(self.path, to)
        self.discard()


SHORT_ATTEMPTS = 3


@dataclass(frozen=True)
class Patience:
    """The limits of a download.

    **Arguments:**

    - `connect`: seconds that a server may take to accept a connection.
    - `stall`: seconds without a byte after which a connection is given up.
    - `attempts`: failures in a row after which a file is given up; an attempt that brings it
      farther than it was before begins the count anew.
    - `pause`: seconds before the second attempt; they double with each failure.
    - `longest_pause`: seconds that no pause exceeds, whatever the server asks for.
    """

    connect: float = 10.0
    stall: float = 30.0
    attempts: int = 6
    pause: float = 1.0
    longest_pause: float = 60.0

    def shortened(self) -> "Patience":
        """The limits where there is another server to turn to."""
        return replace(self, attempts=min(self.attempts, SHORT_ATTEMPTS))

    def pause_after(self, failures: int, asked: float = 0.0) -> float:
        """Seconds to wait after so many failures in a row, at least what the server asks for."""
        return min(max(self.pause * 2 ** (failures - 1), asked), self.longest_pause)


_CHUNK = 2**18
ABSENT = frozenset({404, 410})
"""Answers that say that there is no such file."""
_WAIT_AND_SEE = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same request may succeed."""


class ServerTrouble(UserError):
    """A server does not bring a file; another may."""


class Absent(ServerTrouble):
    """The server has no such file."""


class Unreachable(ServerTrouble):
    """The server does not answer, or not with files."""


class Halted(Exception):
    """The download was told to stop."""


class _Hindered(Exception):
    """An attempt that failed and may be repeated, after the seconds that the server asks for."""

    def __init__(self, reason: str, pause: float = 0.0):
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True)
class Transfer:
    """Brings a part to its end.

    **Arguments:** `moved` is told how many bytes are there, and of how many (`None`: not known);
    `stop` ends the transfer at its next byte; `hashed` says that the file's hash is known and will
    be compared, so that what came from another server may be gone on with.
    """

    part: Part
    patience: Patience
    stop: threading.Event
    moved: Callable[[int, int | None], None]
    hashed: bool = False

    def run(self, url: str) -> None:
        """Fetches what the part lacks, attempt after attempt.

        **Raises:** `ServerTrouble` if the server refuses, or cannot be reached or fails as often
        as the patience allows; `UserError` if the disk is full; `Halted` on request. The part is
        kept.
        """
        import requests

        failures, farthest = 0, self.part.size
        with requests.Session() as session:
            while not self.part.whole:
                try:
                    self._attempt(session, url)
                    return
                except _Hindered as error:
                    failures = 1 if self.part.size > farthest else failures + 1
                    farthest = max(farthest, self.part.size)
                    if failures >= self.patience.attempts:
                        raise Unreachable(f"{url}: {error}, {failures} times in a row") from error
                    self.stop.wait(self.patience.pause_after(failures, error.pause))
                if self.stop.is_set():
                    raise Halted

    def _attempt(self, session: "Session", url: str) -> None:
        import requests
        import urllib3

        limits = (self.patience.connect, self.patience.stall)
        try:
            with session.get(
                url, headers=self._headers(url), stream=True, timeout=limits
            ) as answer:
                self._prepare(answer, url)
                self._receive(answer)
        except requests.ConnectTimeout as error:
            said = f"the server did not answer for {self.patience.connect:g} seconds"
            raise _Hindered(said) from error
        except (requests.Timeout, urllib3.exceptions.ReadTimeoutError) as error:
            raise _Hindered(f"no byte came for {self.patience.stall:g} seconds") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _Hindered(explain(error)) from error

    def _headers(self, url: str) -> dict[str, str]:
        # Ranges count the bytes that travel: a server that compresses on the way would shift them.
        headers = {"Accept-Encoding": "identity"}
        kept, behind = self.part.version, {"Range": f"bytes={self.part.size}-"}
        if not self.part.size:
            return headers
        if kept.comes_from(url):
            same = {} if kept.validator is None else {**behind, "If-Range": kept.validator}
            return headers | same
        # Another server's marks say nothing here: the size has to be the same, and the hash.
        return headers | (behind if self.hashed and kept.total is not None else {})

    def _prepare(self, answer: "Response", url: str) -> None:
        """Sees to it that the bytes to come follow those of the part."""
        kept = self.part.version
        if answer.status_code == 206:
            start, version = _continuation(answer, url)
            follows = start == self.part.size
            if follows and kept.comes_from(url) and not version.contradicts(kept):
                return
            if follows and not kept.comes_from(url) and version.total == kept.total:
                self.part.relabel(version)
                return
            self.part.discard()
            raise _Hindered("the file changed while it was fetched")
        if answer.status_code == 416:  # longer than the file is now
            self.part.discard()
            raise _Hindered("the server has no bytes behind those that have arrived")
        refuse(answer)
        length = answer.headers.get("Content-Length", "")
        # Whole and from its first byte: the server ignores ranges, or has another version.
        self.part.begin(_version(answer, url, int(length) if length.isdigit() else None))

    def _receive(self, answer: "Response") -> None:
        total = self.part.version.total
        reached = self.part.size
        self.moved(reached, total)
        with self.part.appending() as file:
            while chunk := answer.raw.read1(_CHUNK, decode_content=False):
                if self.stop.is_set():
                    raise Halted
                self._write(file, chunk)
                reached += len(chunk)
                self.moved(reached, total)
        if total is not None and reached != total:
            raise _Hindered(f"the connection ended after {reached:,} of {total:,} bytes")

    def _write(self, file: FileIO, chunk: bytes) -> None:
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise UserError(
                f"{self.part.path}: can't be written ({error.strerror or error}); make room, or "
                "name another place with --directory"
            ) from error


def refuse(answer: "Response") -> None:
    """Lets a good answer pass.

    **Raises:** `ServerTrouble` for one that will not change (`Absent` for a file that is not
    there), an error to retry after for others.
    """
    status, url = answer.status_code, answer.url
    if status == 200:
        return
    said = f"the server answers {status} {answer.reason}"
    if status in _WAIT_AND_SEE:
        asked = answer.headers.get("Retry-After", "")
        raise _Hindered(said, float(asked) if asked.isdigit() else 0.0)
    if status in ABSENT:
        raise Absent(f"{url}: not there ({said})")
    if status in (401, 403):
        raise ServerTrouble(f"{url}: access is refused ({said})")
    raise ServerTrouble(f"{url}: {said}")


def explain(error: Exception) -> str:
    """Why the network failed, without the layers of libraries around it."""
    cause: BaseException = error
    while isinstance(cause.args[0] if cause.args else None, BaseException):
        cause = cause.args[0]
    reason = getattr(cause, "reason", None)
    return str(reason if isinstance(reason, BaseException) else cause)


def _continuation(answer: "Response", source: str) -> tuple[int | None, Version]:
    """The first byte of a part, as `Content-Range: bytes 100-199/200` says, and its version."""
    unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not first.isdigit():
        return None, _version(answer, source, None)
    return int(first), _version(answer, source, int(total) if total.isdigit() else None)


def _version(answer: "Response", source: str, total: int | None) -> Version:
    headers = answer.headers
    return Version(headers.get("ETag"), headers.get("Last-Modified"), total, source)


CONTACTS = 2
"""Tries to reach a server at all: one that is out of reach is said to be so soon."""


def size_of(url: str, patience: Patience, contacts: int = CONTACTS) -> int | None:
    """Bytes of a file, or `None` where the server does not say.

    **Raises:** `Absent` if the file is not there, `Unreachable` if the server cannot be reached.
    """
    answer = _ask(url, patience, contacts)
    if answer.status_code in ABSENT:
        refuse(answer)
    # Other refusals are left to the transfer: some servers answer no question about a file.
    length = answer.headers.get("Content-Length", "")
    if answer.status_code == 200 and length.isdigit():
        return int(length)
    # The public copy says it where it sends on to the server that has the bytes.
    sizes = [hop.headers.get("X-Linked-Size", "") for hop in answer.history]
    return next((int(size) for size in sizes if size.isdigit()), None)


def _ask(url: str, patience: Patience, contacts: int) -> "Response":
    import requests

    limits = (patience.connect, patience.stall)
    headers = {"Accept-Encoding": "identity"}
    try:
        return requests.head(url, headers=headers, timeout=limits, allow_redirects=True)
    except requests.RequestException as error:
        if contacts > 1:
            return _ask(url, patience, contacts - 1)
        raise Unreachable(f"{url}: cannot be reached ({explain(error)})") from error


class Need(NamedTuple):
    """A file's size where it is known, how much of it has arrived, and the address that said so."""

    total: int | None
    arrived: int
    url: str = ""


def check_room(directory: Path, needs: Iterable[Need]) -> None:
    """There is room for what is still to come.

    **Raises:** `UserError` with what is needed and what there is.
    """
    needed = sum(max(need.total - need.arrived, 0) for need in needs if need.total is not None)
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise UserError(
            f"{directory}: {readable(needed)} are to come and {readable(free)} are free; make "
            "room, name another place with --directory, or take fewer files of a folder with "
            "--shards"
        )


def readable(size: int) -> str:
    """A number of bytes in a unit that suits it."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} bytes"
