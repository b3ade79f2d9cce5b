"""Frames of a video: the grid of cells, and its encoders (PyAV for MP4, Pillow for GIF)."""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from qamx.envs.rendering import Image
from qamx.errors import UserError, install_extra
from qamx.evaluation.replay import EpisodeReplay

SUCCESS, FAILURE = (40, 180, 80), (150, 110, 110)
BACKGROUND, TEXT = (24, 26, 32), (235, 235, 235)
GAP = 4


class Grid:
    """Cells in rows; the last image of an ended episode stays, framed.

    **Arguments:** `columns` is the number of cells in a row, `size` the width of a cell in pixels.
    """

    def __init__(self, cells: Sequence[EpisodeReplay], columns: int, size: int):
        from PIL import Image as Pillow

        self._cells, self._columns, self._size = cells, columns, size
        self._height = max(self._fitted(cell.image()).height for cell in cells)
        self._strip = max(14, size // 14)
        self._pitch = size + GAP, self._height + self._strip + GAP
        rows = math.ceil(len(cells) / columns)
        # H.264 with half the colours' resolution needs even numbers.
        even = [side + side % 2 for side in (columns * self._pitch[0], rows * self._pitch[1])]
        self._canvas = Pillow.new("RGB", (even[0], even[1]), BACKGROUND)
        self._done = [False] * len(cells)

    def image(self) -> Image:
        """The current image of all cells, of which those of running episodes are drawn anew."""
        for index, done in enumerate(self._done):
            if not done:
                self._draw(index)
        return np.asarray(self._canvas)

    def _fitted(self, image: Image) -> Any:
        from PIL import Image as Pillow

        picture = Pillow.fromarray(image)
        height = max(1, round(picture.height * self._size / picture.width))
        return picture.resize((self._size, height))

    def _draw(self, index: int) -> None:
        from PIL import ImageDraw

        cell, (wide, high) = self._cells[index], self._pitch
        row, column = divmod(index, self._columns)
        left, top = column * wide + GAP // 2, row * high + GAP // 2
        right, bottom = left + self._size - 1, top + self._height + self._strip - 1
        draw = ImageDraw.Draw(self._canvas)
        draw.rectangle((left, top, right, bottom), fill=BACKGROUND)
        self._canvas.paste(self._fitted(cell.image()), (left, top))
        self._caption(draw, cell, left, right, bottom)
        self._done[index] = cell.over
        if cell.over:
            colour = SUCCESS if cell.episode.success else FAILURE
            wide = max(2, self._size // 60)
            draw.rectangle((left, top, right, bottom), outline=colour, width=wide)
            _draw_outcome(draw, cell.episode.success, (right, top), self._size // 12)

    def _caption(self, draw: Any, cell: EpisodeReplay, left: int, right: int, bottom: int) -> None:
        task = "" if cell.result.task is None else f"task {cell.result.task}  "
        text = f"{cell.result.policy}  {task}episode {cell.episode.index + 1}"
        step = f"step {cell.step}"
        if cell.over:
            step += f"  return {cell.episode.total_reward:g}"
        middle, edge = bottom - self._strip / 2, self._size // 40
        font = _font(draw, f"{text}  {step}", self._strip * 0.6, right - left - 2 * edge)
        draw.text((left + edge, middle), text, fill=TEXT, font=font, anchor="lm")
        draw.text((right - edge, middle), step, fill=TEXT, font=font, anchor="rm")


def _font(draw: Any, text: str, height: float, width: float) -> Any:
    """A font of that height, or lower so that the text fits into the width."""
    from PIL import ImageFont

    font = ImageFont.load_default(height)
    return ImageFont.load_default(height * min(1.0, width / draw.textlength(text, font=font)))


def _draw_outcome(draw: Any, success: bool, corner: tuple[int, int], size: int) -> None:
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


LONGEST_GIF = 150
"""The limit of images in a GIF: of a longer episode every k-th is taken."""

FASTEST_GIF = 20.0
"""The limit of images a second in a GIF; browsers slow faster ones down."""

COLOURS = 96

LINGER_SECONDS = 1.5
"""The time that an MP4 shows its end."""


def require_packages() -> None:
    """Imports the encoders' packages.

    **Raises:** `UserError` with the command that installs them.
    """
    try:
        import av
        import PIL
    except ImportError as error:
        text = f"videos need the package {error.name}: {install_extra('video')}"
        raise UserError(text) from error
    del av, PIL


# PyAV and Pillow directly: imageio's wrapper of PyAV has no option for the quality, mediapy needs
# a program, ffmpeg, that pip does not install.


class Encoder(ABC):
    """A video file, which appears when it is closed.

    It takes every `every`-th image and the last one.
    """

    every = 1

    def __init__(self, path: Path):
        self._path, self._partial = path, path.with_name(f".{path.name}")

    @abstractmethod
    def add(self, step: int, image: Image) -> None:
        """Adds the image of a step."""

    @abstractmethod
    def close(self) -> None:
        """Finishes the file."""

    def discard(self) -> None:
        """Removes the unfinished file; an earlier one stays."""
        self._partial.unlink(missing_ok=True)


class Mp4(Encoder):
    """H.264 in the colours that every browser plays; it lingers at the end."""

    def __init__(self, path: Path, fps: float):
        import av

        super().__init__(path)
        self._linger = round(LINGER_SECONDS * fps)
        self._last: Image | None = None
        options = {"movflags": "+faststart"}
        self._file = av.open(str(self._partial), "w", format="mp4", options=options)
        rate = Fraction(fps).limit_denominator(1000)
        self._stream: Any = self._file.add_stream("libx264", rate=rate, options={"crf": "20"})
        self._stream.pix_fmt = "yuv420p"

    def add(self, step: int, image: Image) -> None:
        import av

        if self._last is None:
            self._stream.height, self._stream.width = image.shape[:2]
        self._last = image
        self._file.mux(self._stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))

    def close(self) -> None:
        if self._last is not None:
            for _ in range(self._linger):
                self.add(-1, self._last)
        self._file.mux(self._stream.encode(None))
        self._file.close()
        self._partial.replace(self._path)

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # closing writes, where a disk may be full
            self._file.close()
        super().discard()


class Gif(Encoder):
    """A GIF of at most `LONGEST_GIF` images in one palette.

    **Arguments:** `steps` is the number of images to come.
    """

    def __init__(self, path: Path, fps: float, steps: int):
        super().__init__(path)
        self._fps = fps
        self.every = max(1, math.ceil(steps / LONGEST_GIF), math.ceil(fps / FASTEST_GIF))
        self._images: list[Any] = []
        self._last: Image | None = None
        self._palette: Any = None

    def add(self, step: int, image: Image) -> None:
        self._last = image
        if step % self.every == 0:
            self._images.append(self._reduced(image))

    def close(self) -> None:
        assert self._last is not None
        images = [*self._images, self._reduced(self._last)]
        durations = [round(1000 * self.every / self._fps)] * len(self._images) + [2000]
        options = {"save_all": True, "duration": durations, "loop": 0, "optimize": True}
        images[0].save(self._partial, append_images=images[1:], **options)
        self._partial.replace(self._path)

    def _reduced(self, image: Image) -> Any:
        """The image in the colours of the first one and of the outcomes' frames."""
        from PIL import Image as Pillow

        if self._palette is None:
            frames = [np.full((20, image.shape[1], 3), colour) for colour in (SUCCESS, FAILURE)]
            colours = Pillow.fromarray(np.concatenate([image, *frames]).astype(np.uint8))
            self._palette = colours.quantize(COLOURS, method=Pillow.Quantize.MEDIANCUT)
        picture = Pillow.fromarray(image)
        return picture.quantize(palette=self._palette, dither=Pillow.Dither.NONE)
