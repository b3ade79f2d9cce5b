"""Scripted behaviour in the mazes: cells, goals, directions."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from qamx.data.ogbench import rollout
from qamx.data.ogbench.catalogue import Dataset
from qamx.data.ogbench.expert import Expert

Cell = tuple[int, int]
_DIRECTIONS = ((-1, 0), (0, -1), (1, 0), (0, 1))


def free_cells(maze: np.ndarray) -> list[Cell]:
    """The cells without a wall, row by row."""
    return [(int(i), int(j)) for i, j in np.argwhere(maze == 0)]


def vertex_cells(maze: np.ndarray) -> list[Cell]:
    """The free cells outside straight corridors: dead ends, corners, crossings, open floor."""
    return [cell for cell in free_cells(maze) if not _is_corridor(maze, cell)]


def _is_corridor(maze: np.ndarray, cell: Cell) -> bool:
    i, j = cell
    up_down = {maze[i - 1, j], maze[i + 1, j]}
    left_right = {maze[i, j - 1], maze[i, j + 1]}
    return (up_down, left_right) in (({0}, {1}), ({1}, {0}))


def cells_at_distance(maze: np.ndarray, start: Cell, distance: int) -> list[Cell]:
    """The free cells whose shortest path from `start` has exactly `distance` moves."""
    seen, ring = {start}, [start]
    for _ in range(distance):
        # The border of a maze is wall, so a free cell's neighbours are inside the grid.
        cells = ((i + di, j + dj) for i, j in ring for di, dj in _DIRECTIONS)
        # A dict keeps the order of discovery, which a set would leave to chance.
        ring = list(dict.fromkeys(c for c in cells if maze[c] == 0 and c not in seen))
        seen.update(ring)
    return ring


STITCH_DISTANCE = 4
STEPS_PER_DIRECTION = 10


@dataclass(frozen=True)
class Goals:
    """The sampler of an episode's goals.

    **Arguments:** `first` draws the goal of a start, `after_success` the next one once a goal is
    reached; `None` keeps the goal, and the body there.
    """

    first: Callable[[Cell, np.random.Generator], Cell]
    after_success: Callable[[np.random.Generator], Cell | None] = lambda generator: None


def navigate_goals(maze: np.ndarray) -> Goals:
    """One goal after another, uniform over the cells outside straight corridors."""
    draw = functools.partial(random_choice, vertex_cells(maze))
    return Goals(lambda start, generator: draw(generator), draw)


def stitch_goals(maze: np.ndarray) -> Goals:
    """A single goal, four moves from the start (the start itself if no cell is that far)."""

    def first(start: Cell, generator: np.random.Generator) -> Cell:
        return random_choice(cells_at_distance(maze, start, STITCH_DISTANCE) or [start], generator)

    return Goals(first)


def explore_goals(maze: np.ndarray) -> Goals:
    """A single goal that is ignored: an environment must have one."""
    return Goals(navigate_goals(maze).first)


def random_choice(cells: list[Cell], generator: np.random.Generator) -> Cell:
    """A uniformly drawn cell."""
    return cells[generator.integers(len(cells))]


class OracleDirection:
    """The direction to the next cell on the shortest path to the goal, as a unit vector."""

    def __init__(self):
        self._subgoals: dict[tuple[Cell, Cell], np.ndarray] = {}

    def direction(self, maze: Any, step: int, generator: np.random.Generator) -> np.ndarray:
        position, goal = maze.get_xy(), maze.cur_goal_xy
        # It depends on the two cells alone, and searching the maze takes longer than the physics.
        cells = maze.xy_to_ij(position), maze.xy_to_ij(goal)
        if cells not in self._subgoals:
            self._subgoals[cells], _ = maze.get_oracle_subgoal(position, goal)
        return _unit(self._subgoals[cells] - position)


class RandomDirection:
    """A random direction, drawn every ten steps, as a unit vector."""

    def __init__(self):
        self._direction = np.zeros(2)

    def direction(self, maze: Any, step: int, generator: np.random.Generator) -> np.ndarray:
        if step % STEPS_PER_DIRECTION == 0:
            self._direction = _unit(generator.normal(size=2))
        return self._direction


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / (np.linalg.norm(vector) + 1e-6)


POINT_NOISE, WALKER_NOISE, EXPLORE_NOISE = 0.5, 0.2, 1.0


@dataclass
class MazeBehaviour:
    """A body that is sent through a maze.

    **Arguments:**

    - `environment`: an OGBench maze that doesn't terminate at its goal.
    - `expert`: moves an ant or a humanoid in a direction; a point's action is the direction.
    - `noise`: standard deviation of the Gaussian noise on an action.
    """

    environment: Any
    goals: Goals
    directions: OracleDirection | RandomDirection
    expert: Expert | None
    noise: float

    def play(self, seeds: rollout.EpisodeSeeds, steps: int) -> Iterator[rollout.Row]:
        observation = self._start(seeds)
        for step in range(steps):
            action = self._action(step, seeds.generator)
            following, _, _, _, info = self.environment.step(action)
            yield rollout.make_row(observation, action, info)
            observation = following
            if info["success"]:
                self._set_next_goal(seeds.generator)

    def accepts(self, episode: rollout.Episode) -> bool:
        return True

    @property
    def _maze(self) -> Any:
        return self.environment.unwrapped

    def _start(self, seeds: rollout.EpisodeSeeds) -> np.ndarray:
        start = random_choice(free_cells(self._maze.maze_map), seeds.generator)
        task = {"init_ij": start, "goal_ij": self.goals.first(start, seeds.generator)}
        # `reset` takes a few random actions, whose source is seeded separately.
        self.environment.action_space.seed(seeds.environment)
        options = {"task_info": task}
        observation, _ = self.environment.reset(seed=seeds.environment, options=options)
        return observation

    def _action(self, step: int, generator: np.random.Generator) -> np.ndarray:
        action = self.directions.direction(self._maze, step, generator)
        if self.expert is not None:
            # The expert was trained without the position, the observation's first two entries.
            action = self.expert.act(np.concatenate([self._maze.get_ob()[2:], action]))
        return rollout.clip_action(action + generator.normal(0.0, self.noise, action.shape))

    def _set_next_goal(self, generator: np.random.Generator) -> None:
        cell = self.goals.after_success(generator)
        if cell is not None:
            # Given a cell, `set_goal` would move the goal's marker to NaN.
            goal = self._maze.add_noise(self._maze.ij_to_xy(cell))
            self._maze.set_goal(goal_xy=goal)


def maze_behaviour(dataset: Dataset, expert: Expert | None) -> MazeBehaviour:
    """The behaviour of a maze's data set; a point needs no expert."""
    environment = rollout.make_environment(dataset, "locomaze")
    noise = POINT_NOISE if dataset.walker is None else WALKER_NOISE
    goals, directions, noise = {
        "navigate": (navigate_goals, OracleDirection, noise),
        "stitch": (stitch_goals, OracleDirection, noise),
        "explore": (explore_goals, RandomDirection, EXPLORE_NOISE),
    }[dataset.behaviour]
    sampler = goals(environment.unwrapped.maze_map)
    return MazeBehaviour(environment, sampler, directions(), expert, noise)
