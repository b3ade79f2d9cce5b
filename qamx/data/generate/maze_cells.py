"""Cells of a maze: a grid whose entry is 0 where one can go and 1 where there is a wall."""

import numpy as np

Cell = tuple[int, int]
_DIRECTIONS = ((-1, 0), (0, -1), (1, 0), (0, 1))


def free_cells(maze: np.ndarray) -> list[Cell]:
    """All cells without a wall, row by row."""
    return [(int(i), int(j)) for i, j in np.argwhere(maze == 0)]


def vertex_cells(maze: np.ndarray) -> list[Cell]:
    """The free cells that are no straight corridor: dead ends, corners, crossings, open floor."""
    return [cell for cell in free_cells(maze) if not _is_corridor(maze, cell)]


def _is_corridor(maze: np.ndarray, cell: Cell) -> bool:
    i, j = cell
    up_down = {maze[i - 1, j], maze[i + 1, j]}
    left_right = {maze[i, j - 1], maze[i, j + 1]}
    return (up_down, left_right) in (({0}, {1}), ({1}, {0}))


def cells_at_distance(maze: np.ndarray, start: Cell, distance: int) -> list[Cell]:
    """The free cells whose shortest way from `start` takes exactly `distance` moves."""
    seen = {start}
    ring = [start]
    for _ in range(distance):
        # A dict keeps the order of discovery, which a set would leave to chance.
        ring = list(dict.fromkeys(c for cell in ring for c in _open(maze, cell) if c not in seen))
        seen.update(ring)
    return ring


def _open(maze: np.ndarray, cell: Cell) -> list[Cell]:
    # The border of a maze is wall, so a free cell's neighbours are inside the grid.
    around = [(cell[0] + di, cell[1] + dj) for di, dj in _DIRECTIONS]
    return [neighbour for neighbour in around if maze[neighbour] == 0]
