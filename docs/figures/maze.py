"""Draws the paths of the behaviour clone and of the trained policy in the quickstart's maze.

qamx run experiments/quickstart.toml
python docs/figures/maze.py runs/quickstart-task1-seed10001 docs/assets/quickstart.png
"""

import sys
from pathlib import Path

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle

from qamx import load, load_agent
from qamx.envs import LocalEnv, OGBenchEnvironment
from qamx.envs.ogbench import make
from qamx.training.evaluator import Evaluator, PlayedEpisode

EPISODES, PATH, SOLVED, WALL = 20, "#7a8793", "#0072b2", "#d5d9de"


def play(agent_act, env: OGBenchEnvironment, seed: int) -> list[PlayedEpisode]:
    """Episodes with their observations, which are positions in a point maze."""
    act = eqx.filter_jit(agent_act)

    def chunk(observations: np.ndarray, call: int) -> np.ndarray:
        return np.asarray(act(observations, jax.random.key(seed + call)))

    return Evaluator([LocalEnv(env)]).play(chunk, range(seed, seed + EPISODES))


def draw(axes: Axes, maze, episodes: list[PlayedEpisode], title: str) -> None:
    """Walls, goal and paths; solved episodes in colour."""
    unit = maze._maze_unit
    for i, j in np.argwhere(maze.maze_map == 1):
        x, y = maze.ij_to_xy((i, j))
        axes.add_patch(Rectangle((x - unit / 2, y - unit / 2), unit, unit, color=WALL, lw=0))
    for episode in episodes:
        path = np.array(episode.observations)
        axes.plot(*path.T, lw=0.9, alpha=0.7, color=SOLVED if episode.success else PATH)
        axes.plot(*path[0], "o", ms=3.5, color="black")
    axes.add_patch(Circle(maze.cur_goal_xy, 1.0, fill=False, color="#d55e00", lw=2))
    x, y = maze.cur_goal_xy
    axes.text(x, y + 1.5, "goal", color="#d55e00", ha="center", va="center", fontsize=9)
    axes.set_aspect("equal")
    axes.autoscale_view()
    axes.axis("off")
    solved = np.mean([episode.success for episode in episodes])
    axes.set_title(f"{title}: {solved:.0%} of {len(episodes)} episodes", fontsize=11)


def main(run: Path, figure: Path) -> None:
    """Plays both policies of a run and writes the figure."""
    settings, agent = load(run / "config.toml").environment, load_agent(run)
    name, task = settings.name, getattr(settings, "task", 1)
    env = OGBenchEnvironment(name, task)
    maze = make(name, task).unwrapped
    maze.reset()
    canvas, (left, right) = plt.subplots(1, 2, figsize=(9, 4.8), layout="constrained")
    draw(left, maze, play(agent.act_as_behaviour, env, 0), "Behaviour cloning")
    draw(right, maze, play(agent.act, env, 0), "QAM, same data")
    canvas.savefig(figure, dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
