"""A file server with scripted faults and a record of its requests."""

import contextlib
import hashlib
import http.server
import io
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Request:
    """A request with the status and the number of body bytes of its response."""

    method: str
    path: str
    range: str | None
    if_range: str | None
    status: int
    sent: int


@dataclass(frozen=True)
class Answer:
    """A scripted response to a GET; correct by default.

    **Arguments:** `cut` and `stall` close or stall the connection after that many bytes of the
    body; `ranges=False` ignores ranges, `careless` honours them even if the file has changed;
    `status`, `headers` and `body` replace the correct ones.
    """

    cut: int | None = None
    stall: int | None = None
    ranges: bool = True
    careless: bool = False
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


class FileServer:
    """Serves `files` (bytes by path) and answers the GETs of a path by its `script`, in order.

    After the end of a script all responses are correct. `validators` names the headers that
    identify versions; `release` ends all stalls.
    """

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.script: dict[str, list[Answer]] = defaultdict(list)
        self.requests: list[Request] = []
        self.validators = ("ETag",)
        self.heads = True
        self.release = threading.Event()
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def gets(self, path: str) -> list[Request]:
        return [
            request for request in self.requests if (request.method, request.path) == ("GET", path)
        ]

    def sent(self, path: str) -> list[int]:
        """Body bytes of each GET's response."""
        return [request.sent for request in self.gets(path)]

    def ranges(self, path: str) -> list[str | None]:
        """The requested range of each GET."""
        return [request.range for request in self.gets(path)]

    def wait_for(self, path: str, count: int) -> None:
        """Waits until `count` GETs were answered, or begun to be."""
        end = time.monotonic() + 20
        while len(self.gets(path)) < count:
            assert time.monotonic() < end, f"{len(self.gets(path))} requests for {path}"
            time.sleep(0.01)

    def _record(self, handler: http.server.BaseHTTPRequestHandler, status: int, sent: int) -> None:
        ranges = handler.headers["Range"], handler.headers["If-Range"]
        with self._lock:
            self.requests.append(Request(handler.command, handler.path[1:], *ranges, status, sent))

    def _handler(self):
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self._answer(Answer() if server.heads else Answer(status=405, body=b""))

            def do_GET(self):
                with server._lock:
                    script = server.script[self.path[1:]]
                    answer = script.pop(0) if script else Answer()
                self._answer(answer)

            def log_message(self, format, *args):
                pass

            def _answer(self, answer):
                content = server.files.get(self.path[1:])
                if content is None and answer.status is None:
                    answer = Answer(status=404, body=b"<html>no</html>")
                headers, status, body = self._headers(content or b"", answer)
                limits = [limit for limit in (answer.cut, answer.stall) if limit is not None]
                part = body[: min(limits, default=len(body))] if self.command == "GET" else b""
                # Before the response: a client that has it all may look at once.
                server._record(self, status, len(part))
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(part)
                    self.wfile.flush()
                if answer.stall is not None and self.command == "GET":
                    server.release.wait(20)
                self.close_connection |= bool(limits)

            def _headers(self, content, answer):
                if answer.status is not None:
                    body = answer.body or b""
                    return {"Content-Length": str(len(body)), **answer.headers}, answer.status, body
                correct = {
                    "ETag": f'"{hashlib.md5(content).hexdigest()}"',
                    "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
                }
                headers = {name: correct[name] for name in server.validators} | answer.headers
                body = content if answer.body is None else answer.body
                start = self._start(headers, answer)
                if start is None:
                    return headers | {"Content-Length": str(len(body))}, 200, body
                if start >= len(body):
                    return {"Content-Length": "0"}, 416, b""
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                return headers | {"Content-Length": str(len(body) - start)}, 206, body[start:]

            def _start(self, headers, answer):
                asked, condition = self.headers["Range"], self.headers["If-Range"]
                if asked is None or not answer.ranges:
                    return None
                same = condition in (None, headers.get("ETag"), headers.get("Last-Modified"))
                if not same and not answer.careless:
                    return None
                return int(asked.removeprefix("bytes=").removesuffix("-"))

        return Handler


def archive(seed: int, rows: int = 400) -> bytes:
    """The bytes of a small data set."""
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    np.savez(
        file,
        observations=rng.normal(size=(rows, 2)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(rows, 2)).astype(np.float32),
        terminals=np.arange(rows) == rows - 1,
    )
    return file.getvalue()
