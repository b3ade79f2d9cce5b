"""`qamx watch`: a page on this machine with the progress and the curves of runs that train."""

import contextlib
import functools
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qamx._utils import html
from qamx._utils.files import read_json_lines
from qamx._utils.finding import counted
from qamx.errors import UserError
from qamx.tools.results.figures import DASHES, Style, legend, styles
from qamx.tools.sweep.status import HEADER, row_of, runs_under, statuses

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ADDRESS = "127.0.0.1"

HOSTS = re.compile(r"(localhost|127\.0\.0\.1)(:\d+)?", re.IGNORECASE)
"""Accepted headers `Host`. A tunnel may have another port; another name may be that of a web site
which has its name resolved to this machine in order to read the page."""

SECONDS = 10
"""Time between two refreshes of an open page."""

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Refresh": str(SECONDS),
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

MOST = len(html.PALETTE) * len(DASHES)
"""Runs whose curves are drawn: as many as lines can tell apart."""

COLUMNS, PERCENT = 3, 100

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""The rows of each run."""


def watch(folders: Sequence[Path], port: int) -> None:
    """Serves the page of `WatchPage` at `ADDRESS` until Ctrl-C.

    **Arguments:** `folders` are runs, or hold runs; `port` 0 is any that is free.

    **Raises:** `UserError` if there are no runs, if the port cannot be had, or without matplotlib.
    """
    html.require_matplotlib("qamx watch")
    page = WatchPage(folders)
    page.html()  # raises an error here, and imports what the threads need
    try:
        server = PageServer((ADDRESS, port), functools.partial(PageHandler, page.html))
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--port: found {port}, where no page can be served ({error}); name another, or 0 for "
            "any that is free"
        ) from error
    with server, contextlib.suppress(KeyboardInterrupt):
        at = server.server_port
        print(
            f"http://localhost:{at} (Ctrl-C ends it; from another computer: "
            f"ssh -L {at}:localhost:{at} THIS_MACHINE)",
            flush=True,
        )
        server.serve_forever()


class PageServer(ThreadingHTTPServer):
    """An HTTP server that does not report readers who leave early."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class PageHandler(BaseHTTPRequestHandler):
    """Answers `GET /` with a page, if it is asked of this machine, and nothing else.

    **Arguments:** `page` makes the page; its `UserError` is shown instead.
    """

    server_version, sys_version = "qamx", ""
    timeout = 60

    def __init__(self, page: Callable[[], str], *arguments: Any):
        self._page = page
        super().__init__(*arguments)

    def do_GET(self) -> None:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not HOSTS.fullmatch(hosts[0]):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        if self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            text = self._page()
        except UserError as error:
            text = html.document("qamx watch", [f"<p>{escape(str(error))}</p>"])
        self.send_response(HTTPStatus.OK)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode(errors="replace"))

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""


class WatchPage:
    """The page: a table of each folder's runs, and their curves.

    **Arguments:** `folders` are runs, or hold runs, at each refresh those that are there by then.
    """

    def __init__(self, folders: Sequence[Path]):
        self._folders = [folder.absolute() for folder in folders]
        self._parent = os.path.commonpath([folder.parent for folder in self._folders])
        self._lock = threading.Lock()
        self._seen: object = None
        self._figures: list[str] = []

    def html(self) -> str:
        """The page as it is now.

        **Raises:** `UserError` if there are no runs, or a file of one is damaged.
        """
        with self._lock:
            runs = {
                _printable(os.path.relpath(run, self._parent)): run
                for folder in self._folders
                for run in runs_under(folder)
            }
            parts = [part for folder in self._folders for part in _progress(folder)]
            files = [run / name for run in runs.values() for name in ("metrics.jsonl", EVALUATIONS)]
            seen = [(file, _changed(file)) for file in files]
            if seen != self._seen:
                self._figures = list(_curves(runs))
                self._seen = seen
            now = f"updated at {time.strftime('%H:%M:%S')}, every {SECONDS} seconds"
            count = f'<p class="soft">{counted(len(runs), "run")}, {now}</p>'
            return html.document("qamx watch", [count, *parts, *self._figures])


EVALUATIONS = "evaluations.jsonl"


def _progress(folder: Path) -> Iterator[str]:
    """The table of the runs under a folder, and the reasons of those that have failed."""
    runs = list(statuses(folder))
    if not runs:
        raise UserError(f"{folder}: no runs here; name the folder of a run or of a sweep")
    columns = [one for one in zip(HEADER, *map(row_of, runs), strict=True) if any(one[1:])]
    header, *rows = zip(*columns, strict=True)
    table = html.table(header, rows)
    yield f'<h2>{escape(str(folder))}</h2><div class="wide">{table}</div>'
    for run in runs:
        if lines := (run.why, *run.lines) if run.state in ("diverged", "failed") else ():
            yield f"<p>{escape(run.run)}:</p><pre>{escape(chr(10).join(lines).strip())}</pre>"


def _curves(runs: Mapping[str, Path]) -> Iterator[str]:
    """The figures of the runs that were changed last: evaluations, then metrics."""
    latest = sorted(runs, key=lambda label: _changed(runs[label] / "metrics.jsonl"))[-MOST:]
    drawn = {label: runs[label] for label in sorted(latest)}
    style = styles(list(drawn))
    note = f", the {MOST} runs with the newest rows" if len(runs) > len(drawn) else ""
    for title, name in (("Evaluations", EVALUATIONS), ("Training", "metrics.jsonl")):
        rows = {label: read_json_lines(run / name) for label, run in drawn.items()}
        keys = dict.fromkeys(key for run in rows.values() for row in run for key in row)
        numbers = [key for key in keys if key != "step" and any(map(_points(key), rows.values()))]
        numbers.sort(key=lambda key: key.rpartition("/")[0])  # those of one loss side by side
        if numbers:
            height = 1.6 * -(-len(numbers) // COLUMNS) + 0.2 * -(-len(drawn) // 2) + 0.4
            draw = functools.partial(_draw, rows=rows, keys=numbers, style=style)
            svg = html.render(draw, height, "svg")
            image = html.image(svg, "svg+xml", title)
            yield html.titled_figure(title, f"{name} by step{note}", image)


def _draw(figure: "Figure", rows: Rows, keys: Sequence[str], style: Style) -> None:
    """A panel for each key, with a line for each run."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes = figure.subplots(-(-len(keys) // COLUMNS), COLUMNS, squeeze=False).ravel()
    for axis in axes[len(keys) :]:
        axis.set_visible(False)
    for axis, key in zip(axes, keys, strict=False):
        for label, run in rows.items():
            if points := _points(key)(run):
                colour, dashes = style[label]
                marker = "." if len(points) < 20 else ""
                line = {"color": colour, "lw": 1.2, "marker": marker, "clip_on": False}
                steps, values = zip(*points, strict=True)
                axis.plot(steps, [_unit(key) * value for value in values], dashes, **line)
        axis.set_title(_printable(key) + (" (%)" if _unit(key) == PERCENT else ""))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.xaxis.set_major_locator(MaxNLocator(4))
        if key.endswith("success"):
            axis.set_ylim(0, PERCENT)
    legend(figure, style, 2)


def _unit(key: str) -> int:
    """The factor of a key's values; rates of success are shown in per cent."""
    return PERCENT if key.endswith("success") else 1


def _points(key: str) -> Callable[[Sequence[Mapping[str, Any]]], list[tuple[float, float]]]:
    """A function that takes a key's steps and numbers from rows."""

    def points(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
        pairs = [(row.get("step"), row.get(key)) for row in rows]
        return [(x, y) for x, y in pairs if isinstance(x, int) and isinstance(y, int | float)]

    return points


def _changed(file: Path) -> tuple[int, int]:
    """Changes when a file does."""
    with contextlib.suppress(OSError):
        status = file.stat()
        return status.st_mtime_ns, status.st_size
    return 0, 0


def _printable(text: str) -> str:
    """Text that matplotlib draws as it is: no formula, nothing hidden from a legend."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return (" " if shown.startswith("_") else "") + shown.replace("$", r"\$")
