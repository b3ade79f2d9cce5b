"""Self-contained HTML pages: shell, tables, findings, figures and their palette."""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qamx._utils.finding import LEVEL_WORDS, Finding
from qamx.errors import UserError, install_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart; its yellow is too pale for
# lines, and a brown takes its place.
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SKY, AMBER, BLACK, BROWN = "#56b4e9", "#e69f00", "#000000", "#8c6d31"
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, AMBER, BLACK, BROWN)
GREY, PALE = "#6b6b6b", "#b9b9b9"

WIDTH = 9.5
"""Inches of a page's figures."""

_FIGURE_STYLE: dict[Any, Any] = {  # keys are of a type that matplotlib's stubs alone have
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}

_STYLE = f"""
:root {{ color-scheme: light; }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto;
  max-width: 80rem; padding: 1.5rem 1.5rem 4rem; }}
h1 {{ font-size: 1.45rem; margin: 0; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.1rem; margin: 2.2rem 0 .6rem; }} h3 {{ font-size: 1rem; }}
.verdict {{ margin: .3rem 0 0; font-size: 1.05rem; }} .soft {{ color: #555; }}
nav a {{ margin-right: 1.2rem; }} summary {{ cursor: pointer; font-weight: 600; }}
.wide {{ overflow-x: auto; }} .pair {{ display: flex; flex-wrap: wrap; }}
.pair > * {{ flex: 1 1 24rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0;
  border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }}
th {{ font-weight: 600; white-space: nowrap; }}
.findings td:first-child {{ white-space: nowrap; width: 6rem; }}
.level {{ display: inline-block; padding: .05rem .55rem; border-radius: .8rem; font-size: .85rem;
  font-weight: 600; color: #fff; }}
.refuse {{ background: #a03c00; }} .warn {{ background: #f0c000; color: #222; }}
.note {{ background: {BLUE}; }}
.findings p {{ margin: 0; }} .findings code {{ font-weight: 600; }}
.label {{ color: #666; }} .readings td, .wide td {{ overflow-wrap: normal; }}
figure {{ margin: 0; }} img {{ max-width: 100%; height: auto; }}
figure svg, figure img {{ width: 100%; height: auto; }}
figcaption {{ color: #555; font-size: .9rem; }}
@media (max-width: 40rem) {{ figure {{ overflow-x: auto; }}
  figure svg, figure img {{ width: 44rem; max-width: none; }} }}
"""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page."""
    name, body = escape(title), "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head><body>
<h1>{name}</h1>
{body}
</body></html>
"""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; without a header where `header` is empty."""

    def line(cells: Sequence[str], tag: str) -> str:
        texts = (cell if isinstance(cell, Markup) else escape(cell) for cell in cells)
        return f"<tr>{''.join(f'<{tag}>{text}</{tag}>' for text in texts)}</tr>"

    head = line(header, "th") if header else ""
    return f"<table>{head}{''.join(line(row, 'td') for row in rows)}</table>"


def findings_table(findings: Sequence[Finding]) -> str:
    """Findings under a heading; empty if there are none."""
    if not findings:
        return ""
    rows = []
    for finding in findings:
        lines = [f"<p><code>{escape(finding.id)}</code></p>"]
        for name, text in finding.paragraphs():
            label = f'<span class="label">{name}:</span> ' if name else ""
            lines.append(f"<p>{label}{escape(text)}</p>")
        level = f'<span class="level {finding.level}">{LEVEL_WORDS[finding.level]}</span>'
        rows.append(f"<tr><td>{level}</td><td>{''.join(lines)}</td></tr>")
    return f'<h2>Findings</h2><table class="findings">{"".join(rows)}</table>'


def titled_figure(title: str, caption: str, content: str) -> str:
    """A figure under its title and caption."""
    return (
        f"<h2>{escape(title)}</h2><figure><figcaption>{escape(caption)}</figcaption>"
        f"{content}</figure>"
    )


def image(data: bytes, kind: str, title: str) -> str:
    """An embedded image; `kind` is `png` or `svg+xml`."""
    text = base64.b64encode(data).decode()
    return f'<img alt="{escape(title)}" src="data:image/{kind};base64,{text}">'


def svg_figure(title: str, caption: str, height: float, draw: "Callable[[Figure], None]") -> str:
    """A titled figure as inline SVG, `height` inches high; matplotlib must be installed."""
    text = render(draw, height, "svg", metadata={"Date": None}, transparent=True).decode()
    return titled_figure(title, caption, text[text.index("<svg") :])


def render(draw: "Callable[[Figure], None]", height: float, kind: str, **options: Any) -> bytes:
    """A figure, filled by `draw`, of a page's width and `height` inches.

    **Arguments:** `options` are those of `Figure.savefig`.
    """
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure)
        file = io.BytesIO()
        figure.savefig(file, format=kind, **options)
    return file.getvalue()


def figure_style() -> AbstractContextManager[None]:
    """Figures made and written in the block have the pages' style."""
    import matplotlib

    return matplotlib.rc_context(_FIGURE_STYLE)


def legend_above(axes: "Axes", columns: int = 4) -> None:
    """A legend over the panel, where no curve is."""
    handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))  # a name once
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    axes.legend(handles.values(), handles.keys(), ncols=columns, **place)


def require_matplotlib(option: str) -> None:
    """**Raises:** `UserError` if matplotlib is not installed, in the name of `option`."""
    if find_spec("matplotlib") is None:
        raise UserError(f"{option}: the page's figures take matplotlib: {install_extra('plot')}")


def write_text(option: str, file: Path, text: str) -> None:
    """Writes a file that an option names.

    **Raises:** `UserError` if it cannot be written.
    """
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{option}: {file}: cannot be written ({error.strerror})") from error
