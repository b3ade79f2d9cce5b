"""One resumable HTTP transfer: partial file, version, retry policy."""

import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qamx._utils.files import atomic_path
from qamx.errors import UserError

if TYPE_CHECKING:
    from requests import Response

CONTACTS = 2
"""Attempts to reach a server at all, so that one out of reach is reported soon."""

NOT_FOUND = frozenset({404, 410})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_CHUNK = 2**18
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)[^/]*/?(?P<total>.*)")
"""The header of a part, such as `bytes 100-199/200`."""


class ServerError(UserError):
    """A server does not deliver a file; another may."""


class NotFoundError(ServerError):
    """The server has no such file."""


class UnreachableError(ServerError):
    """The server does not respond, or fails too often."""


class Cancelled(Exception):
    """The transfer was told to stop."""


class _RetryableError(Exception):
    """A failed attempt, with the pause in seconds that the server asks for."""

    def __init__(self, reason: str, pause: float = 0.0):
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True)
class RetryPolicy:
    """Timeouts and retries of a download.

    **Arguments:**

    - `connect`: seconds until a connection attempt times out.
    - `stall`: seconds without a byte until a connection is closed.
    - `attempts`: failures in a row until a file is given up; progress resets the count.
    - `pause`: seconds before the first retry, doubled with each failure.
    - `longest_pause`: upper bound of a pause, also of one that the server asks for.
    """

    connect: float = 10.0
    stall: float = 30.0
    attempts: int = 6
    pause: float = 1.0
    longest_pause: float = 60.0

    def pause_after(self, failures: int, requested: float = 0.0) -> float:
        """Seconds before the next attempt, at least `requested`."""
        return min(max(self.pause * 2 ** (failures - 1), requested), self.longest_pause)


class Version(NamedTuple):
    """The version of a file on a server; `None` for what the server does not tell.

    **Arguments:** `etag` and `modified` are response headers, `total` is the size in bytes,
    `source` the URL.
    """

    etag: str | None = None
    modified: str | None = None
    total: int | None = None
    source: str | None = None

    @classmethod
    def of(cls, response: "Response", url: str, total: str) -> "Version":
        """The version in a response's headers; `total` is a header's text."""
        headers, size = response.headers, int(total) if total.isdigit() else None
        return cls(headers.get("ETag"), headers.get("Last-Modified"), size, url)

    @property
    def validator(self) -> str | None:
        """The value for `If-Range`: a strong ETag, else the date (RFC 9110, 13.1.5)."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.modified

    def is_from(self, url: str) -> bool:
        """True if the version is that of `url`, or of an unknown URL."""
        return self.source in (None, url)

    def contradicts(self, other: "Version") -> bool:
        """True if a header known of both differs."""
        pairs = zip(self, other, strict=True)
        return any(None not in pair and pair[0] != pair[1] for pair in pairs)


class PartialFile:
    """The first bytes of a file, with the version that they belong to in a JSON file."""

    def __init__(self, path: Path):
        self.path = path
        self._version_file = path.with_name(f"{path.name}.json")

    @property
    def size(self) -> int:
        """Bytes received."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def version(self) -> Version:
        """The version of the received bytes, empty if it is unknown."""
        try:
            return Version(**json.loads(self._version_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Version()

    @version.setter
    def version(self, version: Version) -> None:
        self._version_file.write_text(json.dumps(version._asdict()), encoding="utf-8")

    def discard(self) -> None:
        """Removes the file and its version."""
        self.path.unlink(missing_ok=True)
        self._version_file.unlink(missing_ok=True)

    def move_to(self, path: Path) -> None:
        """Moves the complete file to its final path in one step."""
        try:
            os.replace(self.path, path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # The folder of a set may be a link to another disk.
            with atomic_path(path) as copy:
                shutil.copyfile(self.path, copy)
        self.discard()


@dataclass(frozen=True)
class Transfer:
    """Completes a partial file from a URL.

    **Arguments:** `progress` is called with the bytes received; `stop` cancels; `hashed` tells that
    the file's checksum is known and will be compared, so that bytes from another server may be
    continued.
    """

    part: PartialFile
    policy: RetryPolicy
    stop: threading.Event
    progress: Callable[[int], None]
    hashed: bool = False

    def run(self, url: str) -> None:
        """Fetches the missing bytes, with retries; the partial file is kept on failure.

        **Raises:** `ServerError` if the server refuses, or the attempts are used up; `UserError`
        if the disk is full; `Cancelled`.
        """
        failures, largest = 0, self.part.size
        while not self.part.path.exists() or self.part.size != self.part.version.total:
            try:
                self._attempt(url)
                return
            except _RetryableError as error:
                failures = 1 if self.part.size > largest else failures + 1
                largest = max(largest, self.part.size)
                if failures >= self.policy.attempts:
                    reason = f"{url}: {error}, {failures} times in a row"
                    raise UnreachableError(reason) from error
                self.stop.wait(self.policy.pause_after(failures, error.pause))
            if self.stop.is_set():
                raise Cancelled

    def _attempt(self, url: str) -> None:
        import requests
        import urllib3

        timeout = (self.policy.connect, self.policy.stall)
        try:
            headers = self._headers(url)
            with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
                self._align(response, url)
                self._receive(response)
        except requests.ConnectTimeout as error:
            reason = f"the server did not answer for {self.policy.connect:g} seconds"
            raise _RetryableError(reason) from error
        except (requests.Timeout, urllib3.exceptions.ReadTimeoutError) as error:
            raise _RetryableError(f"no byte came for {self.policy.stall:g} seconds") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _RetryableError(_root_cause(error)) from error

    def _headers(self, url: str) -> dict[str, str]:
        # Ranges count the bytes of the encoded body: compression on the way would shift them.
        headers = {"Accept-Encoding": "identity"}
        saved, rest = self.part.version, {"Range": f"bytes={self.part.size}-"}
        if not self.part.size:
            return headers
        if saved.is_from(url):
            validator = saved.validator
            return headers | ({} if validator is None else {**rest, "If-Range": validator})
        # Validators of another server mean nothing here: size and checksum must agree instead.
        return headers | (rest if self.hashed and saved.total is not None else {})

    def _align(self, response: "Response", url: str) -> None:
        """Makes the partial file end where the response's body begins."""
        if response.status_code == 206:
            found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            version = Version.of(response, url, found["total"] if found else "")
            if found and int(found["first"]) == self.part.size and self._continues(version, url):
                return
            self.part.discard()
            raise _RetryableError("the file changed while it was fetched")
        if response.status_code == 416:  # the file is shorter now
            self.part.discard()
            raise _RetryableError("the server has no bytes behind those that have arrived")
        raise_for_status(response)
        # From the first byte: the server ignores ranges, or has another version. In this order, a
        # kill in between leaves no bytes under a wrong version.
        self.part.path.write_bytes(b"")
        self.part.version = Version.of(response, url, response.headers.get("Content-Length", ""))

    def _continues(self, version: Version, url: str) -> bool:
        saved = self.part.version
        if saved.is_from(url):
            return not version.contradicts(saved)
        if version.total != saved.total:
            return False
        self.part.version = version
        return True

    def _receive(self, response: "Response") -> None:
        size, total = self.part.size, self.part.version.total
        self.progress(size)
        # Without a buffer, a kill loses no byte.
        with self.part.path.open("ab", buffering=0) as file:
            while chunk := response.raw.read1(_CHUNK, decode_content=False):
                if self.stop.is_set():
                    raise Cancelled
                self._write(file, chunk)
                size += len(chunk)
                self.progress(size)
            os.fsync(file.fileno())
        if total is not None and size != total:
            raise _RetryableError(f"the connection ended after {size:,} of {total:,} bytes")

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


def remote_size(url: str, policy: RetryPolicy, contacts: int = CONTACTS) -> int | None:
    """The size of a file in bytes, `None` if the server does not tell.

    **Raises:** `NotFoundError`; `UnreachableError` after `contacts` failed attempts.
    """
    import requests

    timeout, headers = (policy.connect, policy.stall), {"Accept-Encoding": "identity"}
    try:
        response = requests.head(url, headers=headers, timeout=timeout, allow_redirects=True)
    except requests.RequestException as error:
        if contacts > 1:
            return remote_size(url, policy, contacts - 1)
        raise UnreachableError(f"{url}: cannot be reached ({_root_cause(error)})") from error
    if response.status_code in NOT_FOUND:
        raise_for_status(response)
    # Other refusals are left to the transfer: some servers support no HEAD.
    length = response.headers.get("Content-Length", "")
    if response.status_code == 200 and length.isdigit():
        return int(length)
    # The public copy tells the size in the redirect to the server that has the bytes.
    sizes = [hop.headers.get("X-Linked-Size", "") for hop in response.history]
    return next((int(size) for size in sizes if size.isdigit()), None)


def raise_for_status(response: "Response") -> None:
    """Returns for status 200.

    **Raises:** `ServerError` for a permanent error, a retryable error for a transient one.
    """
    status, url = response.status_code, response.url
    if status == 200:
        return
    answer = f"the server answers {status} {response.reason}"
    if status in _TRANSIENT:
        pause = response.headers.get("Retry-After", "")
        raise _RetryableError(answer, float(pause) if pause.isdigit() else 0.0)
    if status in NOT_FOUND:
        raise NotFoundError(f"{url}: not there ({answer})")
    if status in (401, 403):
        raise ServerError(f"{url}: access is refused ({answer})")
    raise ServerError(f"{url}: {answer}")


def _root_cause(error: Exception) -> str:
    """The reason of a network failure, without the layers of libraries around it."""
    cause: BaseException = error
    while isinstance(cause.args[0] if cause.args else None, BaseException):
        cause = cause.args[0]
    reason = getattr(cause, "reason", None)
    return str(reason if isinstance(reason, BaseException) else cause)


def format_bytes(size: float) -> str:
    """A number of bytes in a fitting unit."""
    from rich.filesize import decimal

    return decimal(int(size))
