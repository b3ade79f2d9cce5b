"""What training waits for its evaluations, and what they cost it.

    python benchmarks/stall.py experiments/quickstart.toml

Plays a short offline phase of a real experiment with evaluations in this process, with evaluations
in worker processes, and with none, each in a folder that is thrown away.
"""

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path
from typing import Any

from qamx import build
from qamx.config import load
from qamx.training.async_evaluation import AsyncEvaluations
from qamx.training.logs import Logs
from qamx.training.loop import Runner
from qamx.training.seed_group import SeedRun

CASES = {"in this process": 0, "in workers": None, "none": None}


def measure(arguments: argparse.Namespace, name: str) -> tuple[float, float, float]:
    """Seconds of the phase, of them in evaluations, and after its last update."""
    steps, every = arguments.steps, arguments.every
    changes = [
        *("schedule.kind=offline", f"schedule.offline_steps={steps}", "evaluation.behaviour=false"),
        *("schedule.online_steps=", "schedule.online_warmup=", f"logging.every={every}"),
        f"evaluation.episodes={arguments.episodes if name != 'none' else 1}",
        f"evaluation.every={every if name != 'none' else steps}",
        f"checkpoint.every={steps}",
    ]
    if CASES[name] is not None:
        changes.append(f"evaluation.workers={CASES[name]}")
    plan, waited, ended = build(load(arguments.experiment, changes)), [0.0], [0.0]

    class Timed(AsyncEvaluations):
        def begin(self, stop: Any) -> Any:
            return self._timed(lambda: super(Timed, self).begin(stop))

        def poll(self) -> Any:
            return self._timed(super().poll)

        def finish(self, stop: Any, left: int = 0) -> Any:
            if left or self._inline:
                return super().finish(stop, left)
            ended[0] = time.perf_counter()  # of the run: no update is left to wait
            return super().finish(stop, left)

        def _timed(self, call: Any) -> Any:
            began = time.perf_counter()
            result = call()
            waited[0] += time.perf_counter() - began
            return result

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        runner = Runner([SeedRun(plan, Path(folder), Logs(Path(folder)))])
        runner._evaluations.__class__ = Timed
        runner.training = runner._trainer.run(runner.training, runner.replay, 1)  # compiles
        began = time.perf_counter()
        runner.run()
        done = time.perf_counter()
    end = ended[0] or done
    return end - began, waited[0], done - end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--steps", type=int, default=6_000, help="updates of the phase")
    parser.add_argument("--every", type=int, default=2_000, help="updates between evaluations")
    parser.add_argument("--episodes", type=int, default=20, help="of each evaluation")
    arguments = parser.parse_args()
    print(f"{'evaluations':<18}{'updates, s':>12}{'waiting, s':>12}{'share':>8}{'after, s':>10}")
    for name in CASES:
        phase, waited, after = measure(arguments, name)
        print(f"{name:<18}{phase:>12.1f}{waited:>12.2f}{waited / phase:>8.1%}{after:>10.1f}")


if __name__ == "__main__":
    main()
