"""Processes of a sweep on one machine: so many at a time, dealt over its GPUs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from qamx._utils.machine import visible_gpus
from qamx.errors import ExitCode
from qamx.tools.sweep.jobs import SweepFolder
from qamx.training.guards import SCHEDULER, StopRequest

POLL_SECONDS = 0.1

MEMORY_SHARE = 0.9
"""The share of a GPU's memory that its processes take together."""

Say = Callable[[str], None]

__all__ = ["Pool", "visible_gpus", "worker_env"]


class Pool:
    """Carries out processes of a sweep, `width` at a time.

    **Arguments:** `gpus` are the names of the devices over which the places of the pool are dealt
    (none: processes see what this one sees), `stop` ends all of them, with their state saved.
    """

    def __init__(self, folder: SweepFolder, width: int, gpus: Sequence[str], stop: StopRequest):
        self._folder, self._width, self._gpus, self._stop = folder, width, gpus, stop
        self._running: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}
        self._codes: dict[str, int] = {}

    def run(self, processes: Sequence[str], say: Say = print) -> ExitCode:
        """Runs to the end, or to a stop; the outcome of all.

        `INTERRUPTED` if one was stopped, else `FAILED` if one failed: the same command continues.
        """
        waiting = list(processes)
        told = False
        try:
            while self._running or (waiting and not self._stop.made):
                if self._stop.made and not told:
                    told = True
                    self._signal(signal.SIGTERM)
                while waiting and len(self._running) < self._width and not self._stop.made:
                    self._start(waiting.pop(0))
                self._reap(say, len(processes))
                time.sleep(POLL_SECONDS)
        finally:
            self._signal(signal.SIGKILL)  # none is left, but for an error here or a second Ctrl-C
        if waiting or ExitCode.INTERRUPTED in self._codes.values():
            return ExitCode.INTERRUPTED
        return ExitCode.FAILED if any(self._codes.values()) else ExitCode.DONE

    def _start(self, process: str) -> None:
        place = next(place for place in range(self._width) if place not in self._running)
        log = self._folder.log_path(process)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._folder.clear_exit_code(process)
        order = str(self._folder.specs_path(process))
        with log.open("ab") as output:
            # A session of its own: Ctrl-C in the terminal is for this process, which passes it on.
            child = subprocess.Popen(
                [sys.executable, "-m", "qamx.tools.sweep.worker", order],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **worker_env(place, self._width, self._gpus)},
            )
        self._running[place] = process, child

    def _reap(self, say: Say, total: int) -> None:
        for place, (process, child) in list(self._running.items()):
            code = child.poll()
            if code is None:
                continue
            del self._running[place]
            if self._stop.made and -code in SCHEDULER:
                code = ExitCode.INTERRUPTED  # it came before the process could hear it
            self._codes[process] = code
            self._folder.record_exit_code(process, code)
            ended = _OUTCOMES.get(code, f"failed (exit {code})")
            say(f"[{len(self._codes)}/{total}] {process}: {ended}")

    def _signal(self, number: int) -> None:
        for _, child in self._running.values():
            child.send_signal(number)


_OUTCOMES: Mapping[int, str] = {
    ExitCode.DONE: "done",
    ExitCode.INTERRUPTED: "stopped, its state is saved",
}


def worker_env(place: int, width: int, gpus: Sequence[str]) -> dict[str, str]:
    """The variables that put a place of the pool onto its GPU, with its share of the memory."""
    if not gpus:
        return {}
    sharing = -(-width // len(gpus))
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{MEMORY_SHARE / sharing:.3f}"}
    return {"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)], **(share if sharing > 1 else {})}
