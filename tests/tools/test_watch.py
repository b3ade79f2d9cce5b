"""`qamx watch`: the page follows the runs, shows names as text, and is for this machine alone."""

import functools
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from fake_runs import complete_run, fake_run

from qamx.cli import main
from qamx.tools import watch
from qamx.tools.watch import ADDRESS, PageHandler, PageServer, WatchPage

PATIENCE = 120


@pytest.fixture
def ask():
    """Serves a text; asks for it with a method, a path and headers."""
    server = PageServer((ADDRESS, 0), functools.partial(PageHandler, lambda: "the page"))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def ask(method="GET", path="/", *hosts):
        connection = http.client.HTTPConnection(ADDRESS, server.server_port, timeout=PATIENCE)
        connection.putrequest(method, path, skip_host=True)
        for host in hosts:
            connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers

    with server:
        yield ask
        server.shutdown()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8600", "LOCALHOST:1"])
def test_this_machine_gets_the_page(ask, host):
    status, text, headers = ask("GET", "/", host)
    assert (status, text) == (200, "the page")
    assert headers["Refresh"] == "10"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Server"].strip() == "qamx"


@pytest.mark.parametrize(
    ("status", "method", "path", "hosts"),
    [
        (421, "GET", "/", ["evil.example"]),
        (421, "GET", "/", ["localhost.evil.example:8600"]),
        (421, "GET", "/", ["evil.example/localhost"]),
        (421, "GET", "/", ["127.0.0.1@evil.example"]),
        (421, "GET", "/", []),
        (421, "GET", "/", ["localhost", "evil.example"]),
        (404, "GET", "/../config.toml", ["localhost"]),
        (404, "GET", "http://evil.example/", ["localhost"]),
        (501, "POST", "/", ["localhost"]),
    ],
)
def test_everything_else_is_refused(ask, status, method, path, hosts):
    found, text, _ = ask(method, path, *hosts)
    assert found == status
    assert "the page" not in text
    assert "evil" not in text


def test_a_run_is_followed_from_its_start(tmp_path):
    run = fake_run(tmp_path / "run", logged={100: 1.0}, saved={50: 1.0})
    page = WatchPage([run])
    first = page.html()
    assert "<td>run</td><td>stopped</td><td>50</td><td>1,000</td>" in first
    assert "<th>job</th>" not in first  # no job
    assert "<img" not in first  # no numbers yet
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 200, "phase": "offline", "critic/loss": NaN}\n')
    second = page.html()
    assert re.findall('<img alt="(.*?)"', second) == ["Training"]
    rows = [{"step": 100, "success": 0.25}, {"step": 200, "success": 1.0, "return": -3}]
    text = "\n".join(map(json.dumps, rows))
    (run / "evaluations.jsonl").write_text(text + '\n{"step": 30')  # a row that is being written
    third = page.html()
    assert "<td>100%</td>" in third
    assert re.findall('<img alt="(.*?)"', third) == ["Evaluations", "Training"]


def test_figures_are_drawn_again_for_new_rows_alone(tmp_path, monkeypatch):
    run = complete_run(tmp_path / "run")
    drawn = []
    render = watch.html.render
    monkeypatch.setattr(watch.html, "render", lambda *a, **k: drawn.append(a) or render(*a, **k))
    page = WatchPage([tmp_path])
    page.html()
    page.html()
    assert len(drawn) == 1
    with (run / "evaluations.jsonl").open("a") as file:
        file.write('{"step": 2000, "success": 0.5}\n')
    page.html()
    assert len(drawn) == 2


def test_names_and_messages_are_text(tmp_path):
    name = "_<script>alert('$x')<"
    run = complete_run(tmp_path / name)
    (run / "metrics.jsonl").write_text('{"step": 1, "<b>$\\\\frac": 1.0}\n')
    (run / "diverged.json").write_text('{"why": "<i>NaN</i>"}')
    (tmp_path / name / "checkpoints" / "1000" / "manifest.json").unlink()
    text = WatchPage([run]).html()
    assert not re.search("<script|<b>|<i>", text)
    assert "&lt;script&gt;alert(&#x27;$x&#x27;)&lt;" in text
    assert "&lt;i&gt;NaN&lt;/i&gt;" in text


def test_a_damaged_file_is_named_in_the_page(tmp_path):
    run = complete_run(tmp_path / "run")
    page = WatchPage([run])
    page.html()
    (run / "evaluations.jsonl").write_text("<x\n")
    server = PageServer((ADDRESS, 0), functools.partial(PageHandler, page.html))
    with server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        connection = http.client.HTTPConnection(ADDRESS, server.server_port, timeout=PATIENCE)
        connection.request("GET", "/")
        text = connection.getresponse().read().decode()
    assert "evaluations.jsonl: line 1: found &#x27;&lt;x&#x27;, not JSON" in text


def test_the_newest_of_many_runs_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "MOST", 2)
    drawn = []
    monkeypatch.setattr(watch, "styles", lambda labels: drawn.append(labels) or {})
    for number in (3, 1, 2):
        fake_run(tmp_path / f"{number}" / "run", logged={number: float(number)})
    WatchPage([tmp_path / f"{number}" for number in (1, 2, 3)]).html()
    assert drawn == [["2/run", "3/run"]]


def test_runs_of_one_name_have_a_line_each(tmp_path, monkeypatch):
    labels = []
    monkeypatch.setattr(watch, "styles", lambda names: labels.extend(names) or {})
    WatchPage([fake_run(tmp_path / "a" / "run"), fake_run(tmp_path / "b" / "run")]).html()
    assert labels == ["a/run", "b/run"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none"], "none: no runs here; name the folder of a run or of a sweep"),
        (["run", "--port", "99999"], "--port: found 99999, where no page can be served ("),
        (["run", "--port", "{taken}"], "--port: found {taken}, where no page can be served ("),
    ],
)
def test_what_cannot_be_served_is_one_message(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    fake_run(tmp_path / "run")
    with PageServer((ADDRESS, 0), PageHandler) as other:
        taken = str(other.server_port)
        assert main(["watch", *(text.format(taken=taken) for text in arguments)]) == 2
    assert said.format(taken=taken) in capsys.readouterr().err


def test_without_matplotlib_there_is_one_message(monkeypatch, capsys):
    monkeypatch.setattr("qamx._utils.html.find_spec", lambda name: None)
    assert main(["watch", "none"]) == 2
    assert capsys.readouterr().err.startswith("qamx watch: the page's figures take matplotlib")


def test_ctrl_c_ends_it(tmp_path):
    fake_run(tmp_path / "run")
    command = [sys.executable, "-m", "qamx", "watch", str(tmp_path), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = re.match(r"http://localhost:(\d+) \(Ctrl-C ends it", line)
        assert port, line
        connection = http.client.HTTPConnection(ADDRESS, int(port[1]), timeout=PATIENCE)
        connection.request("GET", "/")
        assert "<td>run</td>" in connection.getresponse().read().decode()
        os.kill(process.pid, signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 0
