"""A stand-in of the Hugging Face Hub: repositories of small files, in memory."""

import base64
import hashlib
import http.server
import json
import threading
from typing import Any
from urllib.parse import unquote


class HubServer:
    """Serves `files` (bytes by repository and path) as the Hub's API does.

    Requests other than GET need `token`. `requests` are method and path of each.
    """

    token = "hf_right"

    def __init__(self):
        self.files: dict[str, dict[str, bytes]] = {}
        self.messages: list[str] = []
        self.requests: list[tuple[str, str]] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def replace_hub(self, monkeypatch, folder) -> None:
        """Lets `huggingface_hub` use this server, the right token, and a cache in a folder."""
        from huggingface_hub import constants

        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setenv("HF_TOKEN", self.token)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def revision(self, repository: str) -> str:
        content = sorted((name, data.hex()) for name, data in self.files[repository].items())
        return hashlib.sha1(json.dumps(content).encode()).hexdigest()

    def commit(self, repository: str, body: bytes) -> None:
        files = self.files[repository]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "deletedFile"
                del files[value["path"]]

    def _handler(self):
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format, *args):
                pass

            def reply(self, status: int, content: Any = b"", **headers: str):
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"content-length": str(len(data)), **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def missing(self, code="RepoNotFound", status=404):
                self.reply(status, {"error": "no"}, X_Error_Code=code, X_Error_Message="no")

            def do_POST(self):
                hub.requests.append((self.command, self.path))
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                if self.headers["authorization"] != f"Bearer {hub.token}":
                    return self.reply(401, {"error": "Invalid username or password."})
                parts = self.path.partition("?")[0].split("/")
                if self.path == "/api/repos/create":
                    table = json.loads(body)
                    name = f"{table.get('organization') or 'me'}/{table['name']}"
                    known = name in hub.files
                    hub.files.setdefault(name, {})
                    return self.reply(409 if known else 200, {"url": f"{hub.url}/{name}"})
                if self.path == "/api/validate-yaml":
                    return self.reply(200, {"warnings": [], "errors": []})
                repository, action = "/".join(parts[3:5]), parts[5]
                if action == "preupload":
                    names = [file["path"] for file in json.loads(body)["files"]]
                    files = [
                        {"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names
                    ]
                    return self.reply(200, {"files": files})
                assert action == "commit"
                hub.commit(repository, body)
                url = f"{hub.url}/{repository}/commit/{hub.revision(repository)}"
                oid = hub.revision(repository)
                return self.reply(200, {"commitUrl": url, "commitOid": oid, "success": True})

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                hub.requests.append((self.command, self.path))
                parts = [unquote(part) for part in self.path.partition("?")[0].split("/")[1:]]
                if parts[0] == "api":
                    repository, rest = "/".join(parts[2:4]), parts[4:]
                else:
                    repository, rest = "/".join(parts[:2]), parts[2:]
                if repository not in hub.files:
                    return self.missing()
                files, revision = hub.files[repository], hub.revision(repository)
                if rest[1:2] not in ([], ["main"], [revision]):
                    return self.missing("RevisionNotFound")
                if rest[:1] == ["tree"]:
                    return self.reply(200, [_entry(name, data) for name, data in files.items()])
                if rest[:1] == ["resolve"]:
                    data = files["/".join(rest[2:])]
                    tag = f'"{hashlib.sha1(data).hexdigest()}"'
                    return self.reply(200, data, ETag=tag, X_Repo_Commit=revision)
                siblings = [{"rfilename": name} for name in files]
                table = {"id": repository, "sha": revision, "siblings": siblings, "private": False}
                return self.reply(200, table)

        return Handler


def _entry(name: str, data: bytes) -> dict:
    oid = hashlib.sha1(data).hexdigest()
    return {"type": "file", "path": name, "size": len(data), "oid": oid}
