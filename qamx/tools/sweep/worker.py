"""Worker process of a sweep: `python -m qamx.tools.sweep.worker SPECS`."""

import signal
import sys
from pathlib import Path

from qamx._utils.processes import exit_cleanly
from qamx._utils.terminal import print_log_alone
from qamx.errors import ExitCode, exit_code
from qamx.training.guards import SCHEDULER, Stopped, stop_immediately


def main(specs: Path) -> int:
    """Starts or resumes the runs of a specification; returns an exit code."""
    print_log_alone()
    try:
        with exit_cleanly():
            return exit_code(lambda: _execute(specs))
    finally:
        for number in SCHEDULER:  # the outcome is settled, and a stop cannot change it
            signal.signal(number, signal.SIG_IGN)


def _execute(specs: Path) -> int:
    try:
        with stop_immediately():  # a stop may come while modules are still being imported
            from qamx.config import load
            from qamx.tools.sweep.jobs import read_specs

            runs = read_specs(specs)
            experiments = [load(run.file, run.overrides, run.seed) for run in runs]

            from qamx.running import run_together

            return run_together(experiments, [Path(run.directory) for run in runs])
    except Stopped:
        return ExitCode.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
