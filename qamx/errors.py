"""Errors that are shown as one message without a traceback, and exit codes."""

import contextlib
import difflib
import enum
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

LOGGER = logging.getLogger("qamx")


class ExitCode(enum.IntEnum):
    """Exit codes, which a scheduler reads."""

    DONE = 0
    FAILED = 1
    """A run that cannot continue (`RunError`), or an error of qamx itself."""
    USER_ERROR = 2
    """A mistake that the user can correct (`UserError`)."""
    INTERRUPTED = 75
    """Stopped on request with all state saved (EX_TEMPFAIL); the same command resumes."""


class UserError(Exception):
    """A mistake that the user can correct; the message names the remedy."""


class RunError(Exception):
    """A run that cannot continue, without a mistake in its file; the message has the cause."""


def exit_code(action: Callable[[], int]) -> int:
    """Run an action and return its exit code, or that of its error, which is logged.

    One of `ExitCode`, or 130 if Ctrl-C ended an action that cannot be resumed.
    """
    try:
        return action()
    except UserError as error:
        LOGGER.error(error)
        return ExitCode.USER_ERROR
    except RunError as error:
        LOGGER.error(error)
        return ExitCode.FAILED
    except ValueError as error:
        if (message := _jax_variable_message(error)) is None:
            raise
        LOGGER.error(message)
        return ExitCode.USER_ERROR
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one prints no traceback
        LOGGER.error("interrupted")
        return 130
    except BrokenPipeError:  # `qamx report ... | head` has ended
        sys.stdout = None
        return ExitCode.DONE


@contextlib.contextmanager
def no_exit() -> Iterator[None]:
    """Turn `sys.exit` in a user's code into an error.

    **Raises:** `RuntimeError` with the traceback of the call.
    """
    try:
        yield
    except SystemExit as ended:
        last = ended.__traceback__
        # Once a run has logged there, wandb has replaced `sys.exit`.
        while last and last.tb_next and not _module(last.tb_next).startswith("wandb."):
            last = last.tb_next
        if last:
            last.tb_next = None
        error = RuntimeError(f"it called sys.exit({ended.code!r})")
        raise error.with_traceback(ended.__traceback__) from None


def _module(trace: TracebackType) -> str:
    return trace.tb_frame.f_globals.get("__name__", "")


def named(error: BaseException) -> str:
    """Type and message of an error, e.g. `ValueError: unstable`."""
    try:
        message = str(error)
    except Exception:  # an error's own code may raise anything
        message = "its message cannot be read"
    return f"{type(error).__name__}: {message}"


def _jax_variable_message(error: ValueError) -> str | None:
    """The message about a variable that JAX could not parse at its import, if that is the cause."""
    trace, text = error.__traceback__, str(error)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or _module(trace) != "jax._src.config":
        return None
    variables = {name: value for name, value in os.environ.items() if name.startswith("JAX_")}
    candidates = [name for name in variables if name in text or name.lower() in text]
    # JAX names an invalid number by its value alone.
    candidates = candidates or [name for name, value in variables.items() if repr(value) in text]
    if not candidates:
        return None
    name = max(candidates, key=len)  # one name may begin another
    return f'{name}: found "{variables[name]}", which JAX does not take ({text}); unset it'


def install_extra(extra: str) -> str:
    """The commands that install the packages of an extra; qamx itself is on no package index."""
    return f'pip install -e ".[{extra}]" in the clone of qamx, or pip install "FILE.whl[{extra}]"'


SHOWN_NAMES = 60
"""Names that a message lists at most."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The remedy for an unknown name: the most similar one, or else the known names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.55)
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    listed = f"known: {', '.join(names[:SHOWN_NAMES])}{more}"
    return f'did you mean "{near[0]}"?' if near else listed
