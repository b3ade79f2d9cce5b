"""Local executor of a sweep: a pool of processes, distributed over the GPUs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Container, Iterator, Mapping, Sequence

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
                    self.stop()
                while waiting and self.free and not self._stop.made:
                    self.start(waiting.pop(0))
                for process, code in self.reap():
                    ended = _OUTCOMES.get(code, f"failed (exit {code})")
                    print(f"[{len(self._codes)}/{len(processes)}] {process}: {ended}", flush=True)
                time.sleep(POLL_SECONDS)
        finally:
            self.kill()  # after an error here or a second Ctrl-C
        if waiting or ExitCode.INTERRUPTED in self._codes.values():
            return ExitCode.INTERRUPTED
        return ExitCode.FAILED if any(self._codes.values()) else ExitCode.DONE

    @property
    def free(self) -> bool:
        """True if another process can be started."""
        return len(self._running) < self._width

    def start(self, process: str) -> None:
        """Starts a process in a free slot."""
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

    def reap(self) -> Iterator[tuple[str, int]]:
        """The processes that have ended since the last call, with their exit codes."""
        for slot, (process, child) in list(self._running.items()):
            code = child.poll()
            if code is None:
                continue
            del self._running[slot]
            if self._stop.made and -code in SCHEDULER:
                code = ExitCode.INTERRUPTED  # it came before the process had its handler
            self._codes[process] = code
            self._folder.record_exit_code(process, code)
            yield process, code

    def stop(self, processes: Container[str] | None = None) -> None:
        """Asks running processes, by default all, to save their state and end."""
        for process, child in self._running.values():
            if processes is None or process in processes:
                child.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends all running processes at once."""
        for _, child in self._running.values():
            child.kill()


def worker_env(slot: int, width: int, gpus: Sequence[str]) -> dict[str, str]:
    """Environment variables of a slot: its GPU, and its share of the GPU's memory."""
    if not gpus:
        return {}
    sharing = -(-width // len(gpus))
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{MEMORY_SHARE / sharing:.3f}"}
    return {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)], **(share if sharing > 1 else {})}
