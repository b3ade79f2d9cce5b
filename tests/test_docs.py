"""The documentation: its scripts run, its code compiles, its commands and links are good."""

import importlib
import os
import pydoc
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
import tomli

from qamx import registry
from qamx.agents import AbstractAgent
from qamx.cli import build_parser
from qamx.config import AgentSettings, load
from qamx.registry import PLUGIN_GROUP

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))

FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r'^--8<-- "([^":]+)(?::(\w+))?"$', re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAME = re.compile(r"`(qamx(?:\.\w+)+)`")


class Block(NamedTuple):
    """A fenced block of a page, its includes in place."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(DOCS)}:{self.line}"


def included(match: re.Match[str]) -> str:
    """The file, or the section of a file, that an include names."""
    text = (ROOT / match[1]).read_text()
    if match[2] is None:
        return text
    section = re.search(
        rf"\[start:{match[2]}\]\n(.*?)^ *# --8<-- \[end:{match[2]}\]$",
        text,
        re.DOTALL | re.MULTILINE,
    )
    assert section, f"{match[1]} has no section {match[2]}"
    return textwrap.dedent(section[1])


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        source = page.read_text()
        for match in FENCE.finditer(source):
            if match[2] in languages:
                line = source.count("\n", 0, match.start()) + 1
                text = INCLUDE.sub(included, textwrap.dedent(match[3]))
                found.append(Block(page, line, match[2], text))
    return found


def commands() -> list[tuple[str, list[str]]]:
    """Every `qamx ...` line of a fenced block: where it stands, and its arguments."""
    found = []
    for block in blocks("", "bash", "console", "sh", "shell"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] == ["qamx"]:
                stop = next((i for i, word in enumerate(words) if word in ("|", "&&", ">")), None)
                found.append((str(block), words[1:stop]))
    return found


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(script, tmp_path):
    environment = {
        **os.environ,
        "QAMX_DATA": str(tmp_path / "data"),
        "MINARI_DATASETS_PATH": str(tmp_path / "minari"),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiling takes longer than running here
    }
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "an example prints something that can be checked"


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block):
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_parses(block):
    tomli.loads(block.text)


@pytest.fixture
def own_registry(monkeypatch):
    """A plugin that a page's experiment names is forgotten after the test."""
    monkeypatch.setattr(registry.agents, "_entries", dict(registry.agents._entries))
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for script in EXAMPLES:
        sys.modules.pop(script.stem, None)


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(("place", "arguments"), commands())
def test_commands_parse(place, arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    try:
        parsed = build_parser().parse_args(arguments)
    except SystemExit as ended:  # --help and --version end the program
        if ended.code:
            pytest.fail(f"{place}: qamx {shlex.join(arguments)}")
        return
    if hasattr(parsed, "file") and parsed.file.exists():
        load(parsed.file, parsed.set, parsed.seed)
    for file in getattr(parsed, "files", ()):
        if file.exists():
            load(file)


def test_every_include_is_one():
    """A mark that is not written exactly so would stand in the page as it is."""
    for page in PAGES:
        for line in page.read_text().splitlines():
            if re.match(r"-+ ?8 ?<", line):
                assert INCLUDE.match(line), f"{page.name}: {line}"


def test_there_are_commands_and_blocks():
    assert len(commands()) > 10
    assert len(blocks("python")) > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_resolve(page):
    for target in LINK.findall(page.read_text()):
        path = target.partition("#")[0]
        if path and "://" not in path:
            assert (page.parent / path).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_names_exist(page):
    """`qamx.some.name` in the text is a module or an attribute of one."""
    for name in set(NAME.findall(page.read_text())) - {PLUGIN_GROUP}:
        assert pydoc.locate(name) is not None, f"{page.name}: {name}"


# The page of methods against the code


METHODS = (DOCS / "methods.md").read_text()
CARDS = re.split(r"^#{2,3} ", METHODS, flags=re.MULTILINE)


@pytest.fixture
def costs(monkeypatch):
    """The script of the page's table."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("methods")


def card_of(name: str) -> str:
    (card,) = (card for card in CARDS if f'`method = "{name}"`' in card)
    return card


@pytest.mark.parametrize("name", registry.agents.names())
def test_a_card_names_the_parts_and_keys_of_its_method(name, costs):
    settings = costs.settings_of(name)
    agent: AbstractAgent = costs.state_of(settings).agent
    card = card_of(name)
    for module, part in (("agents", agent), ("rl", agent.critic), ("policies", agent.policy)):
        assert f"`qamx.{module}.{type(part).__name__}`" in card
    own = type(settings).model_fields.keys() - AgentSettings.model_fields.keys()
    assert {key for key in own if f"`{key}`" not in card} == set()
    assert "arXiv" in card


def test_every_method_has_its_line_in_both_tables():
    side_by_side = next(card for card in CARDS if card.startswith("All nineteen"))
    lines = re.findall(r"^\| `(\w+)` \|", side_by_side, re.MULTILINE)
    assert lines == [*registry.agents.names()] * 2


@pytest.mark.parametrize("name", ["qam_edit", "cgql_linex", "dsrl", "ifql", "rql"])
def test_the_costs_are_those_that_the_script_counts(name, costs):
    assert costs.row(name) in METHODS.splitlines()
