"""A newcomer's first hour: help's words, a terminal of 80 columns, the header of a run."""

import argparse
import ast
import functools
import importlib
import inspect
import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_runs import complete_run, fake_run

import qamx
from qamx._utils.terminal import Progress, print_log_interactively
from qamx.agents import methods
from qamx.cli import build_parser, main
from qamx.config import load
from qamx.errors import suggestion
from qamx.running import header

ROOT = Path(__file__).parents[2]

PLAIN = {
    "sweep": "run a suite locally or on Slurm; run again to resume",
    "status": "show progress, and the last log lines of failed runs",
    "eval": "evaluate a run's latest checkpoint (safe during training)",
    "diff": "compare config, data and logs of two runs; find where they diverge",
    "verify-resume": "test that an interrupted run resumes exactly",
    "doctor": "check this machine's setup, and suggest fixes",
    "bench": "benchmark training speed on this machine",
    "plan": "power analysis: seeds and GPU hours of a comparison",
}
"""Summaries of commands."""

OBSCURE = (
    "carry out every run",
    "who walks",
    "take the place of the file's seed",
    "what a job gets and holds",
    "what the cluster grants",
    "learn them by heart",
    "are of no episode that was ever played",
    "comes to these data",
    "acting less base",
    "the others end too early",
    "adjoint matching leaves",
    "over a host loop",
    "floor of its products",
    "agree in law",
    "looked at",
    "says nothing of how much",
    "A result in this field is",
)
"""Wordings that a newcomer had to read twice."""


PUBLIC = ("agents", "policies", "flow", "rl", "nn", "schedules", "config", "deploy")
"""Packages on the page of Python names."""


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parsers of all commands."""
    choices = (action.choices for action in build_parser()._actions)
    return next(known for known in choices if isinstance(known, dict))


def texts(file: Path) -> list[str]:
    """The strings of a module, without its docstrings."""
    tree = ast.parse(file.read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    docstrings = {id(node.value) for node in nodes if isinstance(node.value, ast.Constant)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [n.value for n in constants if isinstance(n.value, str) and id(n) not in docstrings]


@pytest.mark.parametrize("name", PLAIN)
def test_a_command_s_summary_is_in_the_field_s_words(name):
    summary = " ".join(commands()[name].format_help().split())
    assert PLAIN[name][1:] in summary


def test_options_are_named_as_elsewhere():
    assert "override the seed" in commands()["run"].format_help()
    assert "also evaluate behaviour cloning" in commands()["eval"].format_help()
    for name, old in (("inspect", "--flow"), ("data", "--again")):
        assert old not in commands()[name].format_help()


@pytest.mark.parametrize("folder", ["cli", "tools", "evaluation", "data", "config", "training"])
def test_obscure_wordings_do_not_come_back(folder):
    for file in (ROOT / "qamx" / folder).rglob("*.py"):
        said = "\n".join(texts(file))
        assert not [words for words in OBSCURE if re.search(rf"(?<!-up ){words}", said)], file


def test_pages_open_with_a_sentence():
    """Neither in mid-sentence below a command, nor with a command."""
    for page in (ROOT / "docs").glob("*.md"):
        text = re.sub(r"\A---\n.*?\n---\n", "", page.read_text(), flags=re.S)
        first = next(line for line in text.splitlines() if line and not line.startswith("#"))
        assert re.match(r"[A-Z`*\[!|]", first), page
        assert not first.startswith("```"), page


@pytest.mark.parametrize("package", PUBLIC)
def test_summaries_of_public_names_are_one_line(package):
    module = importlib.import_module(f"qamx.{package}")
    named = [name for name in module.__all__ if inspect.isroutine(getattr(module, name))]
    named += [name for name in module.__all__ if inspect.isclass(getattr(module, name))]
    for name in named:
        summary = (inspect.getdoc(getattr(module, name)) or "").partition("\n")[0]
        assert re.fullmatch(r".{1,97}[^.]\.", summary), name


def test_the_page_of_names_has_all_that_import_qamx_exports():
    page = (ROOT / "docs/api.md").read_text()
    exported = {name for name in qamx.__all__ if name not in methods.__all__}
    assert not {name for name in exported - {"errors"} if f"`{name}`" not in page}


def test_the_example_of_a_method_can_be_copied():
    assert "../" not in (ROOT / "docs/examples/own_method.toml").read_text()


# A terminal of 80 columns


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Runs a command in such a terminal; returns its lines without colours."""
    monkeypatch.setenv("COLUMNS", "80")

    def lines(*command: str) -> list[str]:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        assert main(command) == 0
        return re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()

    return lines


def test_status_fits_a_terminal(tmp_path, terminal):
    runs = tmp_path / "runs"
    complete_run(runs / "pointmaze-medium-navigate-task1-seed10001")
    fake_run(runs / "quickstart-task1-seed10001", saved={500: 100.0}, evaluated={500: 0.5})
    printed = terminal("status", str(runs))[1:]  # the first line is the folder
    assert max(map(len, printed)) <= 80
    words = " ".join(printed).split()
    assert {"pointmaze-medium-navigate-task1-seed10001", "success", "100%", "stopped"} <= {*words}


def test_the_list_fits_a_terminal(terminal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = terminal("list")
    assert max(map(len, printed)) <= 80
    assert {"c4_qam_edit", "cube-quadruple-play,"} <= {*" ".join(printed).split()}


def test_check_tells_of_an_environment_that_was_not_made(capsys):
    assert main(["check", str(ROOT / "docs/examples/own_data.toml")]) == 0
    assert "(environment not tried" in capsys.readouterr().out


def test_a_message_lists_no_more_names_than_can_be_read():
    listed = suggestion("x", [f"file{number:04}.xml" for number in range(2000)])
    assert listed.startswith("known: file0000.xml, file0001.xml, ")
    assert listed.endswith(", file0059.xml and 1,940 more")


def test_a_long_text_breaks_between_words(terminal, capsys):
    main(["plan", "qam", "fql", "--domain", "c3"])
    assert max(map(len, capsys.readouterr().out.splitlines())) > 80  # a pipe
    printed = terminal("plan", "qam", "fql", "--domain", "c3")
    assert max(map(len, printed)) <= 80
    assert "guess" in " ".join(printed).split()


def test_a_notebook_has_one_line_of_progress(monkeypatch, caplog):
    """Neither a flood of lines, nor rich's widgets, which a notebook may not have."""
    shown = []

    def display(data, raw, display_id):
        shown.append(data)
        return SimpleNamespace(update=lambda data, raw: shown.append(data))

    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    with caplog.at_level("INFO", "qamx"), Progress(100, unit="steps") as progress:
        progress.announce("compiling")
        for step in range(1, 101):
            progress.advance(step, "offline")
    lines = [one["text/plain"] for one in shown]
    assert lines[:2] == ["start", "compiling"]
    assert lines[2].startswith("offline: 100 of 100, ")
    assert len(lines) == 3
    assert not caplog.messages


@pytest.mark.parametrize("notebook", [True, False])
def test_a_notebook_shows_the_log_of_a_run(monkeypatch, request, capsys, notebook):
    log = logging.getLogger("qamx")
    monkeypatch.setattr("rich.console._is_jupyter", lambda: notebook)
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", True)
    request.addfinalizer(functools.partial(log.setLevel, log.level))
    log.setLevel(logging.WARNING)
    print_log_interactively()
    log.info("step 100")
    assert capsys.readouterr().out == ("step 100\n" if notebook else "")


def test_a_run_says_at_once_what_runs_where():
    experiments = load("quickstart").with_seeds(2)
    folders = [Path("runs/a/seed10001"), Path("runs/a/seed20002")]
    line = header(experiments, folders)
    assert line.startswith("qam on pointmaze-medium-navigate task1, seeds 10001, 20002; cpu on ")
    assert re.search(r"; qamx \S.*, JAX \d\S*; runs/a$", line)
    assert header(experiments[:1], folders[:1]).endswith("; runs/a/seed10001")
