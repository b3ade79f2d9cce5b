"""The figure of sampled action chunks, before the critic's landscape where there is one to draw."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from qamx.audit.flow.drawing import DATA, colours
from qamx.audit.flow.report import Report
from qamx.nn import AbstractCritic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 3
"""States with a panel."""

GRID = 41
"""Points along each side of a landscape."""


def draw_actions(figure: "Figure", report: Report) -> None:
    """A panel a state: the landscape of actions with two entries, else a panel a stage."""
    shown = min(SHOWN, len(report.states.names))
    if _is_planar(report):
        axes = figure.subplots(1, shown, sharex=True, sharey=True, squeeze=False)[0]
        _draw_landscapes(figure, axes, report, shown)
        return
    stages = [0, -1] if len(report.measures.names) > 1 else [-1]
    axes = figure.subplots(len(stages), shown, sharex=True, sharey=True, squeeze=False)
    _draw_coloured(figure, axes, report, stages)


def height_of_actions(report: Report) -> float:
    """Of the figure, in inches."""
    return 3.5 if _is_planar(report) or len(report.measures.names) < 2 else 5.6


def caption_of_actions(report: Report) -> str:
    """What the figure shows."""
    if _is_planar(report):
        return (
            "Sampled chunks by their first action. Shade: the pessimistic critic over first "
            "actions, the rest of the chunk as the policy's samples have it on average, darker is "
            "worse. Crosses: what the data do at the nearest states. Healthy: the acting "
            "policy's points lie where the critic is bright and where the data are."
        )
    return (
        f"Sampled chunks in the two entries of the action that vary most ({_names(report)}), "
        "coloured by the pessimistic critic, bright is good; a row a policy. Grey crosses: what "
        "the data do at the nearest states. Healthy: below, points are brighter than above and "
        "still among the data's."
    )


def _is_planar(report: Report) -> bool:
    return report.measures.acting.actions.shape[-1] == 2 * report.horizon


def _entries(report: Report) -> np.ndarray:
    """The two entries of a chunk that vary most, over all stages and the data near by."""
    spread = np.mean([np.var(s.actions, axis=1) for s in report.measures.found.stages], (0, 1))
    if report.states.near is not None:
        spread = spread + np.mean(np.var(report.states.near, axis=1), axis=0)
    if len(spread) < 2:
        return np.array([0, 0])
    return np.sort(np.argsort(spread)[-2:])


def _name(report: Report, entry: int) -> str:
    size = report.measures.acting.actions.shape[-1] // report.horizon
    step, inside = divmod(int(entry), size)
    return f"action {step}, entry {inside}"


def _names(report: Report) -> str:
    return " and ".join(dict.fromkeys(_name(report, entry) for entry in _entries(report)))


def _frame(axes: "Axes", report: Report, state: int) -> None:
    axes.set(xlim=(-1.12, 1.12), ylim=(-1.12, 1.12), aspect="equal")
    axes.set_title(report.states.names[state])
    axes.set_xticks((-1, 0, 1))
    axes.set_yticks((-1, 0, 1))
    axes.grid(False)


def _draw_data(axes: "Axes", report: Report, state: int, entries: np.ndarray) -> None:
    if report.states.near is not None:
        x, y = report.states.near[state][:, entries].T
        axes.plot(x, y, "x", color="white", ms=6, mew=2.6)
        label = "data near by" if state == 0 else None
        axes.plot(x, y, "x", color=DATA, ms=5, mew=1.2, label=label)


# --- two entries an action ---


def _draw_landscapes(figure: "Figure", axes: Any, report: Report, shown: int) -> None:
    first = np.array([0, 1])
    for state, panel in enumerate(axes):
        side, values = _landscape(report, state)
        image = panel.contourf(side, side, values, 14, cmap="Greys_r", alpha=0.75)
        _draw_bar(figure, image, [panel], last=state == shown - 1)
        _draw_data(panel, report, state, first)
        stages = report.measures.found.stages
        for stage, colour, name in zip(
            stages, colours(len(stages)), report.measures.names, strict=True
        ):
            x, y = np.asarray(stage.actions)[state][:, first].T
            label = name if state == 0 else None
            panel.plot(x, y, "o", color=colour, mec="white", mew=0.5, ms=4.5, label=label)
        _frame(panel, report, state)
        panel.set_xlabel("first action, entry 0")
    axes[0].set_ylabel("first action, entry 1")
    figure.legend(loc="outside lower center", ncols=6)


def _draw_bar(figure: "Figure", image: Any, axes: "list[Axes]", last: bool) -> None:
    """The scale of the colours beside a column of panels; the last one is named."""
    from matplotlib.ticker import MaxNLocator

    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.ax.tick_params(labelsize=7.5)
    bar.locator = MaxNLocator(4)
    if last:
        bar.set_label("pessimistic critic")


def _landscape(report: Report, state: int) -> tuple[np.ndarray, np.ndarray]:
    """The grid's side and the pessimistic values of first actions, [entry 1, entry 0]."""
    side = np.linspace(-1, 1, GRID, dtype=np.float32)
    across, up = np.meshgrid(side, side)
    mean = np.mean(np.asarray(report.measures.acting.actions)[state], axis=0)
    rows = np.tile(mean, (GRID * GRID, 1))
    rows[:, 0], rows[:, 1] = across.ravel(), up.ravel()
    observation = np.tile(report.states.observations[state], (GRID * GRID, 1))
    values = _values(report.anatomy.critic, jnp.asarray(observation), jnp.asarray(rows))
    return side, report.measures.lower(np.asarray(values)).reshape(GRID, GRID)


@eqx.filter_jit
def _values(critic: AbstractCritic, observation: Any, action: Any) -> Any:
    return critic(observation, action)


# --- more ---


def _draw_coloured(figure: "Figure", axes: Any, report: Report, stages: list[int]) -> None:
    entries, found = _entries(report), report.measures.found.stages
    names = report.measures.names
    for state, column in enumerate(axes.T):
        values = [report.measures.lower(found[stage].values)[state] for stage in stages]
        ends = float(np.min(values)), float(np.max(values))
        for row, stage in enumerate(stages):
            panel = column[row]
            _draw_data(panel, report, state, entries)
            x, y = np.asarray(found[stage].actions)[state][:, entries].T
            panel.scatter(
                x, y, c=values[row], vmin=ends[0], vmax=ends[1], cmap="cividis", s=20, zorder=3
            )
            _frame(panel, report, state)
            if row > 0:
                panel.set_title("")
            if state == 0:
                panel.set_ylabel(f"{names[stage]}\n{_name(report, entries[1])}")
        column[-1].set_xlabel(_name(report, entries[0]))
        _draw_bar(figure, column[0].collections[0], list(column), last=state == axes.shape[1] - 1)
