"""Kills a run by SIGKILL at random moments, again and again, and compares its end.

    python tests/faults/kill_loop.py --kills 100

Each run is killed up to four times, at a random step after the one that it started from and a
random moment after that step, and must end bitwise where a run that nothing killed ends.
"""

import argparse
import collections
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import END, assert_same, command, environment, outcome, qamx

KILLS_A_RUN = 4


def kill_once(directory: Path, draw: random.Random) -> str | None:
    """Starts or continues the run and kills it; says where it was, or None if it had ended."""
    with subprocess.Popen(
        command(directory), env=environment(progress=True), stdout=subprocess.PIPE, text=True
    ) as process:
        steps = (int(line.split()[1]) for line in process.stdout or () if line.startswith("at "))
        reached = next(steps, END)
        last = draw.randint(reached, END)
        while reached < last:
            reached = next(steps, END)
        time.sleep(draw.uniform(0, 0.05))
        process.kill()
        if process.wait() == 0:
            return None
    saving = any((directory / "checkpoints").glob("*.partial"))
    phase = "cloning" if reached < 20 else "offline" if reached < 50 else "online"
    return f"{phase}, inside a save" if saving else phase


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw, places = random.Random(arguments.seed), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        assert qamx(whole).returncode == 0
        expected, run = outcome(whole), 0
        while places.total() < arguments.kills:
            directory, run = Path(folder) / f"run{run}", run + 1
            for _ in range(min(KILLS_A_RUN, arguments.kills - places.total())):
                place = kill_once(directory, draw)
                if place is None:
                    break
                places[place] += 1
            ended = qamx(directory)
            assert ended.returncode == 0, ended.stderr
            assert_same(expected, outcome(directory))
            print(f"kills survived: {places.total()} of {places.total()}", flush=True)
    print(f"{run} runs; " + ", ".join(f"{place}: {n}" for place, n in sorted(places.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
