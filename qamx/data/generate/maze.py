"""A point, an ant or a humanoid in a maze, with noise on its actions.

Source: OGBench's `generate_locomaze.py` with the arguments of its mazes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from qamx.data.generate.catalogue import Dataset
from qamx.data.generate.expert import Expert
from qamx.data.generate.maze_cells import free_cells
from qamx.data.generate.maze_goals import (
    ExploreGoals,
    Goals,
    Heading,
    NavigateGoals,
    RandomWays,
    ShortestWay,
    StitchGoals,
    any_of,
)
from qamx.data.generate.recipe import Episode, Row
from qamx.data.generate.seeding import EpisodeSeeds

POINT_NOISE, WALKER_NOISE, EXPLORE_NOISE = 0.5, 0.2, 1.0


class MazeRecipe:
    """Episodes of a body in a maze.

    **Arguments:**

    - `environment`: an OGBench maze that doesn't terminate at its goal.
    - `goals`: which cells the body is sent to.
    - `heading`: the direction in which it is told to go.
    - `expert`: who moves an ant or a humanoid in that direction; a point's action is the direction.
    - `noise`: standard deviation of the Gaussian noise on an action.
    """

    def __init__(
        self, environment: Any, goals: Goals, heading: Heading, expert: Expert | None, noise: float
    ):
        self._environment = environment
        self._maze = environment.unwrapped
        self.goals = goals
        self._heading = heading
        self._expert = expert
        self._noise = noise
        self._starts = free_cells(self._maze.maze_map)

    def play(self, seeds: EpisodeSeeds, steps: int) -> Iterator[Row]:
        observation = self._start(seeds)
        for step in range(steps):
            action = self._action(step, seeds.generator)
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
        start = any_of(self._starts, seeds.generator)
        task = {"init_ij": start, "goal_ij": self.goals.first(start, seeds.generator)}
        # `reset` takes a few random actions, whose source has a seed of its own.
        self._environment.action_space.seed(seeds.environment)
        observation, _ = self._environment.reset(
            seed=seeds.environment, options={"task_info": task}
        )
        return observation

    def _action(self, step: int, generator: np.random.Generator) -> np.ndarray:
        action = self._undisturbed(self._heading.direction(self._maze, step, generator))
        noise = generator.normal(0.0, self._noise, action.shape)
        # Rounded before it is taken, so that the stored action is the one that was taken.
        return np.clip(action + noise, -1.0, 1.0).astype(np.float32)

    def _undisturbed(self, direction: np.ndarray) -> np.ndarray:
        if self._expert is None:
            return direction
        # The expert has learned without a place on the ground, the observation's first two entries.
        return self._expert.act(np.concatenate([self._maze.get_ob()[2:], direction]))

    def _move_on(self, generator: np.random.Generator) -> None:
        cell = self.goals.after_success(generator)
        if cell is not None:
            # Given a cell, `set_goal` would place the goal's marker at NaN.
            goal = self._maze.add_noise(self._maze.ij_to_xy(cell))
            self._maze.set_goal(goal_xy=goal)


def maze_recipe(dataset: Dataset, expert: Expert | None) -> MazeRecipe:
    """The recipe of a maze's data set; `expert` is the walker's, none for a point."""
    import gymnasium

    environment = gymnasium.make(
        f"ogbench.locomaze:{dataset.environment_id}",
        terminate_at_goal=False,
        max_episode_steps=dataset.steps,
        disable_env_checker=True,
    )
    maze: Any = environment.unwrapped
    goals, heading = {
        "navigate": (NavigateGoals, ShortestWay),
        "stitch": (StitchGoals, ShortestWay),
        "explore": (ExploreGoals, RandomWays),
    }[dataset.behaviour]
    return MazeRecipe(environment, goals(maze.maze_map), heading(), expert, _noise(dataset))


def _noise(dataset: Dataset) -> float:
    if dataset.behaviour == "explore":
        return EXPLORE_NOISE
    return POINT_NOISE if dataset.walker is None else WALKER_NOISE
