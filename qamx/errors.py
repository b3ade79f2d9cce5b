"""Errors that are shown as one message, without a traceback, and the exit codes of a command."""

import contextlib
import difflib
import enum
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType


class ExitCode(enum.IntEnum):
    """What the end of a command tells the scheduler that started it."""

    DONE = 0
    FAILED = 1
    """A run that cannot go on (`RunError`), or an error of qamx itself."""
    USER_ERROR = 2
    """A mistake that the user can correct (`UserError`)."""
    INTERRUPTED = 75
    """Stopped on request with all state saved (EX_TEMPFAIL): the same command continues."""


class UserError(Exception):
    """A mistake the user can correct; its message says what to do instead."""


class RunError(Exception):
    """A run that cannot go on, through no mistake in its file; its message says what was seen."""


def exit_code(action: Callable[[], int]) -> int:
    """What a command ends with: the action's own code, or that of its error, which is printed.

    One of `ExitCode`, or 130 where Ctrl-C ended something that cannot be continued.
    """
    try:
        return action()
    except UserError as error:
        print(error, file=sys.stderr)
        return ExitCode.USER_ERROR
    except RunError as error:
        print(error, file=sys.stderr)
        return ExitCode.FAILED
    except ValueError as error:
        if (said := _switch_of_jax(error)) is None:
            raise
        print(said, file=sys.stderr)
        return ExitCode.USER_ERROR
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one, while this ends, is quiet
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `qamx report ... | head` has read all it wants
        sys.stdout = None
        return ExitCode.DONE


@contextlib.contextmanager
def no_exit() -> Iterator[None]:
    """Code of others, which is not the program: `sys.exit` in it is a failure like any other.

    **Raises:** `RuntimeError` with the place of the call.
    """
    try:
        yield
    except SystemExit as left:
        last = left.__traceback__
        # Once a run has logged there, wandb has a function of its own in the place of `sys.exit`.
        while last and last.tb_next and not _is_wandb(last.tb_next):
            last = last.tb_next
        if last:
            last.tb_next = None
        error = RuntimeError(f"it called sys.exit({left.code!r})")
        raise error.with_traceback(left.__traceback__) from None


def _is_wandb(trace: TracebackType) -> bool:
    return trace.tb_frame.f_globals.get("__name__", "").startswith("wandb.")


def named(error: BaseException) -> str:
    """Type and message of an error, e.g. `ValueError: unstable`."""
    try:
        message = str(error)
    except Exception:  # whatever an error's own code raises
        message = "its message cannot be read"
    return f"{type(error).__name__}: {message}"


def _switch_of_jax(error: ValueError) -> str | None:
    """The message about a variable that JAX could not read as it was imported, if this is why."""
    trace, text = error.__traceback__, str(error)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_globals.get("__name__") != "jax._src.config":
        return None
    variables = {name: found for name, found in os.environ.items() if name.startswith("JAX_")}
    candidates = [name for name in variables if name in text or name.lower() in text]
    # A number that is none is named by its value alone.
    candidates = candidates or [name for name, found in variables.items() if repr(found) in text]
    if not candidates:
        return None
    name = max(candidates, key=len)  # one name may begin another
    return f'{name}: found "{variables[name]}", which JAX does not take ({text}); unset it'


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to write for a name that is not known: the nearest one, or else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.55)
    return f'did you mean "{near[0]}"?' if near else "known: " + ", ".join(names)
