"""Times the update of the authors' QAM with batches drawn as their `main.py` draws them.

    python benchmarks/authors_update.py RELEASE SIZE

Started by `beside.py`, in an environment of its own with what the release needs (a clone of
https://github.com/ColinQiyangLi/qam). `SIZE` is JSON: entries of an observation and of an action,
updates of a timed round, and settings by the release's names. Prints JSON: milliseconds of an
update (the shortest of three rounds), and seconds of the first.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax._src.core
import jax.interpreters.xla
import numpy as np

# TensorFlow Probability still looks for it where JAX had it.
jax.interpreters.xla.pytype_aval_mappings = jax._src.core.pytype_aval_mappings  # pyright: ignore

ROWS, EPISODE, ROUNDS = 10_000, 1_000, 3


def transitions(observation: int, action: int) -> dict[str, np.ndarray]:
    """Unstructured data, by the release's names."""
    rng = np.random.default_rng(0)
    ends = np.zeros(ROWS, np.float32)
    ends[EPISODE - 1 :: EPISODE] = 1
    return {
        "observations": rng.standard_normal((ROWS, observation), np.float32),
        "actions": rng.uniform(-1, 1, (ROWS, action)).astype(np.float32),
        "rewards": -np.ones(ROWS, np.float32),
        "masks": np.ones(ROWS, np.float32),
        "terminals": ends,
        "next_observations": rng.standard_normal((ROWS, observation), np.float32),
    }


def measure(
    observation: int, action: int, updates: int, settings: dict[str, Any]
) -> dict[str, float]:
    """Times of the agent's updates."""
    from agents.qam import QAMAgent, get_config  # pyright: ignore[reportMissingImports]
    from utils.datasets import Dataset  # pyright: ignore[reportMissingImports]

    np.random.seed(0)
    data = Dataset.create(**transitions(observation, action))
    config = get_config()
    config.update(settings)
    example = data.sample(())
    agent = QAMAgent.create(0, example["observations"], example["actions"], config)

    def train(agent: Any, count: int) -> tuple[Any, float]:
        began = time.perf_counter()
        for _ in range(count):
            batch = data.sample_sequence(
                config["batch_size"],
                sequence_length=config["horizon_length"],
                discount=config["discount"],
            )
            agent, _ = agent.update(batch)
        jax.block_until_ready(agent.network.params)
        return agent, time.perf_counter() - began

    agent, first = train(agent, 1)
    seconds = []
    for _ in range(ROUNDS):
        agent, elapsed = train(agent, updates)
        seconds.append(elapsed / updates)
    return {"update_ms": 1e3 * min(seconds), "first_s": first}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(sys.argv[1]).resolve()))
    print(json.dumps(measure(**json.loads(sys.argv[2]))))
