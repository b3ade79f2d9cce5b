"""Self-contained HTML pages: shell, tables and figures."""

import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qamx._utils.finding import Finding
from qamx._utils.terminal import LEVEL_WORDS, parts
from qamx.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Two of Okabe and Ito's colours, which colour-blind readers can tell apart, and a grey.
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"

_FIGURE_STYLE: dict[Any, Any] = {  # keys are of a type that matplotlib's stubs alone have
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
}

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto;
  max-width: 62rem; padding: 1.5rem 1.5rem 4rem; }
h1 { font-size: 1.45rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.verdict { margin: .3rem 0 0; font-size: 1.05rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0;
  border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }
th { font-weight: 600; white-space: nowrap; }
.findings td:first-child { white-space: nowrap; width: 6rem; }
.level { display: inline-block; padding: .05rem .55rem; border-radius: .8rem; font-size: .85rem;
  font-weight: 600; color: #fff; }
.refuse { background: #a03c00; } .warn { background: #f0c000; color: #222; }
.note { background: #0072b2; }
.findings p { margin: 0; } .findings code { font-weight: 600; }
.heading { color: #666; } .readings td { overflow-wrap: normal; }
figure { margin: 0; } figure svg, figure img { width: 100%; height: auto; }
figcaption { color: #555; font-size: .9rem; }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page."""
    name = escape(title)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{name}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{name}</h1>",
            *parts,
            "</body></html>\n",
        ]
    )


def require_matplotlib(option: str) -> None:
    """**Raises:** `UserError` if matplotlib is not installed; `option` is what asked for it."""
    if find_spec("matplotlib") is None:
        raise UserError(f'{option}: the page\'s figures take matplotlib: pip install "qamx[plot]"')


def write_text(option: str, file: Path, text: str) -> None:
    """Writes a file that an option names.

    **Raises:** `UserError` if it cannot be written.
    """
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{option}: {file}: cannot be written ({error.strerror})") from error


def svg_figure(title: str, caption: str, height: float, draw: "Callable[[Figure], None]") -> str:
    """A titled figure as SVG, `height` inches high; matplotlib must be installed."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_FIGURE_STYLE):
        figure = Figure(figsize=(9.5, height), layout="constrained")
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    text = file.getvalue()
    return (
        f"<h2>{escape(title)}</h2><figure><figcaption>{escape(caption)}</figcaption>"
        f"{text[text.index('<svg') :]}</figure>"
    )


def findings_table(findings: Sequence[Finding]) -> str:
    """Findings under a heading; nothing if there are none."""
    if not findings:
        return ""
    rows = []
    for finding in findings:
        lines = [f"<p><code>{escape(finding.id)}</code></p>"]
        for heading, text in parts(finding):
            mark = f'<span class="heading">{heading}:</span> ' if heading else ""
            lines.append(f"<p>{mark}{escape(text)}</p>")
        level = f'<span class="level {finding.level}">{LEVEL_WORDS[finding.level]}</span>'
        rows.append(f"<tr><td>{level}</td><td>{''.join(lines)}</td></tr>")
    return f'<h2>Findings</h2><table class="findings">{"".join(rows)}</table>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; without a header where `header` is empty."""

    def line(cells: Sequence[str], mark: str) -> str:
        return f"<tr>{''.join(f'<{mark}>{escape(cell)}</{mark}>' for cell in cells)}</tr>"

    head = line(header, "th") if header else ""
    return f"<table>{head}{''.join(line(row, 'td') for row in rows)}</table>"
