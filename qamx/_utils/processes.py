"""Child processes: signals, their end, and checks that run in one."""

import contextlib
import os
import secrets
import signal
import subprocess
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


SECONDS = 20.0
"""After which a probe is given up: they run together, and the command is to end within 30."""

DEVICE = """
import os
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # look at the memory, leave it
import jax
from qamx.backend import check_jax
from qamx.errors import UserError
try:
    check_jax()
except UserError as error:
    raise SystemExit(str(error))
device = jax.devices()[0]
total = float(jax.numpy.arange(1000.0).sum())
assert total == 499500.0, f"a sum of numbers gives {total}"
limit = (device.memory_stats() or {}).get("bytes_limit")
memory = f", {limit / 2**30:.0f} GiB free to JAX" if limit else ""
print(f"{jax.default_backend()}: {len(jax.devices())} x {device.device_kind}{memory}")
"""

RENDERING = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='.3'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 48, 64) as renderer:
    renderer.update_scene(data)
    assert renderer.render().std() > 0, "the image is empty"
print("an image was drawn")
"""

ENVIRONMENT = """
import numpy as np
from qamx.envs import OGBenchEnvironment
env = OGBenchEnvironment("cube-single-play", 1)
env.reset(0)
for _ in range(10):
    step = env.step(np.zeros(env.action_size, np.float32))
assert np.isfinite(step.observation).all(), "an observation is not finite"
print("cube-single-play: 10 steps")
"""

BACKENDS = ("egl", "osmesa")
"""What MuJoCo can draw with without a display, the faster first."""

CHOOSING = ("MUJOCO_GL", "PYOPENGL_PLATFORM")
"""The variables that choose what MuJoCo draws with; they must agree."""

INSTALL = "install EGL (Debian: apt-get install libegl1 libgl1) or OSMesa (libosmesa6)"


class Drawing(NamedTuple):
    """What MuJoCo draws with here.

    **Arguments:** `backend` is a value for `MUJOCO_GL` that draws, empty for MuJoCo's own choice,
    None without any; `said` tells what was tried; `remedy` what to do where the variables ask for
    what does not draw, or nothing does.
    """

    backend: str | None
    said: str
    remedy: str = ""


def drawing() -> Drawing:
    """Tries what the variables ask for, or a display; else, or if that fails, `BACKENDS`."""
    asked = {name: os.environ[name] for name in CHOOSING if os.environ.get(name, "").strip()}
    if not asked and sys.platform == "linux" and not _has_display():
        backend, said = drawing_backend()
        found = Drawing(backend, said)
        return found if backend else Drawing(None, f"nothing draws here ({said})", INSTALL)
    wanted = canonical(asked.get("MUJOCO_GL", ""))
    platform = canonical(asked.get("PYOPENGL_PLATFORM", ""))
    wanted = wanted or (platform if platform in BACKENDS else "")
    named = ", ".join(f"{name}={value}" for name, value in asked.items()) or "the display"
    works, last = probe(RENDERING, MUJOCO_GL=wanted)
    if works:
        return Drawing(wanted, f"{named}: {last}")
    failed = f"{named} does not draw here ({last})"
    backend, said = drawing_backend()
    if backend is None:
        return Drawing(None, f"{failed}, nor does anything else ({said})", INSTALL)
    wrong = [name for name, value in asked.items() if canonical(value) != backend]
    if not wrong:
        return Drawing(backend, f"{failed}; {said}")
    rather = f", or write MUJOCO_GL={backend}" if wrong == ["MUJOCO_GL"] else ""
    return Drawing(backend, failed, f"{backend} does: unset {' and '.join(wrong)}{rather}")


def drawing_backend() -> tuple[str | None, str]:
    """The first of `BACKENDS` that draws here, None without any; and what was said of them."""
    said = []
    for backend in BACKENDS:
        # Where it is set to another, this one could not be loaded.
        platform = {"PYOPENGL_PLATFORM": backend} if os.environ.get("PYOPENGL_PLATFORM") else {}
        works, last = probe(RENDERING, MUJOCO_GL=backend, **platform)
        if works:
            return backend, f"{backend}: {last}"
        said.append(f"{backend}: {last}")
    return None, "; ".join(said)


def canonical(value: str) -> str:
    """A backend as MuJoCo reads it; dm_control, of which OGBench makes use, takes no capitals."""
    return value.strip().lower()


def _has_display() -> bool:
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def probe(code: str, **variables: str) -> tuple[bool, str]:
    """Runs Python code in a process; whether it ended well, and the last line that it said."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {SECONDS:.0f} s"
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, said[-1] if said else f"exit status {done.returncode}"
