"""The figure of training: what the run logged, with phases and evaluations."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from qamx.audit.flow.drawing import ACTING, BASE, BETWEEN, DATA, GREEN, widen
from qamx.audit.flow.subject import Row, Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panel = tuple[str, bool, tuple[tuple[str, str], ...]]
"""A label, whether the axis is logarithmic, and the keys with what each is called."""

PANELS: tuple[Panel, ...] = (
    (
        "critic's values",
        False,
        (("critic/q_max", "largest"), ("critic/q_mean", "mean"), ("critic/q_min", "smallest")),
    ),
    ("path KL, nats a step", True, (("adjoint_matching/path_kl", "path KL"),)),
    (
        "entries of |g|",
        True,
        (
            ("adjoint_matching/boundary_max", "t = 1, largest"),
            ("adjoint_matching/boundary_mean", "t = 1, mean"),
            ("adjoint_matching/start_mean", "t = 0, mean"),
        ),
    ),
    ("inverse temperature", True, (("adjoint_matching/inverse_temperature", "tau"),)),
    ("gradient norm", True, (("update/gradient_norm", "before clipping"),)),
)
"""What is shown where the run logs it, after the losses."""

COLOURS = (ACTING, BASE, BETWEEN, GREEN, DATA, "#e69f00", "#56b4e9")


def panels_of(subject: Subject) -> list[Panel]:
    """The panels for which the run has logged something."""
    logged = {key for row in subject.metrics for key in row}
    losses = tuple((key, key.removesuffix("/loss")) for key in sorted(logged) if _is_loss(key))
    panels = [("losses", True, losses), *PANELS]
    kept = [(label, log, tuple(k for k in keys if k[0] in logged)) for label, log, keys in panels]
    constant = {key for key in logged if len({row.get(key) for row in subject.metrics}) == 1}
    return [
        (label, log, keys)
        for label, log, keys in kept
        if keys and not {key for key, _ in keys} <= constant
    ]


def _is_loss(key: str) -> bool:
    return key.endswith("loss") and key != "update/loss"


def draw_training(figure: "Figure", subject: Subject) -> None:
    """Success above, what was logged below, over the run's steps."""
    panels = panels_of(subject)
    count = len(panels) + 1
    axes = figure.subplots(-(-count // 2), 2, sharex=True, squeeze=False).ravel()
    _draw_success(axes[0], subject.evaluations)
    for axis, panel in zip(axes[1:], panels, strict=False):
        _draw_panel(axis, panel, subject.metrics)
    for axis in axes[count:]:
        axis.set_visible(False)
    for axis in axes[:count]:
        for border in borders(subject.metrics):
            axis.axvline(border, color="black", lw=0.9, ls=(0, (2, 2)))
        axis.axvline(subject.step, color=GREEN, lw=1.2, ls=":")
    for axis in axes[max(count - 2, 0) : count]:
        axis.set_xlabel("step")
        axis.tick_params(labelbottom=True)


def borders(rows: list[Row]) -> Iterator[int]:
    """The last step of each phase but the last, as far as it was logged."""
    for before, after in itertools.pairwise(rows):
        if before["phase"] != after["phase"]:
            yield before["step"]


def _draw_success(axes: "Axes", rows: list[Row]) -> None:
    for key, colour, label in (
        ("success", ACTING, "policy"),
        ("behaviour_success", BASE, "clone of the data"),
    ):
        points = [(row["step"], 100 * row[key]) for row in rows if row.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=colour, ms=3.5, label=label)
    axes.set(ylabel="success (%)", ylim=(-4, 104))
    if rows:
        axes.legend(loc="best")


def _draw_panel(axes: "Axes", panel: Panel, rows: list[Row]) -> None:
    label, logarithmic, keys = panel
    drawn = []
    for (key, name), colour in zip(keys, COLOURS, strict=False):
        points = np.array([(row["step"], row[key]) for row in rows if key in row], float)
        axes.plot(points[:, 0], points[:, 1], color=colour, lw=1.4, label=name)
        drawn.append(points[:, 1])
    if logarithmic:
        widen(axes, np.concatenate(drawn))
    axes.set_ylabel(label)
    axes.legend(loc="best")
