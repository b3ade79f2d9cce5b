"""The curves of a comparison, one side over the other."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qamx.studies.comparison import Row
from qamx.studies.curves import Curve, curve
from qamx.studies.figures import COLOURS, Style, draw_curve, finish, panels
from qamx.studies.moments import ALL
from qamx.studies.reference import published, steps
from qamx.studies.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, THEIRS = COLOURS[0], "#555555"


def overlay(rows: Sequence[Row], runs: Sequence[Run], other: Sequence[Run] | None) -> "Figure":
    """A panel for each row, but not for the tasks of a domain that has a panel.

    **Arguments:** `other` are the other side's runs; without them it is the published figures.
    """
    whole = {(row.label, row.group) for row in rows}
    shown = [row for row in rows if (row.label, row.group.rpartition(" task ")[0]) not in whole]
    columns = min(len(shown), 3)
    theirs = "published" if other is None else "theirs"
    style: Style = {"ours": (OURS, "-"), theirs: (THEIRS, "--")}
    figure, axes = panels(-(-len(shown) // columns), columns, (3.6, 2.6), legend=2)
    for axis, row in zip(axes, shown, strict=False):
        _draw(axis, row, other)
        for label in row.label.split(" - ")[:1]:
            draw_curve(axis, curve(label, _of(row, label, runs)), OURS, "-")
        axis.axvline(row.step / 1e6, color="#999999", lw=0.8, ls=(0, (2, 2)))
        mark = " (differs)" if row.differs else ""
        group = "all tasks" if row.group == ALL else row.group
        axis.set_title(f"{row.label}{mark}\n{group}", fontsize=9)
    finish(figure, axes, len(shown), columns, style)
    return figure


def _draw(axis: "Axes", row: Row, other: Sequence[Run] | None) -> None:
    if other is not None:
        label = row.label.split(" - ")[-1]
        draw_curve(axis, curve(label, _of(row, label, other)), THEIRS, "--")
        return
    found = _published_curve(row.label, row.group)
    if " task " in row.group:
        errors = 100 * np.stack([found.mean - found.low, found.high - found.mean])
        axis.errorbar(
            found.steps / 1e6,
            100 * found.mean,
            yerr=errors,
            fmt="o",
            color=THEIRS,
            ms=4,
            capsize=3,
        )
    else:
        draw_curve(axis, found, THEIRS, "--")


def _published_curve(label: str, group: str) -> Curve:
    """What is published of a group: of a domain a curve, of a task the ends of both phases."""
    at = steps(label, group)
    rows = [published()[label, group, step] for step in at]
    mean, low, high = np.array([(row.mean, row.low, row.high) for row in rows]).T
    return Curve(np.array(at), mean, low, high)


def _of(row: Row, label: str, runs: Sequence[Run]) -> list[Run]:
    """A row's runs that did not diverge."""
    return [
        run
        for run in runs
        if run.label == label
        and run.diverged is None
        and row.group in (str(run.task), run.task.domain, ALL)
    ]
