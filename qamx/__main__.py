"""The `qamx` command, and `python -m qamx`."""

import os
import signal
import sys

TYPE_CHECKING = False  # type checkers take the name for true; importing it takes a while

if TYPE_CHECKING:
    from types import FrameType

RETRY_SECONDS = 0.05


def main() -> int:
    """Run one command and return its exit status; Ctrl-C ends it with 130 from here on."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _unraisable
    try:
        from qamx._utils.terminal import print_log_alone
        from qamx.cli import main

        print_log_alone()
        return main()
    except KeyboardInterrupt:
        os.write(2, b"interrupted\n")
        return 130


def _interrupt(number: int, frame: "FrameType | None") -> None:
    """Raise `KeyboardInterrupt`, or end the process at once during an import.

    Extension modules turn the exception into an `ImportError`, or abort.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os.write(2, b"interrupted\n")
            # The module itself may be the one being imported.
            getattr(sys.modules.get("qamx._utils.processes"), "end_all_children", int)()
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Repeat an interrupt that Python had to ignore, as in JAX's callback at garbage collection."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        import threading

        threading.Timer(RETRY_SECONDS, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    sys.exit(main())
