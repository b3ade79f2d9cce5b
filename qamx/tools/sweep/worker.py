"""One process of a sweep: `python -m qamx.tools.sweep.worker ORDER` carries it out."""

import signal
import sys
from pathlib import Path

from qamx._utils.processes import ending_in_order
from qamx.errors import ExitCode, exit_code
from qamx.training.guards import SCHEDULER, Stopped, stop_immediately


def main(order: Path) -> int:
    """Carries out, or continues, the runs of an order; returns an exit code."""
    try:
        with ending_in_order():
            return exit_code(lambda: _carry_out(order))
    finally:
        for number in SCHEDULER:  # the outcome is settled: a stop does not change it any more
            signal.signal(number, signal.SIG_IGN)


def _carry_out(order: Path) -> int:
    try:
        with stop_immediately():  # a stop may come while modules are still being imported
            from qamx.config import load
            from qamx.tools.sweep.jobs import read_specs

            runs = read_specs(order)
            experiments = [load(run.file, run.overrides, run.seed) for run in runs]

            from qamx.running import run_together

            return run_together(experiments, [Path(run.directory) for run in runs])
    except Stopped:
        return ExitCode.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
