"""Processes that this one starts, and their ends: none is left behind."""

import contextlib
import os
import secrets
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

MARK = "QAMX_STARTED"
"""The variable that holds a mark."""
TERM_SECONDS = 2.0
"""How long a process has to end after SIGTERM before it is killed."""
KILL_SECONDS = 2.0
"""How long the system may take to remove a process that was killed."""
POLL_SECONDS = 0.02
_PROC = Path("/proc")


class Listed(NamedTuple):
    """A process of the system's table."""

    parent: int
    session: int


_made: "weakref.WeakSet[Marked]" = weakref.WeakSet()


def end_started() -> None:
    """Ends whatever this process has started under a mark."""
    for marked in list(_made):
        marked.end()


class Marked:
    """The processes that were started with a mark in their environment, and their descendants.

    They are found whether or not the process that started them is still there.

    **Arguments:** `mark` is by default one that nothing has.
    """

    def __init__(self, mark: str | None = None):
        self.mark = mark or secrets.token_hex(16)
        self._children: set[int] = set()
        _made.add(self)

    @contextlib.contextmanager
    def marking(self) -> Iterator[None]:
        """What this process starts inside has the mark."""
        before = os.environ.get(MARK)
        os.environ[MARK] = self.mark
        try:
            yield
        finally:
            if before is None:
                del os.environ[MARK]
            else:
                os.environ[MARK] = before

    @contextlib.contextmanager
    def noting(self, thread: int | None = None) -> Iterator[None]:
        """The same, also for children that are forked, or started with another environment.

        **Arguments:** `thread` is the only one whose children are looked at, which costs less.
        """
        before = _children(thread)
        try:
            with self.marking():
                yield
        finally:
            self._children |= _children(thread) - before

    def running(self, session: int | None = None) -> set[int]:
        """Those that have not ended, this one apart, and those of a session."""
        own, listed = os.getpid(), _listed()
        roots = {
            pid
            for pid, one in listed.items()
            if one.session == session
            or (pid in self._children and one.parent == own)
            or self._has(pid)
        }
        return (roots | _descendants(roots, listed)) - {own}

    def end(self, session: int | None = None) -> None:
        """Ends them, by SIGTERM and after a while by SIGKILL."""
        for number, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
            told: set[int] = set()
            deadline = time.monotonic() + seconds
            # Again and again, as one that ends may start another.
            while (left := self.running(session)) and time.monotonic() < deadline:
                for pid in left - told:
                    with contextlib.suppress(OSError):  # it has just ended
                        os.kill(pid, number)
                told |= left
                time.sleep(POLL_SECONDS)

    @contextlib.contextmanager
    def ended_at_error(self) -> Iterator[None]:
        """Ends them if the block fails: nobody holds what it was to make."""
        try:
            yield
        except BaseException:
            self.end()
            raise

    @contextlib.contextmanager
    def ended_after(self, seconds: float) -> Iterator[None]:
        """Ends them if the block takes longer: what waits for one of them goes on then."""
        timer = threading.Timer(seconds, self.end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _has(self, pid: int) -> bool:
        try:
            return self.mark.encode() in (_PROC / str(pid) / "environ").read_bytes()
        except OSError:  # it has just ended, or is another user's
            return False


class _Ended(BaseException):
    """Raised where a signal asks this process to end."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """A signal that would end this process at once ends it after all inside has been closed."""

    def leave(number: int, frame: object) -> NoReturn:
        signal.signal(number, signal.SIG_DFL)  # a second one does end the process at once
        raise _Ended(number)

    ending = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    try:
        with handling(ending, leave):
            yield
    except _Ended as ended:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os.kill(os.getpid(), ended.number)
        raise SystemExit(128 + ended.number) from None


_replaced: list[dict[int, Any]] = []
"""The handlers that stood before those of this process's own, the outermost first."""


@contextlib.contextmanager
def handling(numbers: Iterable[int], handler: Callable[[int, object], object]) -> Iterator[None]:
    """Signals are handled so inside; not in processes that are started there, forked ones too."""
    # Python hears signals in the main thread alone.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in numbers}
    _replaced.append(previous)
    try:
        yield
    finally:
        _replaced.pop()
        _put_back(previous)


def _put_back(handlers: dict[int, Any]) -> None:
    for number, before in handlers.items():
        signal.signal(number, signal.SIG_DFL if before is None else before)


_masks: list[set[Any]] = []
"""The signals that were blocked before each fork that is under way."""


def _before_fork() -> None:
    # A signal that comes before the child's handlers are put back would be lost there.
    held = {number for handlers in _replaced for number in handlers}
    _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, held))


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


def _after_fork_in_child() -> None:
    while _replaced:
        _put_back(_replaced.pop())
    _after_fork()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)


def _listed() -> dict[int, Listed]:
    """The processes that have not ended, by number; none where the system has no such table."""
    found: dict[int, Listed] = {}
    for name in os.listdir(_PROC) if _PROC.is_dir() else ():
        if not name.isdecimal():
            continue
        try:
            text = (_PROC / name / "stat").read_text(errors="replace")
        except OSError:
            continue
        state, parent, _, session, *_ = text.rpartition(")")[2].split()
        if state not in "ZX":
            found[int(name)] = Listed(int(parent), int(session))
    return found


def _children(thread: int | None = None) -> set[int]:
    """Of this process, or of one of its threads, where the system lists them."""
    threads = os.listdir(_PROC / "self/task") if thread is None and _PROC.is_dir() else [thread]
    found: set[int] = set()
    for number in threads:
        with contextlib.suppress(OSError), open(f"/proc/self/task/{number}/children") as listed:
            found.update(map(int, listed.read().split()))
    return found


def _descendants(roots: Collection[int], listed: dict[int, Listed]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, one in listed.items():
        children.setdefault(one.parent, []).append(pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        new = set(children.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found
