"""One file by HTTP, which goes on where an earlier attempt, or an earlier command, ended."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from typing import TYPE_CHECKING

from qamx.data.download.part import Part, Version
from qamx.data.download.patience import Patience
from qamx.errors import UserError

if TYPE_CHECKING:
    from requests import Response, Session

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
