"""The documentation: its scripts run, its code compiles, its commands and links are good."""

import importlib
import os
import pydoc
import re
import subprocess
import sys

import pytest
from pages import DOCS, EXAMPLES, INCLUDE, PAGES, ROOT, blocks, blocks_of

from qamx import registry
from qamx.agents import AbstractAgent
from qamx.config import AgentSettings
from qamx.registry import PLUGIN_GROUP

LINK = re.compile(r"\]\(([^)\s]+)\)")
NAME = re.compile(r"`(qamx(?:\.\w+)+)`")
SCRIPTS = [script for script in EXAMPLES if script.stem != "own_method"]
"""All examples but the plugin, which `tests/walkthrough` runs with its page."""

LANGUAGES = {"bash", "python", "toml", "text"}


RUN_ALL = """
import runpy, sys
for script in sys.argv[1:]:
    print("running", script, file=sys.stderr, flush=True)
    runpy.run_path(script, run_name="__main__")
    print("end of", script)
"""


def test_the_examples_run(tmp_path):
    """All in one process, so that what takes long, importing, is done once."""
    environment = {
        **os.environ,
        "QAMX_DATA": str(tmp_path / "data"),
        "MINARI_DATASETS_PATH": str(tmp_path / "minari"),
        "PYTHONPATH": os.pathsep.join([str(DOCS / "examples"), str(ROOT)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, *map(str, SCRIPTS)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    printed = re.split(r"^end of .*\n", done.stdout, flags=re.MULTILINE)[:-1]
    assert len(printed) == len(SCRIPTS)
    assert all(printed), "an example prints something that can be checked"


def test_an_own_method_takes_at_most_forty_lines():
    assert len((DOCS / "examples" / "own_method.py").read_text().splitlines()) <= 40


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block):
    compile(block.text, str(block), "exec")


def test_every_include_is_one():
    """A mark that is not written exactly so would stand in the page as it is."""
    for page in PAGES:
        for line in page.read_text().splitlines():
            if re.match(r"-+ ?8 ?<", line):
                assert INCLUDE.match(line), f"{page.name}: {line}"


def test_every_block_says_what_it_is():
    """The walkthrough executes `bash` and `python`, loads `toml`, and compares `text`."""
    written = [str(block) for page in PAGES for block in blocks_of(page)]
    named = {str(block) for block in blocks(*LANGUAGES)}
    assert [block for block in written if block not in named] == []
    assert len(blocks("bash")) > 10
    assert len(blocks("python")) > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_tables_of_keys_are_those_of_the_models(page, monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    keys = importlib.import_module("keys")
    assert page.read_text() == keys.filled(page.read_text()), "run python docs/keys.py"


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


@pytest.mark.parametrize("name", registry.agents.names())
def test_a_card_has_the_costs_of_the_table(name):
    (row,) = re.findall(rf"^\| `{name}` \| \S+ \| (\S+) \| (\S+) \|", METHODS, re.MULTILINE)
    assert f"{row[0]} GFLOP an update, {row[1]} MFLOP to act" in card_of(name)


def test_every_method_has_its_line_in_both_tables():
    map_in_threads = next(card for card in CARDS if card.startswith("All methods side"))
    lines = re.findall(r"^\| `(\w+)` \|", map_in_threads, re.MULTILINE)
    assert lines == [*registry.agents.names()] * 2


@pytest.mark.parametrize("name", ["qam_edit", "cgql_linex", "dsrl", "ifql", "rql"])
def test_the_costs_are_those_that_the_script_counts(name, costs):
    assert costs.row(name) in METHODS.splitlines()
