"""Wall time of evaluation episodes in one process against several.

    python benchmarks/evaluation.py --episodes 50 --workers 2

Plays the method of an experiment file, with random weights, in each environment: once in this
process and once in worker processes, in turn. Start-up is not timed, and the number of steps must
be the same. Prints a Markdown table, times being the shortest of `--rounds`.
"""

import argparse
import functools
import os
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qamx import build_agent
from qamx._utils.machine import usable_cores
from qamx.config import load
from qamx.config.agents import AgentSettings
from qamx.envs import EnvHandle, OGBenchEnvironment, open_envs
from qamx.training.evaluator import Act, Evaluator, PlayedEpisode

LIMIT_SECONDS = 600.0


def policy(settings: AgentSettings, observation: int, action: int) -> Act:
    """Chunks of the method at its initialisation."""
    agent = build_agent(settings, observation, action, jax.random.key(0))
    compiled = eqx.filter_jit(agent.act)

    def act(observations: np.ndarray, call: int) -> np.ndarray:
        return np.asarray(compiled(jnp.asarray(observations), jax.random.key(call)))

    return act


def timed(
    players: list[EnvHandle], act: Act, episodes: int
) -> tuple[float, list[PlayedEpisode], list[float]]:
    """Seconds, the episodes, and the seconds of each call of the policy."""
    calls: list[float] = []

    def counted(observations: np.ndarray, call: int) -> np.ndarray:
        began = time.perf_counter()
        chunks = act(observations, call)
        calls.append(time.perf_counter() - began)
        return chunks

    began = time.perf_counter()
    played = Evaluator(players).play(counted, range(episodes))
    return time.perf_counter() - began, played, calls


def measure(name: str, arguments: argparse.Namespace) -> str:
    """The table's row of one environment."""
    make = functools.partial(OGBenchEnvironment, name, 1)
    settings = load(arguments.experiment, arguments.set).agent
    sets = [
        open_envs(make, arguments.players, workers, LIMIT_SECONDS)
        for workers in (0, arguments.workers)
    ]
    act = policy(settings, sets[0][0].observation_size, sets[0][0].action_size)
    act(np.zeros((arguments.players, sets[0][0].observation_size), np.float32), 0)
    best, steps, played, calls = [float("inf")] * 2, [0, 0], [], []
    for _ in range(arguments.rounds):
        for i, players in enumerate(sets):
            seconds, played, calls = timed(players, act, arguments.episodes)
            best[i] = min(best[i], seconds)
            steps[i] = sum(episode.length for episode in played)
    for players in sets:
        for player in players:
            player.close()
    if steps[0] != steps[1]:
        raise RuntimeError(f"{name}: {steps[0]} steps in one process, {steps[1]} in several")
    chunks = sum(-(-episode.length // settings.horizon) for episode in played)
    return (
        f"| {name} | {len(played)} | {steps[0]:,} | {best[0]:.1f} | {best[1]:.1f} | "
        f"{best[0] / best[1]:.2f} | {len(calls) / chunks:.3f} | {sum(calls):.1f} |"
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Evaluation in one process against several.")
    parser.add_argument(
        "environments", nargs="*", default=["pointmaze-medium-navigate", "cube-double-play"]
    )
    parser.add_argument("--experiment", default="experiments/c2_qam.toml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--players", type=int, default=10, help="episodes at a time")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    print(
        f"{jax.devices()[0].device_kind}, {usable_cores()} cores, load {os.getloadavg()[0]:.2f}\n"
    )
    print(
        "| environment | episodes | steps | 1 process (s) | "
        f"{arguments.workers} workers (s) | ratio | policy calls per chunk | policy (s) |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.environments:
        print(measure(name, arguments), flush=True)
    print(f"\nload {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
