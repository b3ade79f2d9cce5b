"""What a server says of its files, and whether there is room for them, before any is fetched."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qamx.data.download.patience import Patience
from qamx.data.download.transfer import ABSENT, Unreachable, explain, refuse
from qamx.errors import UserError

if TYPE_CHECKING:
    from requests import Response

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
