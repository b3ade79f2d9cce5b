"""What a server says of its files, and whether there is room for them, before any is fetched."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qamx.data.download.patience import Patience
from qamx.data.download.transfer import ABSENT, explain, refuse
from qamx.errors import UserError

if TYPE_CHECKING:
    from requests import Response

_CONTACTS = 2
"""Tries to reach a server at all: one that is out of reach is said to be so soon."""


def size_of(url: str, patience: Patience) -> int | None:
    """Bytes of a file, or `None` where the server does not say.

    **Raises:** `Absent` if the file is not there, `UserError` if the server cannot be reached.
    """
    answer = _ask(url, patience, _CONTACTS)
    if answer.status_code in ABSENT:
        refuse(answer)
    # Other refusals are left to the transfer: some servers answer no question about a file.
    length = answer.headers.get("Content-Length", "")
    return int(length) if answer.status_code == 200 and length.isdigit() else None


def _ask(url: str, patience: Patience, contacts: int) -> "Response":
    import requests

    limits = (patience.connect, patience.stall)
    headers = {"Accept-Encoding": "identity"}
    try:
        return requests.head(url, headers=headers, timeout=limits, allow_redirects=True)
    except requests.RequestException as error:
        if contacts > 1:
            return _ask(url, patience, contacts - 1)
        raise UserError(f"{url}: cannot be reached ({explain(error)})") from error


class Need(NamedTuple):
    """A file's size where it is known, and how much of it has arrived."""

    total: int | None
    arrived: int


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
