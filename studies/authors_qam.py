"""Training of the authors' QAM, driven as their `main.py` drives it, for `studies.parity`.

    python studies/authors_qam.py RELEASE --data FOLDER --task 5 --seed 1 --out rows.csv

Runs in an environment of its own, with what the release at `RELEASE` needs (a clone of
https://github.com/ColinQiyangLi/qam). Their data set class draws the batches, their agent updates
and acts; settings are those of `studies.parity`. Episodes of an evaluation are played side by side.
"""

import argparse
import csv
import importlib
import sys
from pathlib import Path
from typing import Any

import jax
import jax._src.core
import jax.interpreters.xla
import numpy as np

# TensorFlow Probability still looks for it where JAX had it.
jax.interpreters.xla.pytype_aval_mappings = jax._src.core.pytype_aval_mappings  # pyright: ignore

SETTINGS = {
    "horizon_length": 5,
    "action_chunking": True,
    "batch_size": 128,
    "num_qs": 2,
    "discount": 0.99,
    "rho": 0.5,
    "tau": 0.02,
    "flow_steps": 5,
    "inv_temp": 10.0,
    "lr": 1e-3,
    "actor_hidden_dims": (128, 128),
    "value_hidden_dims": (128, 128),
}
"""The study's settings, by the release's names."""


def make_data(task: int, folder: Path) -> tuple[Any, list[Any]]:
    """The data set of a task as the release loads it, and environments to evaluate in."""
    ogbench: Any = importlib.import_module("ogbench")
    from utils.datasets import Dataset  # pyright: ignore[reportMissingImports]

    name = f"pointmaze-medium-navigate-singletask-task{task}-v0"
    _, train, _ = ogbench.make_env_and_datasets(name, dataset_dir=str(folder))
    # As the release's `make_env_and_datasets` does.
    train["actions"] = np.clip(train["actions"], -1 + 1e-5, 1 - 1e-5)
    envs = [ogbench.make_env_and_datasets(name, env_only=True) for _ in range(25)]
    return Dataset.create(**train), envs


def evaluate(agent: Any, envs: list[Any], key: Any) -> tuple[float, float]:
    """Success rate and mean return of one episode in each environment, whole chunks played."""
    states = np.stack([env.reset()[0] for env in envs])
    playing, returns = np.ones(len(envs), bool), np.zeros(len(envs))
    solved = np.zeros(len(envs), bool)
    while playing.any():
        key, draw = jax.random.split(key)
        chunks = np.asarray(agent.sample_actions(observations=states, rng=draw))
        for i in np.flatnonzero(playing):
            for action in chunks[i].reshape(SETTINGS["horizon_length"], -1):
                states[i], reward, ended, cut, info = envs[i].step(np.clip(action, -1, 1))
                returns[i] += reward
                if ended or cut:
                    playing[i], solved[i] = False, bool(info["success"])
                    break
    return float(solved.mean()), float(returns.mean())


def train(data: Any, envs: list[Any], seed: int, updates: int, every: int) -> list[tuple]:
    """Success and return after each `every` updates."""
    from agents.qam import QAMAgent, get_config  # pyright: ignore[reportMissingImports]

    np.random.seed(seed)
    config = get_config()
    config.update(SETTINGS)
    example = data.sample(())
    agent = QAMAgent.create(seed, example["observations"], example["actions"], config)
    rows = []
    for update in range(1, updates + 1):
        batch = data.sample_sequence(
            SETTINGS["batch_size"],
            sequence_length=SETTINGS["horizon_length"],
            discount=SETTINGS["discount"],
        )
        agent, _ = agent.update(batch)
        if update % every == 0:
            key = jax.random.PRNGKey(np.random.randint(0, 2**32))
            rows.append((update, *evaluate(agent, envs, key)))
            print(f"seed {seed}: {rows[-1]}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--updates", type=int, default=30_000)
    parser.add_argument("--every", type=int, default=5_000)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.release))
    data, envs = make_data(arguments.task, arguments.data)
    rows = train(data, envs, arguments.seed, arguments.updates, arguments.every)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
