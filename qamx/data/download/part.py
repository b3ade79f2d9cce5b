"""The beginning of a file, kept between attempts and between commands."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path


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
