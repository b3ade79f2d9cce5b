"""Writing images as MP4 and GIF, one after the other."""

import contextlib
import math
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from qamx.envs.rendering import Image
from qamx.errors import UserError
from qamx.evaluation.grid import FAILURE, SUCCESS

LONGEST_GIF = 150
"""Images in a GIF at most: of a longer episode every k-th is taken."""
FASTEST_GIF = 20.0
"""Images a second in a GIF at most; browsers slow faster ones down."""
COLOURS = 96
LINGER_SECONDS = 1.5
"""How long an MP4 shows the end."""


class Encoder(Protocol):
    """A file that images are added to; it is there once it is closed.

    Of the images of all steps it takes every `every`-th, and the last that it was given.
    """

    every: int

    def add(self, step: int, image: Image) -> None:
        """Adds the image of a step."""
        ...

    def close(self) -> None:
        """Finishes the file."""
        ...

    def discard(self) -> None:
        """Leaves no part of a file; one that was there before stays."""
        ...


def require_packages() -> None:
    """Imports what encodes.

    **Raises:** `UserError` with the command that installs it.
    """
    try:
        import av
        import PIL
    except ImportError as error:
        raise UserError(
            f'videos need the package {error.name}: pip install "qamx[video]"'
        ) from error
    del av, PIL


class Mp4:
    """H.264 in the colours that every browser plays; it stays at the end for a while."""

    every = 1

    def __init__(self, path: Path, fps: float):
        import av

        self._path, self._partial = path, _partial(path)
        self._linger = round(LINGER_SECONDS * fps)
        self._last: Image | None = None
        self._file = av.open(
            str(self._partial), "w", format="mp4", options={"movflags": "+faststart"}
        )
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
        with contextlib.suppress(OSError):  # it writes what is left, where a disk may be full
            self._file.close()
        self._partial.unlink(missing_ok=True)


class Gif:
    """A GIF of a bounded number of images, all in the colours of the first and of the marks.

    **Arguments:** `steps` is how many images will be added.
    """

    def __init__(self, path: Path, fps: float, steps: int):
        self._path, self._partial, self._fps = path, _partial(path), fps
        self.every = max(1, math.ceil(steps / LONGEST_GIF), math.ceil(fps / FASTEST_GIF))
        self._images: list[Any] = []
        self._last: Any = None
        self._palette: Any = None

    def add(self, step: int, image: Image) -> None:
        from PIL import Image as Pillow

        self._last = Pillow.fromarray(image)
        if self._palette is None:
            self._palette = _palette(self._last)
        if step % self.every == 0:
            self._images.append(self._reduced(self._last))

    def close(self) -> None:
        images = [*self._images, self._reduced(self._last)]  # the end shows how it went
        each = round(1000 * self.every / self._fps)
        images[0].save(
            self._partial,
            save_all=True,
            append_images=images[1:],
            duration=[each] * (len(images) - 1) + [2000],
            loop=0,
            optimize=True,
        )
        self._partial.replace(self._path)

    def discard(self) -> None:
        self._partial.unlink(missing_ok=True)

    def _reduced(self, picture: Any) -> Any:
        from PIL import Image as Pillow

        return picture.quantize(palette=self._palette, dither=Pillow.Dither.NONE)


def _partial(path: Path) -> Path:
    """Where a file is until it is whole."""
    return path.with_name(f".{path.name}")


def _palette(picture: Any) -> Any:
    """The colours of a picture, and those of the marks."""
    from PIL import Image as Pillow

    both = Pillow.new("RGB", (picture.width, picture.height + 40))
    both.paste(picture)
    for row, colour in enumerate((SUCCESS, FAILURE)):
        both.paste(
            colour, (0, picture.height + 20 * row, picture.width, picture.height + 20 * row + 20)
        )
    return both.quantize(COLOURS, method=Pillow.Quantize.MEDIANCUT)
