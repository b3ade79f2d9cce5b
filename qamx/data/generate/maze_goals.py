"""Where a body in a maze is sent, and which way it is told to go there."""

from typing import Any, Protocol

import numpy as np

from qamx.data.generate.maze_cells import Cell, cells_at_distance, vertex_cells

STITCH_DISTANCE = 4
STEPS_OF_A_WAY = 10


class Goals(Protocol):
    """Where the body goes."""

    def first(self, start: Cell, generator: np.random.Generator) -> Cell:
        """The goal at the start of an episode."""
        ...

    def after_success(self, generator: np.random.Generator) -> Cell | None:
        """The goal once the last one is reached; `None` keeps it, so the body stays there."""
        ...


class NavigateGoals:
    """One goal after another, uniform over the cells that are no straight corridor."""

    def __init__(self, maze: np.ndarray):
        self._cells = vertex_cells(maze)

    def first(self, start: Cell, generator: np.random.Generator) -> Cell:
        return any_of(self._cells, generator)

    def after_success(self, generator: np.random.Generator) -> Cell | None:
        return any_of(self._cells, generator)


class StitchGoals:
    """A single goal, four moves from the start (the start itself where no cell is so far)."""

    def __init__(self, maze: np.ndarray):
        self._maze = maze

    def first(self, start: Cell, generator: np.random.Generator) -> Cell:
        return any_of(cells_at_distance(self._maze, start, STITCH_DISTANCE) or [start], generator)

    def after_success(self, generator: np.random.Generator) -> Cell | None:
        return None


class ExploreGoals:
    """A single goal that nobody goes to: an environment must have one."""

    def __init__(self, maze: np.ndarray):
        self._cells = vertex_cells(maze)

    def first(self, start: Cell, generator: np.random.Generator) -> Cell:
        return any_of(self._cells, generator)

    def after_success(self, generator: np.random.Generator) -> Cell | None:
        return None


def any_of(cells: list[Cell], generator: np.random.Generator) -> Cell:
    """One of the cells, uniformly."""
    return cells[generator.integers(len(cells))]


class Heading(Protocol):
    """Which way the body is told to go."""

    def direction(self, maze: Any, step: int, generator: np.random.Generator) -> np.ndarray:
        """A vector of length 1, before the given step of an episode."""
        ...


class ShortestWay:
    """To the next cell on the shortest way to the goal."""

    def __init__(self):
        self._subgoals: dict[tuple[Cell, Cell], np.ndarray] = {}

    def direction(self, maze: Any, step: int, generator: np.random.Generator) -> np.ndarray:
        position = maze.get_xy()
        return _unit(self._subgoal(maze, position, maze.cur_goal_xy) - position)

    def _subgoal(self, maze: Any, position: np.ndarray, goal: np.ndarray) -> np.ndarray:
        # It depends on the two cells alone, and searching the maze takes longer than the physics.
        cells = maze.xy_to_ij(position), maze.xy_to_ij(goal)
        if cells not in self._subgoals:
            self._subgoals[cells], _ = maze.get_oracle_subgoal(position, goal)
        return self._subgoals[cells]


class RandomWays:
    """A random direction, another one every ten steps."""

    def __init__(self):
        self._way = np.zeros(2)

    def direction(self, maze: Any, step: int, generator: np.random.Generator) -> np.ndarray:
        if step % STEPS_OF_A_WAY == 0:
            self._way = _unit(generator.normal(size=2))
        return self._way


def _unit(way: np.ndarray) -> np.ndarray:
    return way / (np.linalg.norm(way) + 1e-6)
