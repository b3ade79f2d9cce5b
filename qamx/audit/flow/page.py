"""The report as a folder: a page that holds everything in itself, and its figures as PNG."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from qamx._utils.html import document, findings_table, table, write_text
from qamx.audit.flow.action_plot import caption_of_actions, draw_actions, height_of_actions
from qamx.audit.flow.checks import findings
from qamx.audit.flow.drawing import Draw, rendered
from qamx.audit.flow.flow_plots import draw_adjoints, draw_calibration, draw_costs, draw_critic
from qamx.audit.flow.report import Report
from qamx.audit.flow.training_plot import draw_training, panels_of
from qamx.audit.flow.words import (
    READING_HEADER,
    reading_rows,
    stage_table,
    subject_rows,
    verdict,
)
from qamx.errors import UserError


@dataclass(frozen=True)
class Plate:
    """A figure of the page, drawn when it is asked for."""

    name: str
    title: str
    caption: str
    draw: Draw
    height: float


def write_page(report: Report, folder: Path) -> Path:
    """Writes `index.html` and the figures; returns the page.

    **Raises:** `UserError` if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figures = []
        for plate in plates(report):
            png = rendered(plate.draw, plate.height)
            (folder / f"{plate.name}.png").write_bytes(png)
            figures.append(_figure(plate, png))
    except OSError as error:
        raise UserError(f"--out: {folder}: cannot be written ({error.strerror})") from error
    page = folder / "index.html"
    write_text("--out", page, _page(report, figures))
    return page


def plates(report: Report) -> Iterator[Plate]:
    """The figures that this method has; none but that of training where numbers are broken."""
    if report.finite:
        yield from _of_policy(report)
    if report.subject.metrics:
        yield Plate(
            "training",
            "Over training",
            "What the run logged, means since the row before. Black dashes: a phase gives way to "
            "the next; green dots: the checkpoint that is looked at. Healthy: values settle "
            "inside what rewards can add up to, path KL and adjoints level off, and the gradient "
            "norm does not grow without end.",
            lambda figure: draw_training(figure, report.subject),
            2.0 * (-(-(len(panels_of(report.subject)) + 1) // 2)) + 0.4,
        )


def _of_policy(report: Report) -> Iterator[Plate]:
    yield Plate(
        "actions",
        "Action chunks",
        caption_of_actions(report),
        lambda figure: draw_actions(figure, report),
        height_of_actions(report),
    )
    found = report.measures.found
    if any(stage.along is not None for stage in found.stages):
        yield Plate(
            "critic",
            "The critic along the flow",
            "Left: the pessimistic critic at the flow's states, clipped to the box; lines are "
            "means over states and samples, bands hold the middle 80%. Right: each state's gain. "
            "Healthy: the acting flow ends above its base, at most states.",
            lambda figure: draw_critic(figure, report),
            3.0,
        )
    if (paths := found.paths) is not None:
        yield Plate(
            "path_kl",
            "Path KL",
            "2h/sigma² |v - v_base|² along the memoryless SDE: how far the fine-tuned flow is "
            "from its base. Healthy: most of it late in the flow, where actions take shape, and "
            "bars below the diamonds, which are what the critic pays for them.",
            lambda figure: draw_costs(figure, report, paths),
            3.0,
        )
        if (adjoints := paths.adjoints) is not None:
            yield Plate(
                "adjoints",
                "Adjoints",
                "Left: the lean adjoint along the paths, the critic's gradient carried back by "
                "the base flow. Healthy: it fades towards t = 0, as the end of a memoryless path "
                "does not depend on its start. Right: what the velocity is regressed onto and "
                "what is left of it. Healthy: orange below blue.",
                lambda figure: draw_adjoints(figure, adjoints),
                3.0,
            )
    if report.windows is not None:
        yield Plate(
            "calibration",
            "The critic at the data",
            "Left: values of the data's chunks against the returns that followed. A policy "
            "better than the data has values above the line; below it the critic underestimates. "
            "Right: values of the data's chunks and of sampled ones, with the ends of what the "
            "data's rewards can add up to. Healthy: between them.",
            lambda figure: draw_calibration(figure, report),
            3.0,
        )


def _figure(plate: Plate, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return (
        f"<h2>{escape(plate.title)}</h2><figure><figcaption>{escape(plate.caption)}</figcaption>"
        f'<img alt="{escape(plate.title)}" src="data:image/png;base64,{data}"></figure>'
    )


def _page(report: Report, figures: list[str]) -> str:
    return document(
        str(report.subject.directory),
        [
            f'<p class="verdict">{escape(verdict(report))}</p>',
            findings_table(findings(report)),
            "<h2>What was looked at</h2>",
            table((), subject_rows(report)),
            "<h2>Actions</h2>",
            table(*stage_table(report)),
            "<h2>Policy and critic</h2>",
            f'<div class="readings">{table(READING_HEADER, reading_rows(report))}</div>',
            *figures,
        ],
    )
