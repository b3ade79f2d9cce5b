"""Figures of `qamx inspect`: actions, flows, training."""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from qamx._utils.html import AMBER, BLUE, GREEN, GREY, ORANGE, PINK, SKY, legend_above
from qamx.data.transitions import AnyArray
from qamx.tools.inspect_policy.inspection import PolicyReport, StageDiagnostics
from qamx.tools.inspect_policy.states import InspectedRun, LogRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Draw = Callable[["Figure", PolicyReport], None]
"""Fills a figure."""

BASE, ACTING, BETWEEN, DATA = BLUE, ORANGE, PINK, GREY

TIME = "flow time t (0 noise, 1 action)"

SHOWN = 3
"""States with a panel."""

GRID = 41
"""Points along each side of a landscape."""


def named_stages(report: PolicyReport) -> list[tuple[StageDiagnostics, str, str]]:
    """Each stage with its name and colour: the base's first, the acting one last."""
    names = report.names
    colours = [ACTING] if len(names) == 1 else [BASE, *[BETWEEN] * (len(names) - 2), ACTING]
    return list(zip(report.found.stages, names, colours, strict=True))


def band(axes: "Axes", x: AnyArray, rows: AnyArray, colour: str, label: str) -> None:
    """The mean of each row, and the middle 80% as a band, without non-finite entries."""
    flat = np.where(np.isfinite(rows), rows, np.nan).reshape(len(x), -1)
    if np.isnan(flat).all():
        return
    low, high = np.nanquantile(flat, (0.1, 0.9), axis=1)
    axes.fill_between(np.asarray(x), low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(np.asarray(x), np.nanmean(flat, axis=1), "o-", color=colour, ms=3.5, label=label)


def maybe_log_axis(axes: "Axes", values: AnyArray) -> None:
    """A logarithmic axis for positive values over more than a factor of 20."""
    flat = np.asarray(values, float).ravel()
    flat = flat[np.isfinite(flat)]
    if flat.size and flat.min() > 0 and flat.max() > 20 * flat.min():
        axes.set_yscale("log")


def action_figure(report: PolicyReport) -> tuple[str, Draw, float]:
    """The caption, the drawing and the height in inches of the figure of actions, a panel a state:
    the landscape of actions with two entries, else a panel a stage."""
    if report.acting.actions.shape[-1] == 2 * report.horizon:
        caption = (
            "Sampled chunks by their first action. Shade: the pessimistic critic over first "
            "actions, the rest of the chunk as the policy's samples have it on average, darker is "
            "worse. Crosses: the data's actions at the nearest states. Healthy: the acting "
            "policy's points lie where the critic is bright and among the crosses."
        )
        return caption, _draw_landscapes, 3.5
    names = " and ".join(dict.fromkeys(_name(report, entry) for entry in _entries(report)))
    caption = (
        f"Sampled chunks in the two dimensions of the action that vary most ({names}), "
        "coloured by the pessimistic critic, bright is good; a row a policy. Grey crosses: the "
        "data's actions at the nearest states. Healthy: below, points are brighter than above and "
        "still among the data's."
    )
    return caption, _draw_coloured, 5.6 if len(report.names) > 1 else 3.5


def _entries(report: PolicyReport) -> np.ndarray:
    """The two entries of a chunk that vary most, over all stages and the nearest data."""
    spread = np.mean([np.var(s.actions, axis=1) for s in report.found.stages], (0, 1))
    if report.states.near is not None:
        spread = spread + np.mean(np.var(report.states.near, axis=1), axis=0)
    if len(spread) < 2:
        return np.array([0, 0])
    return np.sort(np.argsort(spread)[-2:])


def _name(report: PolicyReport, entry: int) -> str:
    size = report.acting.actions.shape[-1] // report.horizon
    step, inside = divmod(int(entry), size)
    return f"action {step}, dimension {inside}"


def _frame(axes: "Axes", title: str) -> None:
    ticks = (-1, 0, 1)
    axes.set(xlim=(-1.12, 1.12), ylim=(-1.12, 1.12), aspect="equal", xticks=ticks, yticks=ticks)
    axes.set_title(title)
    axes.grid(False)


def _draw_data(axes: "Axes", report: PolicyReport, state: int, entries: np.ndarray) -> None:
    if report.states.near is not None:
        x, y = report.states.near[state][:, entries].T
        axes.plot(x, y, "x", color="white", ms=6, mew=2.6)
        axes.plot(x, y, "x", color=DATA, ms=5, mew=1.2, label="data near by")


def _panels(figure: "Figure", report: PolicyReport, rows: int) -> np.ndarray:
    columns = min(SHOWN, len(report.states.names))
    return figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)


def _draw_landscapes(figure: "Figure", report: PolicyReport) -> None:
    first = np.array([0, 1])
    axes = _panels(figure, report, 1)[0]
    for state, panel in enumerate(axes):
        side, values = _landscape(report, state)
        image = panel.contourf(side, side, values, 14, cmap="Greys_r", alpha=0.75)
        _draw_bar(figure, image, [panel], last=state == len(axes) - 1)
        _draw_data(panel, report, state, first)
        for stage, name, colour in named_stages(report):
            x, y = stage.actions[state][:, first].T
            panel.plot(x, y, "o", color=colour, mec="white", mew=0.5, ms=4.5, label=name)
        _frame(panel, report.states.names[state])
        panel.set_xlabel("first action, dimension 0")
    axes[0].set_ylabel("first action, dimension 1")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)


def _draw_bar(figure: "Figure", image: Any, axes: "list[Axes]", last: bool) -> None:
    """The colour scale of a column of panels; the last one is labelled."""
    from matplotlib.ticker import MaxNLocator

    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.ax.tick_params(labelsize=7.5)
    bar.locator = MaxNLocator(4)
    if last:
        bar.set_label("pessimistic critic")


def _landscape(report: PolicyReport, state: int) -> tuple[np.ndarray, np.ndarray]:
    """The grid's side and the pessimistic values of first actions, [entry 1, entry 0]."""
    side = np.linspace(-1, 1, GRID, dtype=np.float32)
    across, up = np.meshgrid(side, side)
    mean = np.mean(report.acting.actions[state], axis=0)
    rows = np.tile(mean, (GRID * GRID, 1))
    rows[:, 0], rows[:, 1] = across.ravel(), up.ravel()
    observation = np.tile(report.states.observations[state], (GRID * GRID, 1))
    critic = report.run.agent.critic.target
    values = eqx.filter_jit(critic)(jnp.asarray(observation), jnp.asarray(rows))
    return side, report.lower(values).reshape(GRID, GRID)


def _draw_coloured(figure: "Figure", report: PolicyReport) -> None:
    entries, stages = _entries(report), named_stages(report)
    stages = stages if len(stages) == 1 else [stages[0], stages[-1]]
    axes = _panels(figure, report, len(stages))
    for state, column in enumerate(axes.T):
        values = [report.lower(stage.values)[state] for stage, *_ in stages]
        scale = {"vmin": np.min(values), "vmax": np.max(values), "cmap": "cividis"}
        for row, (panel, (stage, name, _)) in enumerate(zip(column, stages, strict=True)):
            _draw_data(panel, report, state, entries)
            x, y = stage.actions[state][:, entries].T
            panel.scatter(x, y, c=values[row], s=20, zorder=3, **scale)
            _frame(panel, "" if row else report.states.names[state])
            if state == 0:
                panel.set_ylabel(f"{name}\n{_name(report, entries[1])}")
        column[-1].set_xlabel(_name(report, entries[0]))
        _draw_bar(figure, column[0].collections[0], list(column), last=state == axes.shape[1] - 1)


def draw_critic(figure: "Figure", report: PolicyReport) -> None:
    """The critic along each flow, from where each state's base starts."""
    axes = figure.subplots(1, 2, width_ratios=(1.6, 1))
    level = None
    for stage, name, colour in named_stages(report):
        if stage.along is None:
            continue
        values = report.lower(stage.along)
        if level is None:
            level = np.mean(values[0], axis=-1)[None, :, None]  # each state's mean at noise
        band(axes[0], np.linspace(0, 1, len(values)), values - level, colour, name)
    axes[0].axhline(0, color=DATA, lw=0.8)
    axes[0].set(xlabel=TIME, ylabel="pessimistic critic,\nabove the state's mean at noise")
    legend_above(axes[0])
    if report.gains is None:
        axes[1].set_visible(False)
        return
    gains = np.sort(report.gains)
    axes[1].bar(np.arange(len(gains)), gains, color=[ACTING if g > 0 else BASE for g in gains])
    axes[1].axhline(0, color="black", lw=0.8)
    axes[1].set(xlabel="states, in order", ylabel="Q(policy) - Q(base)", xticks=[])


def draw_costs(figure: "Figure", report: PolicyReport) -> None:
    """The path KL along the flow, and by state, of a policy with paths."""
    paths, kls, tau_gain = report.found.paths, report.path_kls, report.tau_gain
    assert paths is not None
    assert kls is not None
    assert tau_gain is not None
    axes = figure.subplots(1, 2)
    times = np.arange(len(paths.costs)) / len(paths.costs)
    band(axes[0], times, paths.costs, ACTING, "a step's part of the path KL")
    axes[0].set(xlabel=TIME, ylabel="nats in a step of the flow", xlim=(-0.02, 1.0))
    order, total = np.argsort(kls), float(np.mean(kls))
    axes[1].bar(np.arange(len(kls)), kls[order], color=ACTING, label="path KL")
    label = "tau x gain: its bound at the solution"
    axes[1].plot(tau_gain[order], "D", color="black", ms=3.5, label=label)
    axes[1].axhline(total, color=DATA, ls="--", lw=1.2, label=f"mean {total:.3g} nats a chunk")
    axes[1].set(xlabel="states, in order", ylabel="nats a chunk", xticks=[])
    top = max(kls.max(), tau_gain.max())
    axes[1].set_ylim(min(0.0, tau_gain.min()), 1.05 * top if top > 0 else 1.0)
    for panel in axes:
        legend_above(panel, columns=2)


def draw_adjoints(figure: "Figure", report: PolicyReport) -> None:
    """The adjoint's norm along the flow, with the residuals of the regression."""
    assert report.found.paths is not None
    adjoints = report.found.paths.adjoints
    assert adjoints is not None
    axes = figure.subplots(1, 2)
    band(axes[0], np.linspace(0, 1, len(adjoints.norms)), adjoints.norms, BETWEEN, "|g|")
    axes[0].set(xlabel=TIME, ylabel="norm of the adjoint |g|")
    steps = np.arange(len(adjoints.targets)) / len(adjoints.targets)
    band(axes[1], steps, np.sqrt(adjoints.targets), BASE, "regression target, |sigma g|")
    band(axes[1], steps, np.sqrt(adjoints.residuals), ACTING, "residual")
    axes[1].set(xlabel=TIME, ylabel="norm", xlim=(-0.02, 1.0))
    for panel in axes:
        maybe_log_axis(panel, np.mean(adjoints.norms, axis=(1, 2)))
    legend_above(axes[1])


def draw_calibration(figure: "Figure", report: PolicyReport) -> None:
    """The critic against returns, and the distribution of its values."""
    axes = figure.subplots(1, 2)
    assert report.windows is not None
    assert report.found.window_values is not None
    values, known = report.lower(report.found.window_values), np.isfinite(report.windows.returns)
    returns = report.windows.returns[known]
    if known.any():
        many = axes[0].hexbin(
            returns, values[known], gridsize=24, mincnt=1, cmap="cividis_r", bins="log"
        )
        figure.colorbar(many, ax=axes[0], label="windows")
        ends = returns.min(), returns.max()
        axes[0].plot(ends, ends, color="black", lw=1, label="value = return")
        legend_above(axes[0])
    known_text = f"return in the data ({np.sum(known)} of {len(known)} windows end with it known)"
    axes[0].set(xlabel=known_text, ylabel="pessimistic critic there")
    _draw_values(axes[1], report, values)


def _draw_values(axes: "Axes", report: PolicyReport, of_data: np.ndarray) -> None:
    groups = [(of_data, "data", DATA)]
    for stage, name, colour in named_stages(report):
        groups.append((report.lower(stage.values).ravel(), name, colour))
    everything = np.concatenate([values for values, *_ in groups])
    edges = np.linspace(everything.min(), everything.max() + 1e-6, 32)
    for row, (values, _, colour) in enumerate(groups):
        counts = np.histogram(values, edges)[0]
        axes.stairs(
            row + 0.85 * counts / counts.max(), edges, baseline=row, fill=True, color=colour
        )
    for edge in report.attainable or ():
        axes.axvline(edge, color=GREEN, ls=":", lw=1.4, label="ends of what is attainable")
    if report.attainable:
        legend_above(axes)
    axes.set_yticks(np.arange(len(groups)) + 0.3, [name for _, name, _ in groups])
    axes.set(xlabel="pessimistic critic")
    axes.grid(visible=False, axis="y")


LINEAR = "critic's values"
"""The panel whose axis is never logarithmic."""

PANELS = (
    (LINEAR, "critic/q_max", "largest"),
    (LINEAR, "critic/q_mean", "mean"),
    (LINEAR, "critic/q_min", "smallest"),
    ("path KL, nats a step", "adjoint_matching/path_kl", "path KL"),
    ("entries of |g|", "adjoint_matching/boundary_max", "t = 1, largest"),
    ("entries of |g|", "adjoint_matching/boundary_mean", "t = 1, mean"),
    ("entries of |g|", "adjoint_matching/start_mean", "t = 0, mean"),
    ("inverse temperature", "adjoint_matching/inverse_temperature", "tau"),
    ("gradient norm before clipping", "update/gradient_norm", "gradient norm"),
)
"""Panels after the losses: labels, and the keys that the run may log with their names."""

COLOURS = (ACTING, BASE, BETWEEN, GREEN, DATA, AMBER, SKY)


def panels_of(run: InspectedRun) -> dict[str, list[tuple[str, str]]]:
    """The panels of the keys that the run logs, with their names, without panels of constants."""
    keys = {key for row in run.metrics for key in row}
    logged = {key: {row.get(key) for row in run.metrics} for key in keys}
    losses = [key for key in sorted(logged) if key.endswith("loss") and key != "update/loss"]
    panels: dict[str, list[tuple[str, str]]] = {}
    for label, key, name in (*(("losses", k, k.removesuffix("/loss")) for k in losses), *PANELS):
        if key in logged:
            panels.setdefault(label, []).append((key, name))
    return {
        label: keys
        for label, keys in panels.items()
        if any(len(logged[key]) > 1 for key, _ in keys)
    }


def draw_training(figure: "Figure", report: PolicyReport) -> None:
    """Success and logged metrics over the run's steps."""
    from matplotlib.ticker import EngFormatter

    run, panels = report.run, panels_of(report.run)
    count = len(panels) + 1
    axes = figure.subplots(-(-count // 2), 2, sharex=True, squeeze=False).ravel()
    _draw_success(axes[0], run.evaluations)
    for axis, (label, keys) in zip(axes[1:], panels.items(), strict=False):
        _draw_panel(axis, label, keys, run.metrics)
    for axis in axes[count:]:
        axis.set_visible(False)
    pairs = itertools.pairwise(run.metrics)
    phases = [(before["step"], before["phase"], after["phase"]) for before, after in pairs]
    borders = [border for border in phases if border[1] != border[2]]
    for axis in axes[:count]:
        for border, before, after in borders:
            axis.axvline(border, color="black", lw=0.9, ls=(0, (2, 2)))
            _beside(axis, border, before, "right")
            _beside(axis, border, after, "left")
        axis.axvline(run.step, color=GREEN, lw=1.2, ls=":")
        _beside(axis, run.step, "checkpoint", "right", GREEN)
    for axis in axes[max(count - 2, 0) : count]:
        axis.set_xlabel("step")
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.tick_params(labelbottom=True)


def _beside(axes: "Axes", x: float, text: str, side: str, colour: str = "black") -> None:
    """A word along a vertical line, which is on `side` of it."""
    axes.annotate(
        text,
        (x, 0.04),
        (-2 if side == "right" else 2, 0),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        ha=side,
        va="bottom",
        rotation=90,
        fontsize=7,
        color=colour,
    )


def _draw_success(axes: "Axes", rows: list[LogRow]) -> None:
    lines = ("success", ACTING, "policy"), ("behaviour_success", BASE, "clone of the data")
    for key, colour, label in lines:
        points = [(row["step"], 100 * row[key]) for row in rows if row.get(key) is not None]
        if points:
            line = {"color": colour, "ms": 3.5, "label": label, "clip_on": False}
            axes.plot(*zip(*points, strict=True), "o-", **line)
    axes.set(ylabel="success (%)", ylim=(0, 100))
    if rows:
        legend_above(axes)


def _draw_panel(axes: "Axes", label: str, keys: list[tuple[str, str]], rows: list[LogRow]) -> None:
    shown = []
    for (key, name), colour in zip(keys, COLOURS, strict=False):
        steps, values = np.array([(row["step"], row[key]) for row in rows if key in row], float).T
        axes.plot(steps, values, color=colour, lw=1.4, label=name)
        shown.append(values)
    if label != LINEAR:
        maybe_log_axis(axes, np.concatenate(shown))
    axes.set_ylabel(label)
    if len(keys) > 1:
        legend_above(axes)
