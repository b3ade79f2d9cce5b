"""Several episodes in one picture, each with a caption and, at its end, a mark."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qamx.envs.rendering import Image
from qamx.evaluation.replay import Again

SUCCESS, FAILURE = (40, 180, 80), (150, 110, 110)
BACKGROUND, TEXT = (24, 26, 32), (235, 235, 235)
GAP = 4


class Grid:
    """Cells in rows; a cell whose episode is over keeps its last image, framed.

    **Arguments:** `cells` fill the rows from the left, `columns` in each; `size` is the width of a
    cell in pixels.
    """

    def __init__(self, cells: Sequence[Again], columns: int, size: int):
        self._cells, self._columns, self._size = cells, columns, size
        self._images = [self._fitted(cell.image()) for cell in cells]
        self._height = max(image.height for image in self._images)
        self._strip = max(14, size // 14)
        self._pitch = size + GAP, self._height + self._strip + GAP
        rows = math.ceil(len(cells) / columns)
        # H.264 with half the colours' resolution needs even numbers.
        even = (side + side % 2 for side in (columns * self._pitch[0], rows * self._pitch[1]))
        self._canvas = _new(tuple(even))
        self._done = [False] * len(cells)
        for index in range(len(cells)):
            self._draw(index)

    def image(self) -> Image:
        """The present state of all cells."""
        return np.asarray(self._canvas)

    def look(self) -> None:
        """Draws anew every cell whose episode has gone on since."""
        for index, cell in enumerate(self._cells):
            if not self._done[index]:
                self._images[index] = self._fitted(cell.image())
                self._draw(index)

    def _fitted(self, image: Image) -> Any:
        from PIL import Image as Pillow

        picture = Pillow.fromarray(image)
        height = max(1, round(picture.height * self._size / picture.width))
        wanted = (self._size, height)
        return picture if picture.size == wanted else picture.resize(wanted)

    def _draw(self, index: int) -> None:
        from PIL import ImageDraw

        cell, (wide, high) = self._cells[index], self._pitch
        left, top = (
            index % self._columns * wide + GAP // 2,
            index // self._columns * high + GAP // 2,
        )
        right, bottom = left + self._size - 1, top + self._height + self._strip - 1
        draw = ImageDraw.Draw(self._canvas)
        draw.rectangle((left, top, right, bottom), fill=BACKGROUND)
        self._canvas.paste(self._images[index], (left, top))
        self._caption(draw, cell, left, right, bottom)
        self._done[index] = cell.over
        if cell.over:
            colour = SUCCESS if cell.episode.success else FAILURE
            draw.rectangle(
                (left, top, right, bottom), outline=colour, width=max(2, self._size // 60)
            )
            _mark(draw, cell.episode.success, (right, top), self._size // 12)

    def _caption(self, draw: Any, cell: Again, left: int, right: int, bottom: int) -> None:
        task = "" if cell.played.task is None else f"task {cell.played.task}  "
        text, step = f"{cell.played.policy}  {task}seed {cell.episode.seed}", f"step {cell.step}"
        middle, edge = bottom - self._strip / 2, self._size // 40
        font = _font(draw, f"{text}  {step}", self._strip * 0.6, right - left - 2 * edge)
        draw.text((left + edge, middle), text, fill=TEXT, font=font, anchor="lm")
        draw.text((right - edge, middle), step, fill=TEXT, font=font, anchor="rm")


def _font(draw: Any, text: str, height: float, width: float) -> Any:
    """A font of that height, or lower so that the text fits into the width."""
    from PIL import ImageFont

    font = ImageFont.load_default(height)
    return ImageFont.load_default(height * min(1.0, width / draw.textlength(text, font=font)))


def _new(size: Sequence[int]) -> Any:
    from PIL import Image as Pillow

    return Pillow.new("RGB", (size[0], size[1]), BACKGROUND)


def _mark(draw: Any, success: bool, corner: tuple[int, int], size: int) -> None:
    """A tick or a cross on a disc, in the upper right corner of a cell."""
    x, y = corner[0] - size * 1.2, corner[1] + size * 0.2
    draw.ellipse((x, y, x + size, y + size), fill=SUCCESS if success else FAILURE)

    def line(*points: tuple[float, float]) -> None:
        placed = [(x + a * size, y + b * size) for a, b in points]
        draw.line(placed, fill="white", width=max(2, size // 8), joint="curve")

    if success:
        line((0.26, 0.53), (0.44, 0.71), (0.75, 0.32))
    else:
        line((0.3, 0.3), (0.7, 0.7))
        line((0.7, 0.3), (0.3, 0.7))
