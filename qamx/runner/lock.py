"""One process at a time in a run's directory."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

from qamx.errors import UserError

PATIENCE = 0.5
"""Seconds in which a lock is tried: whoever only looks at it holds it for an instant."""


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the directory inside `with`.

    The operating system holds the lock for the process and frees it however the process ends;
    the file that stays behind locks nothing.

    **Raises:** `UserError` that names the holder, if another process holds it.
    """
    lock = filelock.FileLock(directory / "lock", timeout=PATIENCE, poll_interval=0.05)
    holder = directory / "lock.json"
    try:
        held = lock.acquire()
    except filelock.Timeout as error:
        raise UserError(
            f"{directory}: another process works here ({_describe(holder)}); wait for its end, or "
            "name another directory with --out"
        ) from error
    with held:
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        yield


def is_locked(directory: Path) -> bool:
    """Whether a process works in the directory."""
    path = directory / "lock"
    if not path.exists():
        return False
    try:
        with filelock.FileLock(path, timeout=0):
            return False
    except filelock.Timeout:
        return True


def _describe(holder: Path) -> str:
    try:
        found = json.loads(holder.read_bytes())
        return f"pid {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has only just begun"
