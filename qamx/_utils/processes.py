"""Child processes: signals, termination, and checks that run in one."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

TAG = "QAMX_STARTED"
"""The environment variable of a tag."""
TERM_SECONDS = 2.0
"""Time between SIGTERM and SIGKILL."""
KILL_SECONDS = 2.0
"""Time for the system to remove a process that was killed."""
POLL_SECONDS = 0.02
_PROC = Path("/proc")


_instances: "weakref.WeakSet[ChildProcesses]" = weakref.WeakSet()


def end_all_children() -> None:
    """Ends all tagged processes that this one has started."""
    for children in list(_instances):
        children.end()


class ChildProcesses:
    """The processes started with a tag in their environment, and their descendants.

    They are found even if the process that started them has ended.

    **Arguments:** `value` is the tag, by default a new one.
    """

    def __init__(self, value: str | None = None):
        self.value = value or secrets.token_hex(16)
        self._children: set[int] = set()
        _instances.add(self)

    @contextlib.contextmanager
    def tag(self) -> Iterator[None]:
        """Tags the processes that are started inside."""
        before = os.environ.get(TAG)
        os.environ[TAG] = self.value
        try:
            yield
        finally:
            if before is None:
                del os.environ[TAG]
            else:
                os.environ[TAG] = before

    @contextlib.contextmanager
    def track(self, thread: int | None = None) -> Iterator[None]:
        """The same, also for children that are forked or started with another environment.

        **Arguments:** `thread` restricts this to the children of one thread, which costs less.
        """
        before = _children(thread)
        try:
            with self.tag():
                yield
        finally:
            self._children |= _children(thread) - before

    def running(self, session: int | None = None) -> set[int]:
        """The running ones, without this process, and those of a session."""
        own, listed = os.getpid(), _listed()
        found = {
            pid
            for pid, (parent, its_session) in listed.items()
            if its_session == session
            or (pid in self._children and parent == own)
            or self._is_tagged(pid)
        }
        while new := {pid for pid, (parent, _) in listed.items() if parent in found} - found:
            found |= new
        return found - {own}

    def end(self, session: int | None = None) -> None:
        """Ends them by SIGTERM, and by SIGKILL after a timeout."""
        for number, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
            told: set[int] = set()
            deadline = time.monotonic() + seconds
            # Repeatedly: a process may start another while it ends.
            while (left := self.running(session)) and time.monotonic() < deadline:
                for pid in left - told:
                    with contextlib.suppress(OSError):  # it has just ended
                        os.kill(pid, number)
                told |= left
                time.sleep(POLL_SECONDS)

    @contextlib.contextmanager
    def end_on_error(self) -> Iterator[None]:
        """Ends them if the block fails, as nothing else holds them."""
        try:
            yield
        except BaseException:
            self.end()
            raise

    @contextlib.contextmanager
    def end_after(self, seconds: float) -> Iterator[None]:
        """Ends them if the block takes longer, so that it stops waiting for one of them."""
        timer = threading.Timer(seconds, self.end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _is_tagged(self, pid: int) -> bool:
        try:
            return self.value.encode() in (_PROC / str(pid) / "environ").read_bytes()
        except OSError:  # it has just ended, or is another user's
            return False


class _Ended(BaseException):
    """Raised at a signal that ends this process, with its number."""


@contextlib.contextmanager
def exit_cleanly() -> Iterator[None]:
    """Closes what is open inside before a signal ends this process."""

    def leave(number: int, frame: object) -> NoReturn:
        signal.signal(number, signal.SIG_DFL)  # a second one does end the process at once
        raise _Ended(number)

    ending = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    try:
        with handle_signals(ending, leave):
            yield
    except _Ended as ended:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os.kill(os.getpid(), ended.args[0])
        raise SystemExit(128 + ended.args[0]) from None


_replaced: list[dict[int, Any]] = []
"""The handlers that were replaced, the outermost first."""


@contextlib.contextmanager
def handle_signals(
    numbers: Iterable[int], handler: Callable[[int, object], object]
) -> Iterator[None]:
    """Handles signals inside; not in processes that are started there, even by a fork."""
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
"""The signals that were blocked before each fork in progress."""


def _before_fork() -> None:
    # A signal that comes before the child's handlers are put back would be lost there.
    held = {number for handlers in _replaced for number in handlers}
    _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, held))


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


def _after_fork_in_child() -> None:
    if _replaced:  # signals of the child must not be heard by the parent's listener
        signal.set_wakeup_fd(-1)
    while _replaced:
        _put_back(_replaced.pop())
    _after_fork()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)


def _listed() -> dict[int, tuple[int, int]]:
    """Parent and session of each running process; none where the system has no such table."""
    processes: dict[int, tuple[int, int]] = {}
    for name in os.listdir(_PROC) if _PROC.is_dir() else ():
        if not name.isdecimal():
            continue
        try:
            text = (_PROC / name / "stat").read_text(errors="replace")
        except OSError:
            continue
        state, parent, _, session, *_ = text.rpartition(")")[2].split()
        if state not in "ZX":
            processes[int(name)] = int(parent), int(session)
    return processes


def _children(thread: int | None = None) -> set[int]:
    """Children of this process, or of one of its threads, where the system lists them."""
    threads = os.listdir(_PROC / "self/task") if thread is None and _PROC.is_dir() else [thread]
    children: set[int] = set()
    for number in threads:
        with contextlib.suppress(OSError), open(f"/proc/self/task/{number}/children") as listed:
            children.update(map(int, listed.read().split()))
    return children


def output_of(
    command: Sequence[str], seconds: float, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command with its output captured, and with further environment variables.

    **Raises:** `OSError` if it cannot be run, `subprocess.TimeoutExpired` after `seconds`.
    """
    return subprocess.run(
        command,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        errors="replace",
        timeout=seconds,
    )


SECONDS = 20.0
"""Timeout of a check on a machine that is not overloaded: they run in parallel, and the command
should end within 30 s there."""

SLOW = "slow"
"""The first word on a check that had no answer on an overloaded machine."""

DEVICE = """
import os
import sys
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # only reads the memory's size
import jax
from qamx._utils.backend import check_jax
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
sys.stdout.write(f"{jax.default_backend()}: {len(jax.devices())} x {device.device_kind}{memory}")
"""

RENDERING = """
import sys
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='.3'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 48, 64) as renderer:
    renderer.update_scene(data)
    assert renderer.render().std() > 0, "the image is empty"
sys.stdout.write("an image was drawn")
"""

ENVIRONMENT = """
import sys
import numpy as np
from qamx.envs import OGBenchEnvironment
env = OGBenchEnvironment("cube-single-play", 1)
env.reset(0)
for _ in range(10):
    step = env.step(np.zeros(env.action_size, np.float32))
assert np.isfinite(step.observation).all(), "an observation is not finite"
sys.stdout.write("cube-single-play: 10 steps")
"""

BACKENDS = ("egl", "osmesa")
"""Backends of MuJoCo that need no display, the faster first."""

VARIABLES = ("MUJOCO_GL", "PYOPENGL_PLATFORM")
"""The variables that choose the backend; they must agree."""


class Renderer(NamedTuple):
    """The rendering backend of MuJoCo on this machine.

    **Arguments:** `backend` is a value for `MUJOCO_GL` that draws, empty for MuJoCo's default,
    None without any; `said` describes the attempts; `remedy` is for variables that choose a
    backend that does not draw, or for a machine without any.
    """

    backend: str | None
    said: str
    remedy: str = ""


def find_renderer() -> Renderer:
    """Tries the variables' choice, or a display; without one, or if it fails, `BACKENDS`."""
    asked = {name: os.environ[name] for name in VARIABLES if os.environ.get(name, "").strip()}
    display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    failed = ""
    if asked or display or sys.platform != "linux":
        choice = canonical(asked.get("MUJOCO_GL", ""))
        platform = canonical(asked.get("PYOPENGL_PLATFORM", ""))
        choice = choice or (platform if platform in BACKENDS else "")
        named = ", ".join(f"{name}={value}" for name, value in asked.items()) or "the display"
        works, last = probe(RENDERING, MUJOCO_GL=choice)
        if works:
            return Renderer(choice, f"{named}: {last}")
        failed = f"{named} does not draw here ({last})"
    backend, tried = first_backend()
    if backend is None:
        said = f"{failed}, nor does anything else" if failed else "nothing draws here"
        install = "install EGL (Debian: apt-get install libegl1 libgl1) or OSMesa (libosmesa6)"
        return Renderer(None, f"{said} ({tried})", install)
    wrong = [name for name, value in asked.items() if canonical(value) != backend]
    if not wrong:
        return Renderer(backend, "; ".join(filter(None, (failed, tried))))
    rather = f", or write MUJOCO_GL={backend}" if wrong == ["MUJOCO_GL"] else ""
    return Renderer(backend, failed, f"{backend} does: unset {' and '.join(wrong)}{rather}")


def first_backend() -> tuple[str | None, str]:
    """The first of `BACKENDS` that draws, None without any; and their messages."""
    failures = []
    for backend in BACKENDS:
        # Where it is set to another, this one could not be loaded.
        platform = {"PYOPENGL_PLATFORM": backend} if os.environ.get("PYOPENGL_PLATFORM") else {}
        works, last = probe(RENDERING, MUJOCO_GL=backend, **platform)
        if works:
            return backend, f"{backend}: {last}"
        failures.append(f"{backend}: {last}")
    return None, "; ".join(failures)


def canonical(value: str) -> str:
    """A backend as MuJoCo reads it; dm_control, which OGBench uses, takes no capitals."""
    return value.strip().lower()


def probe(code: str, **variables: str) -> tuple[bool, str]:
    """Runs Python code in a process; returns its success and its last line of output."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    seconds = SECONDS * max(1.0, load / cores)  # a busy machine is slow, and not broken
    try:
        done = output_of([sys.executable, "-c", code], seconds, **variables)
    except subprocess.TimeoutExpired:
        text = f"no answer within {seconds:.0f} s"
        return False, f"{SLOW}: {text} (load {load:.0f}, {cores} cores)" if load > cores else text
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f"exit status {done.returncode}"
