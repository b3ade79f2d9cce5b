"""What the figures of a page share: colours, bands, and how a figure becomes a PNG."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from qamx.data.transitions import AnyArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASE, ACTING, BETWEEN, DATA = "#0072b2", "#d55e00", "#cc79a7", "#6b6b6b"
"""Of Okabe and Ito's palette, apart for colour-blind readers, and a grey for the data."""

GREEN = "#009e73"

_STYLE: dict[Any, Any] = {  # keys are of a type that matplotlib's stubs alone have
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}

Draw = Callable[["Figure"], None]
"""Fills an empty figure."""


def rendered(draw: Draw, height: float) -> bytes:
    """A figure of a page's width and that height (inches) as PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.5, height), layout="constrained")
        draw(figure)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def colours(count: int) -> list[str]:
    """A colour for each stage: the base's first, what acts last."""
    middle = [BETWEEN] * max(count - 2, 0)
    return [BASE, *middle, ACTING] if count > 1 else [ACTING]


def band(axes: "Axes", x: AnyArray, rows: AnyArray, colour: str, label: str) -> None:
    """The mean of each row, and the middle 80% as a band; what is not finite is left out."""
    flat = np.where(np.isfinite(rows), rows, np.nan).reshape(len(x), -1)
    if np.isnan(flat).all():
        return
    low, high = np.nanquantile(flat, (0.1, 0.9), axis=1)
    axes.fill_between(np.asarray(x), low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(np.asarray(x), np.nanmean(flat, axis=1), "o-", color=colour, ms=3.5, label=label)


def widen(axes: "Axes", values: AnyArray) -> None:
    """A logarithmic axis for positive values that span much; where they span little, it would
    have no ticks that can be read."""
    flat = np.asarray(values, float).ravel()
    flat = flat[np.isfinite(flat)]
    if flat.size and flat.min() > 0 and flat.max() > 20 * flat.min():
        axes.set_yscale("log")
