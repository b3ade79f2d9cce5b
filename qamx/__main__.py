"""The `qamx` command, and `python -m qamx`."""

import os
import signal
import sys

TYPE_CHECKING = False  # type checkers take the name for true; importing it takes a while

if TYPE_CHECKING:
    from types import FrameType

AGAIN_SECONDS = 0.05


def main() -> int:
    """Runs one command and returns its exit status; Ctrl-C ends it with 130 from here on."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _unraisable
    try:
        from qamx.cli import main

        return main()
    except KeyboardInterrupt:
        os.write(2, b"interrupted\n")
        return 130


def _interrupt(number: int, frame: "FrameType | None") -> None:
    """Raises `KeyboardInterrupt`, or ends the process at once where a module is being imported.

    Extension modules turn the exception into an `ImportError`, or abort.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            os.write(2, b"interrupted\n")
            # It may be what is being imported.
            getattr(sys.modules.get("qamx._utils.processes"), "end_all_children", int)()
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Interrupts again where Python could only ignore it, as in a callback of JAX's at each
    collection of garbage."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        import threading

        threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    sys.exit(main())
