"""Looks at the built site in a real browser, at the widths of a phone and of a screen.

    python tests/browser/look.py site [--pictures FOLDER]

Every page must fit its width, render all of its formulas, and write no error to the console; every
link within the site must lead somewhere. `--pictures` also takes a picture of each page at each
width. The browser is Chromium or Chrome, from the path or as `CHROMIUM` names it.
"""

import argparse
import contextlib
import functools
import http.server
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

HERE = Path(__file__).parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)
LIMIT_SECONDS = 300.0
HEIGHT = 2400


class Site(http.server.SimpleHTTPRequestHandler):
    """Serves the site, the page that looks at it, and takes what that page has found."""

    results: "queue.Queue[dict[str, Any]]" = queue.Queue()
    pages: tuple[str, ...] = ()

    def do_GET(self) -> None:
        own = {"/pages.json": json.dumps(self.pages).encode()}
        if self.path.startswith("/look.html"):
            own[self.path] = (HERE / "look.html").read_bytes()
        if self.path not in own:
            return super().do_GET()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(own[self.path])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
        self.results.put(json.loads(body))

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def browser() -> str:
    """The browser's command."""
    found = (shutil.which(name) for name in (os.environ.get("CHROMIUM", ""), *NAMES))
    command = next(filter(None, found), None)
    if command is None:
        sys.exit(f"no browser: install one of {', '.join(NAMES)}, or name it in CHROMIUM")
    return command


@contextlib.contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of the site while it is served."""
    files = sorted(site.rglob("index.html"))
    Site.pages = tuple(
        f"/{file.relative_to(site).as_posix().removesuffix('index.html')}" for file in files
    )
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Site, directory=str(site))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def look(address: str) -> tuple[dict[str, Any], list[str]]:
    """What the page found, and what browser and pages wrote to the console as errors."""
    with tempfile.TemporaryDirectory() as profile, tempfile.TemporaryFile("w+") as log:
        command = [browser(), *QUIET, "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        running = subprocess.Popen([*command, f"{address}/look.html"], stderr=log)
        try:
            found = Site.results.get(timeout=LIMIT_SECONDS)
        finally:
            running.terminate()
            running.wait()
        log.seek(0)
        console = re.findall(r'CONSOLE[^"]*"(.*)", source: (.*)$', log.read(), re.MULTILINE)
    return found, [f"console: {text} ({source})" for text, source in console]


def picture(address: str, page: str, width: int, file: Path) -> None:
    """A picture of the head of a page."""
    asked = f"{address}/look.html?page={quote(page)}&width={width}&height={HEIGHT}"
    with tempfile.TemporaryDirectory() as profile:
        command = [browser(), *QUIET, f"--user-data-dir={profile}", f"--screenshot={file}"]
        size = f"--window-size={max(width, 500)},{HEIGHT}"
        subprocess.run(
            [*command, size, "--virtual-time-budget=8000", asked], check=True, capture_output=True
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Looks at the built site in a browser.")
    parser.add_argument("site", type=Path)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="put pictures there")
    arguments = parser.parse_args()
    with served(arguments.site.resolve()) as address:
        found, console = look(address)
        if arguments.pictures is not None:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            for page in Site.pages:
                for width in (390, 1280):
                    name = f"{page.strip('/').replace('/', '-') or 'index'}-{width}.png"
                    picture(address, page, width, arguments.pictures.resolve() / name)
    problems = [*found["problems"], *console]
    print("\n".join(problems))
    counts = f"{found.get('pages')} pages, {found.get('formulas')} formulas"
    print(f"{counts}, {found.get('links')} links: {len(problems)} problems")
    return min(len(problems), 1)


if __name__ == "__main__":
    sys.exit(main())
