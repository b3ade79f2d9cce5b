"""`qamx inspect`: terminal, HTML and JSON."""

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic_core import to_jsonable_python

from qamx._utils.defaults import check_seed
from qamx._utils.finding import counted
from qamx._utils.html import (
    document,
    findings_table,
    image,
    render,
    require_matplotlib,
    table,
    titled_figure,
    write_text,
)
from qamx._utils.machine import use_cpu
from qamx._utils.terminal import print_findings, print_table, working
from qamx.errors import UserError
from qamx.tools.inspect_policy import figures
from qamx.tools.inspect_policy.checks import check_results, findings, share_at_bound
from qamx.tools.inspect_policy.inspection import PolicyReport, inspect
from qamx.tools.inspect_policy.states import load_run, not_finite_at

CHECK_HEADER = ("", "found", "healthy", "")


def inspect_run(
    directory: Path,
    *,
    html: bool,
    where: Sequence[str],
    states: int,
    samples: int,
    seed: int,
    out: Path | None,
    file: Path | None,
) -> None:
    """Prints a report on a run's policy, and with `html` writes its figures as a page.

    **Arguments:** `where` names the states, or is empty for `states` of them; `out` is the
    page's folder, by default next to the run's; `file` takes all numbers as JSON.

    **Raises:** `UserError` if the run cannot be read, or an option is wrong.
    """
    check_seed("--seed", seed)
    for name, number, least in (("--states", states, 1), ("--samples", samples, 2)):
        if number < least:
            raise UserError(f"{name}: found {number}; write an integer of at least {least}")
    if html:
        require_matplotlib("--html")
    elif out is not None:
        raise UserError("--out: there are no figures to write without --html")
    use_cpu()
    with working("compiling and measuring the policy"):
        report = inspect(load_run(directory), where, states, samples, seed)
    print_report(report)
    if file is not None:
        write_text("--json", file, json.dumps(to_json(report)) + "\n")
    if html:
        folder = directory.resolve()
        folder = out or folder.with_name(f"{folder.name}-inspect")
        with working("drawing the figures"):
            page = write_page(report, folder)
        print(f"figures: {page}")


def print_report(report: PolicyReport) -> None:
    """Prints the run, its stages, the checks, findings and the verdict."""
    print_table(str(report.run.directory), ("", ""), summary_rows(report))
    print()
    print_table("actions", *stage_table(report))
    print()
    print_table("policy and critic", CHECK_HEADER, check_rows(report))
    print()
    if found := findings(report):
        print_findings(found)
        print()
    print(verdict(report))


def to_json(report: PolicyReport) -> dict[str, Any]:
    """The report as JSON: arrays as lists, None for non-finite numbers."""
    run, found = report.run, report.found
    stages = zip(report.names, found.stages, strict=True)
    content = {
        "run": str(run.directory),
        "method": run.experiment.agent.method,
        "step": run.step,
        "phase": run.phase,
        "evaluation": run.evaluation,
        "seed": report.seed,
        "not_finite": report.broken,
        "readings": check_results(report),
        "states": report.states,
        "stages": [{"name": name, **vars(stage)} for name, stage in stages],
        "data_values": found.data_values,
        "windows": report.windows,
        "window_values": found.window_values,
        "gains": report.gains,
        "path_kls": report.path_kls,
        "paths": found.paths,
    }
    return to_jsonable_python(content, inf_nan_mode="null", fallback=lambda array: array.tolist())


def summary_rows(report: PolicyReport) -> list[tuple[str, str]]:
    """The run, its checkpoint and the states, a name and a text each."""
    run = report.run
    experiment = run.experiment
    environment = f"{experiment.environment.id} {experiment.environment.label}".rstrip()
    states = f"{counted(len(report.states.names), 'state')}, {report.states.origin}"
    evaluation = "none yet"
    if (row := run.evaluation) is not None:
        cloned = row.get("behaviour_success")
        clone = "" if cloned is None else f" (behaviour cloning {cloned:.0%})"
        evaluation = f"success {row['success']:.0%}{clone} at step {row['step']:,}"
    rows = [
        ("method", f"{experiment.agent.method} on {environment}"),
        ("checkpoint", f"step {run.step:,} ({run.phase})"),
        ("evaluation", evaluation),
        ("states", f"{states}; {report.samples} samples each, seed {report.seed}"),
    ]
    if broken := not_finite_at(run.directory):
        rows.append(("diverged", broken))
    return rows + [("absent", reason) for reason in absent(report)]


def absent(report: PolicyReport) -> Iterator[str]:
    """The parts of the report that the method or the machine lacks, with reasons."""
    found, name = report.found, type(report.run.agent.policy).__name__
    if report.base is None:
        yield f"a base to compare with: {name} keeps no separate clone of the data"
    if all(stage.along is None for stage in found.stages):
        yield f"the critic along a flow: {name} has no ordinary differential equation"
    if found.paths is None:
        yield f"path KL and adjoints: {name} is not fine-tuned on the SDE of a base flow"
    elif found.paths.adjoints is None:
        yield f"adjoints: {name} is trained by backpropagation through its SDE"
    if report.run.data is None:
        yield "data actions and returns: the run's data files are not where it had them"


def stage_table(report: PolicyReport) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Values and actions: a column a stage, and one of the data."""
    columns = [
        (name, stage.values, stage.actions, f"{np.mean(np.std(stage.actions, 1)):.3g}")
        for name, stage in zip(report.names, report.found.stages, strict=True)
    ]
    windows, values = report.windows, report.found.window_values
    if windows is not None and values is not None:
        columns.append(("data", values, windows.actions, ""))
    names, values, actions, deviations = zip(*columns, strict=True)
    rows = [
        ("critic, pessimistic", *(f"{np.mean(report.lower(each)):.4g}" for each in values)),
        ("std of the critics", *(f"{np.mean(np.std(each, 0)):.3g}" for each in values)),
        ("actions at the bounds", *(f"{share_at_bound(each):.0%}" for each in actions)),
        ("std of the samples", *deviations),
    ]
    return ("", *names), rows


def check_rows(report: PolicyReport) -> list[tuple[str, str, str, str]]:
    """The checks with their verdicts."""
    return [
        (result.name, result.found, result.healthy, "warning" if result.finding else "ok")
        for result in check_results(report)
    ]


def verdict(report: PolicyReport) -> str:
    """One line at the end."""
    count = len(findings(report))
    first = "; the first is the likeliest cause of the others" if count > 1 else ""
    return counted(count, "warning") + first if count else "nothing unusual"


class PageFigure(NamedTuple):
    """A figure of the page, drawn on request."""

    name: str
    title: str
    caption: str
    draw: figures.Draw
    height: float = 3.0

    def png(self, report: PolicyReport) -> bytes:
        """Draws the figure."""
        return render(lambda figure: self.draw(figure, report), self.height, "png", dpi=110)


def write_page(report: PolicyReport, folder: Path) -> Path:
    """Writes `index.html` and the figures; returns the page.

    **Raises:** `UserError` if the folder cannot be written.
    """
    parts = [
        f'<p class="verdict">{escape(verdict(report))}</p>',
        findings_table(findings(report)),
        "<h2>Run</h2>",
        table((), summary_rows(report)),
        "<h2>Actions</h2>",
        table(*stage_table(report)),
        "<h2>Policy and critic</h2>",
        f'<div class="readings">{table(CHECK_HEADER, check_rows(report))}</div>',
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for figure in page_figures(report):
            png = figure.png(report)
            (folder / f"{figure.name}.png").write_bytes(png)
            embedded = image(png, "png", figure.title)
            parts.append(titled_figure(figure.title, figure.caption, embedded))
    except OSError as error:
        raise UserError(f"--out: {folder}: cannot be written ({error.strerror})") from error
    page = folder / "index.html"
    write_text("--out", page, document(str(report.run.directory), parts))
    return page


def page_figures(report: PolicyReport) -> Iterator[PageFigure]:
    """The figures that the method has; only training where numbers are not finite."""
    if report.finite:
        yield from _of_policy(report)
    if report.run.metrics:
        yield PageFigure(
            "training",
            "Over training",
            "The run's log, means since the row before. Dashes: a new phase; dots: the inspected "
            "checkpoint. Healthy: values settle inside the attainable range, path KL "
            "and adjoints level off, and the gradient norm stays bounded.",
            figures.draw_training,
            2.2 * (len(figures.panels_of(report.run)) // 2 + 1) + 0.4,
        )


def _of_policy(report: PolicyReport) -> Iterator[PageFigure]:
    yield PageFigure("actions", "Action chunks", *figures.action_figure(report))
    if any(stage.along is not None for stage in report.found.stages):
        yield PageFigure(
            "critic",
            "The critic along the flow",
            "Left: the pessimistic critic at the flow's states, clipped to the box; lines are "
            "means over states and samples, bands hold the middle 80%. Right: each state's gain. "
            "Healthy: the acting flow ends above its base, at most states.",
            figures.draw_critic,
        )
    if report.found.paths is not None:
        yield PageFigure(
            "path_kl",
            "Path KL",
            "2h/sigma² |v - v_base|² along the memoryless SDE: how far the fine-tuned flow is "
            "from its base. Healthy: most of it late in the flow, where actions take shape, and "
            "bars below the diamonds, their gain by the critic.",
            figures.draw_costs,
        )
        if report.found.paths.adjoints is not None:
            yield PageFigure(
                "adjoints",
                "Adjoints",
                "Left: the lean adjoint along the paths, the critic's gradient carried back by "
                "the base flow. Healthy: it fades towards t = 0, as the end of a memoryless path "
                "does not depend on its start. Right: the regression target "
                "and the residual. Healthy: orange below blue.",
                figures.draw_adjoints,
            )
    if report.windows is not None:
        yield PageFigure(
            "calibration",
            "The critic at the data",
            "Left: values of the data's chunks against the returns that followed, coloured by the "
            "number of windows. A policy "
            "better than the data has values above the line; below it the critic underestimates. "
            "Right: histograms of the values of the data's chunks and of sampled ones, with the "
            "ends of the attainable range. Healthy: between them.",
            figures.draw_calibration,
        )
