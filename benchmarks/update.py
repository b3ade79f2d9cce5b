"""Time of one update against the floor of its matrix products on the same machine.

    python benchmarks/update.py experiments/c4_qam_edit.toml --observation 55 --action 5

Data is random; no environment is made. Prints a table, or JSON with `--json`.
"""

import argparse
import json
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from matmuls import Floor, count, elapsed

from qamx.agents import adam, create_state, update
from qamx.build import build_agent
from qamx.config import load
from qamx.data.replay import Replay
from qamx.data.sampling import UniformSampling
from qamx.data.sequences import Transitions
from qamx.runner.step import Trainer


def random_transitions(rows: int, observation: int, action: int) -> Transitions:
    """Unstructured data of the right sizes."""
    rng = np.random.default_rng(0)
    ends = np.zeros(rows, np.float32)
    ends[999::1000] = 1
    return Transitions(
        rng.standard_normal((rows, observation), np.float32),
        rng.uniform(-1, 1, (rows, action)).astype(np.float32),
        -np.ones(rows, np.float32),
        np.ones(rows, np.float32),
        ends,
        rng.standard_normal((rows, observation), np.float32),
    )


def measure(arguments: argparse.Namespace) -> dict[str, float | str]:
    """All figures of one experiment's update."""
    settings = load(arguments.experiment, arguments.set).agent
    agent = build_agent(settings, arguments.observation, arguments.action, jax.random.key(0))
    clip = None if settings.gradient_clip == "none" else float(settings.gradient_clip)
    optimiser = adam(settings.learning_rate, clip)
    state = create_state(agent, optimiser, jax.random.key(1))
    sampling = UniformSampling(settings.batch_size, settings.horizon, settings.discount)
    trainer = Trainer(state, optimiser, sampling)
    replay = Replay.create(random_transitions(10_000, arguments.observation, arguments.action), 0)

    arrays, static = eqx.partition(state, eqx.is_array)
    batch = sampling.draw(replay, jax.random.key(3))
    products = count(
        lambda arrays, batch: eqx.filter(
            update(eqx.combine(arrays, static), batch, optimiser), eqx.is_array
        ),
        arrays,
        batch,
    )
    training = trainer.begin(state, replay, jax.random.key(2))

    def run(updates: int, calls: int) -> jax.Array:
        nonlocal training
        for _ in range(calls):
            training = trainer.run(training, replay, updates)
        return training.counted

    compiled = elapsed(lambda: run(1, 1))
    floor, many, single = Floor(products), float("inf"), float("inf")
    for _ in range(arguments.rounds):
        many = min(many, elapsed(lambda: run(arguments.updates, 1)) / arguments.updates)
        floor.round()
        single = min(single, elapsed(lambda: run(1, arguments.updates)) / arguments.updates)
    flops = sum(product.flops * times for product, times in products.items())
    return {
        "experiment": str(arguments.experiment),
        "device": jax.devices()[0].device_kind,
        "matrix products": sum(products.values()),
        "GFLOP": flops / 1e9,
        "floor ms": floor.seconds * 1e3,
        "update ms, many a call": many * 1e3,
        "update ms, one a call": single * 1e3,
        "over the floor": many / floor.seconds,
        "compile s": compiled,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--observation", type=int, required=True, help="observation size")
    parser.add_argument("--action", type=int, required=True, help="action size")
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value")
    parser.add_argument("--updates", type=int, default=10, help="updates a timed call")
    parser.add_argument("--rounds", type=int, default=10, help="timed rounds; the best counts")
    parser.add_argument("--json", action="store_true")
    figures = measure(arguments := parser.parse_args())
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:<24}{value if isinstance(value, str) else format(value, '.3f')}")


if __name__ == "__main__":
    main()
