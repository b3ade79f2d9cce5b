"""What a checkpoint costs: bytes, seconds that training waits, seconds beside it.

python benchmarks/save.py experiments/c4_qam_edit.toml --observation 55 --action 5
"""

import argparse
import tempfile
import time
from pathlib import Path

import equinox as eqx
import jax

from qamx.agents import adam, create_state
from qamx.building import build_agent
from qamx.config import load
from qamx.training.checkpoint import Checkpoints


def main() -> None:
    """Saves and reads the state of one experiment three times and prints the best of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--observation", type=int, required=True)
    parser.add_argument("--action", type=int, required=True)
    arguments = parser.parse_args()
    settings = load(arguments.experiment).agent
    agent = build_agent(settings, arguments.observation, arguments.action, jax.random.key(0))
    state = create_state(agent, adam(settings.learning_rate, 1.0), jax.random.key(1))
    state = eqx.filter(state, eqx.is_array)
    waits, saves, reads = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        for step in range(3):
            began = time.perf_counter()
            checkpoints.save(step, state, {})
            waits.append(time.perf_counter() - began)
            checkpoints.wait()
            saves.append(time.perf_counter() - began)
            began = time.perf_counter()
            checkpoints.read(step)
            reads.append(time.perf_counter() - began)
        files = [path for path in (Path(folder) / "2").rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        checkpoints.close()
    print(
        f"{size / 1e6:.1f} MB; training waits {min(waits):.3f} s, saved after {min(saves):.2f} s, "
        f"read and verified in {min(reads):.2f} s"
    )


if __name__ == "__main__":
    main()
