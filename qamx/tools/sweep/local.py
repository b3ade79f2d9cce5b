"""Local executor of a sweep: a pool of processes, distributed over the GPUs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from qamx.errors import ExitCode
from qamx.tools.sweep.jobs import SweepFolder
from qamx.training.guards import SCHEDULER, StopRequest

POLL_SECONDS = 0.1

MEMORY_SHARE = 0.9
"""The share of a GPU's memory for all of its processes."""

_OUTCOMES: Mapping[int, str] = {
    ExitCode.DONE: "done",
    ExitCode.INTERRUPTED: "stopped, its state is saved",
}


class Pool:
    """Runs processes of a sweep, `width` at a time.

    **Arguments:** `gpus` are the devices of the slots, in turn (empty: those of this process);
    `stop` ends all processes with their state saved.
    """

    def __init__(self, folder: SweepFolder, width: int, gpus: Sequence[str], stop: StopRequest):
        self._folder, self._width, self._gpus, self._stop = folder, width, gpus, stop
        self._running: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}
        self._codes: dict[str, int] = {}

    def run(self, processes: Sequence[str]) -> ExitCode:
        """Runs all processes; `INTERRUPTED` if one was stopped, else `FAILED` if one failed.

        The same command resumes.
        """
        waiting, stopping = list(processes), False
        try:
            while self._running or (waiting and not self._stop.made):
                if self._stop.made and not stopping:
                    stopping = True
                    self._signal(signal.SIGTERM)
                while waiting and len(self._running) < self._width and not self._stop.made:
                    self._start(waiting.pop(0))
                self._reap(len(processes))
                time.sleep(POLL_SECONDS)
        finally:
            self._signal(signal.SIGKILL)  # after an error here or a second Ctrl-C
        if waiting or ExitCode.INTERRUPTED in self._codes.values():
            return ExitCode.INTERRUPTED
        return ExitCode.FAILED if any(self._codes.values()) else ExitCode.DONE

    def _start(self, process: str) -> None:
        slot = next(slot for slot in range(self._width) if slot not in self._running)
        log = self._folder.log_path(process)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._folder.clear_exit_code(process)
        specs = str(self._folder.specs_path(process))
        with log.open("ab") as output:
            # A new session: Ctrl-C in the terminal reaches this process alone, which passes it on.
            child = subprocess.Popen(
                [sys.executable, "-m", "qamx.tools.sweep.worker", specs],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **worker_env(slot, self._width, self._gpus)},
            )
        self._running[slot] = process, child

    def _reap(self, total: int) -> None:
        for slot, (process, child) in list(self._running.items()):
            code = child.poll()
            if code is None:
                continue
            del self._running[slot]
            if self._stop.made and -code in SCHEDULER:
                code = ExitCode.INTERRUPTED  # it came before the process had its handler
            self._codes[process] = code
            self._folder.record_exit_code(process, code)
            ended = _OUTCOMES.get(code, f"failed (exit {code})")
            print(f"[{len(self._codes)}/{total}] {process}: {ended}", flush=True)

    def _signal(self, number: int) -> None:
        for _, child in self._running.values():
            child.send_signal(number)


def worker_env(slot: int, width: int, gpus: Sequence[str]) -> dict[str, str]:
    """Environment variables of a slot: its GPU, and its share of the GPU's memory."""
    if not gpus:
        return {}
    sharing = -(-width // len(gpus))
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{MEMORY_SHARE / sharing:.3f}"}
    return {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)], **(share if sharing > 1 else {})}
