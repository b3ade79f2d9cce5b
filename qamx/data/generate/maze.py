"""The point in a maze: it follows the shortest way to its goals with heavy action noise.

Source: OGBench's `generate_locomaze.py` with the arguments of its point mazes.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from qamx.data.generate.catalogue import Dataset
from qamx.data.generate.maze_cells import Cell, cells_at_distance, free_cells, vertex_cells
from qamx.data.generate.recipe import Episode, Row
from qamx.data.generate.seeding import EpisodeSeeds

ACTION_NOISE = 0.5
STITCH_DISTANCE = 4


class Goals(Protocol):
    """Where the point goes."""

    def first(self, start: Cell, generator: np.random.Generator) -> Cell:
        """The goal at the start of an episode."""
        ...

    def after_success(self, generator: np.random.Generator) -> Cell | None:
        """The goal once the last one is reached; `None` keeps it, so the point stays there."""
        ...


class NavigateGoals:
    """One goal after another, uniform over the cells that are no straight corridor."""

    def __init__(self, maze: np.ndarray):
        self._cells = vertex_cells(maze)

    def first(self, start: Cell, generator: np.random.Generator) -> Cell:
        return _any_of(self._cells, generator)

    def after_success(self, generator: np.random.Generator) -> Cell | None:
        return _any_of(self._cells, generator)


class StitchGoals:
    """A single goal, four moves from the start (the start itself where no cell is so far)."""

    def __init__(self, maze: np.ndarray):
        self._maze = maze

    def first(self, start: Cell, generator: np.random.Generator) -> Cell:
        return _any_of(cells_at_distance(self._maze, start, STITCH_DISTANCE) or [start], generator)

    def after_success(self, generator: np.random.Generator) -> Cell | None:
        return None


def _any_of(cells: list[Cell], generator: np.random.Generator) -> Cell:
    return cells[generator.integers(len(cells))]


class MazeRecipe:
    """Episodes of the point in a maze.

    **Arguments:**

    - `environment`: an OGBench point maze that doesn't terminate at its goal.
    - `goals`: where the point goes.
    """

    def __init__(self, environment: Any, goals: Goals):
        self._environment = environment
        self._maze = environment.unwrapped
        self._goals = goals
        self._starts = free_cells(self._maze.maze_map)
        self._subgoals: dict[tuple[Cell, Cell], np.ndarray] = {}

    def play(self, seeds: EpisodeSeeds, steps: int) -> Iterator[Row]:
        observation = self._start(seeds)
        for _ in range(steps):
            action = self._action(seeds.generator)
            following, _, _, _, info = self._environment.step(action)
            yield {
                "observations": observation,
                "actions": action,
                "qpos": info["prev_qpos"],
                "qvel": info["prev_qvel"],
            }
            observation = following
            if info["success"]:
                self._move_on(seeds.generator)

    def accepts(self, episode: Episode) -> bool:
        return True

    def _start(self, seeds: EpisodeSeeds) -> np.ndarray:
        start = _any_of(self._starts, seeds.generator)
        task = {"init_ij": start, "goal_ij": self._goals.first(start, seeds.generator)}
        # `reset` takes a few random actions, whose source has a seed of its own.
        self._environment.action_space.seed(seeds.environment)
        observation, _ = self._environment.reset(
            seed=seeds.environment, options={"task_info": task}
        )
        return observation

    def _action(self, generator: np.random.Generator) -> np.ndarray:
        position = self._maze.get_xy()
        way = self._subgoal(position, self._maze.cur_goal_xy) - position
        direction = way / (np.linalg.norm(way) + 1e-6)
        noise = generator.normal(0.0, ACTION_NOISE, direction.shape)
        # Rounded before it is taken, so that the stored action is the one that was taken.
        return np.clip(direction + noise, -1.0, 1.0).astype(np.float32)

    def _subgoal(self, position: np.ndarray, goal: np.ndarray) -> np.ndarray:
        # It depends on the two cells alone, and searching the maze takes longer than the physics.
        cells = self._maze.xy_to_ij(position), self._maze.xy_to_ij(goal)
        if cells not in self._subgoals:
            self._subgoals[cells], _ = self._maze.get_oracle_subgoal(position, goal)
        return self._subgoals[cells]

    def _move_on(self, generator: np.random.Generator) -> None:
        cell = self._goals.after_success(generator)
        if cell is not None:
            # Given a cell, `set_goal` would place the goal's marker at NaN.
            goal = self._maze.add_noise(self._maze.ij_to_xy(cell))
            self._maze.set_goal(goal_xy=goal)


def maze_recipe(dataset: Dataset) -> MazeRecipe:
    """The recipe of a point maze data set."""
    import gymnasium

    environment = gymnasium.make(
        f"ogbench.locomaze:{dataset.environment_id}",
        terminate_at_goal=False,
        max_episode_steps=dataset.steps,
        disable_env_checker=True,
    )
    goals = {"navigate": NavigateGoals, "stitch": StitchGoals}[dataset.behaviour]
    maze: Any = environment.unwrapped
    return MazeRecipe(environment, goals(maze.maze_map))
