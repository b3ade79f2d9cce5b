"""How far the bodies of mazes get: goals reached, speed, and time on their backs.

    python benchmarks/walks.py antmaze-medium-navigate pointmaze-medium-navigate --episodes 20

Draws the first training episodes of each set, of OGBench's length, as `qamx data generate` would
with the seed 0, and prints a Markdown table. Ant and humanoid need their experts in the data
directory (`--directory`).
"""

import argparse
import time
from pathlib import Path

import numpy as np

from qamx.data.ogbench.catalogue import default_directory, lookup
from qamx.data.ogbench.expert import find_expert
from qamx.data.ogbench.maze import Cell, Goals, maze_behaviour
from qamx.data.ogbench.rollout import Episode, Plan, draw_episode

COLUMNS = (
    "set",
    "episodes",
    "goals an episode",
    "steps a goal",
    "episodes with a goal",
    "metres a step",
    "steps on the back",
    "steps/s",
)


def counted_goals(goals: Goals, reached: list[int]) -> Goals:
    """Goals that count how often they are reached, an entry an episode."""

    def first(start: Cell, generator: np.random.Generator) -> Cell:
        reached.append(0)
        return goals.first(start, generator)

    def after_success(generator: np.random.Generator) -> Cell | None:
        following = goals.after_success(generator)
        # A goal that stays is reached once, and at every step that the body stays there.
        reached[-1] = 1 if following is None else reached[-1] + 1
        return following

    return Goals(first, after_success)


def on_the_back(episode: Episode) -> float:
    """The share of steps at which a free body's upward axis points down; 0 for a point."""
    if episode["qpos"].shape[1] < 7:
        return 0.0
    _, x, y, _ = np.moveaxis(episode["qpos"][:, 3:7], 1, 0)
    return float(np.mean(1.0 - 2.0 * (x**2 + y**2) < 0.0))


def measure(name: str, episodes: int, directory: Path) -> str:
    """The table's row of one set."""
    dataset = lookup(name)
    walker = dataset.walker
    expert = None if walker is None else find_expert(walker, directory)
    behaviour = maze_behaviour(dataset, expert)
    counts: list[int] = []
    behaviour.goals = counted_goals(behaviour.goals, counts)
    file = Plan.of(name, episodes=episodes, shards=None, seed=0).files[0]
    began = time.perf_counter()
    drawn = [draw_episode(behaviour, file, index) for index in range(episodes)]
    rate = episodes * dataset.steps / (time.perf_counter() - began)
    paths = np.stack([episode["qpos"][:, :2] for episode in drawn])
    speed = np.mean(np.linalg.norm(np.diff(paths, axis=1), axis=-1))
    backs = np.mean([on_the_back(episode) for episode in drawn])
    reached = np.array(counts)
    steps = f"{dataset.steps / reached.mean():.0f}" if reached.any() else "-"
    return (
        f"| {name} | {episodes} | {reached.mean():.2f} | {steps} | {np.mean(reached > 0):.0%} "
        f"| {speed:.3f} | {backs:.1%} | {rate:,.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="How far the bodies of mazes get.")
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--episodes", type=int, default=20, metavar="N")
    parser.add_argument("--directory", type=Path, default=default_directory(), metavar="DIR")
    arguments = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for name in arguments.names:
        print(measure(name, arguments.episodes, arguments.directory), flush=True)


if __name__ == "__main__":
    main()
