"""What the inspection of a shard costs: seconds of a core and memory beside the data.

python benchmarks/inspect_data.py --rows 1000000 --observation 55 --action 5
"""

import argparse
import resource
import time

import numpy as np

from qamx.data.inspection.summary import run_checks
from qamx.data.transitions import Transitions

LENGTH = 1_000


def transitions(size: int, observation: int, action: int) -> Transitions:
    """Episodes of a linear system that random actions drive, of 1,000 steps each."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.9, 0.9, (size, action)).astype(np.float32)
    effect = 0.1 * rng.normal(size=(action, observation)).astype(np.float32)
    before = np.empty((size, observation), np.float32)
    after = np.empty_like(before)
    for begin in range(0, size, LENGTH):
        part = slice(begin, begin + LENGTH)
        path = rng.normal(size=observation) + np.cumsum(actions[part] @ effect, axis=0)
        after[part] = path
        before[part] = path - actions[part] @ effect
    after[:-1] = before[1:]
    ends = np.zeros(size, np.float32)
    ends[LENGTH - 1 :: LENGTH] = ends[-1] = 1
    rewards = -rng.integers(0, 5, size).astype(np.float32)
    return Transitions(before, actions, rewards, (rewards != 0).astype(np.float32), ends, after)


def main() -> None:
    """Checks the same rows three times and prints the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--observation", type=int, default=55)
    parser.add_argument("--action", type=int, default=5)
    arguments = parser.parse_args()
    data = transitions(arguments.rows, arguments.observation, arguments.action)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(3):
        began = time.process_time()
        run_checks(data, horizon=5)
        seconds.append(time.process_time() - began)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
    print(f"{min(seconds):.2f} s of processor time, {more / 1e3:.0f} MB beside the data")


if __name__ == "__main__":
    main()
