"""Every block of the documentation is executed: commands, Python, TOML, and shown output.

`nox -s walkthrough` follows all pages; `nox -s tests` those that take seconds. `tables.py` says
what is run in another way than it is printed.
"""

import os
import shlex
import sys

import pytest
from pages import DOCS, EXAMPLES, PAGES, Block, blocks, blocks_of
from tables import LINES, OUTPUTS, STAGES, Change, change_of
from tomls import load_as_what_it_is
from walker import Walk, folder_like_a_clone

from qamx import registry
from qamx.cli import build_parser
from qamx.config import find_experiment, is_suite_file, load, load_suite

QUICK = {
    "architecture.md",
    "data.md",
    "own_agent.md",
    "reliability.md",
}
"""The pages that are followed in every run of the tests."""

REGISTRIES = (
    registry.agents,
    registry.schedules,
    registry.environments,
    registry.datasets,
    registry.temperatures,
)


@pytest.fixture
def read(capfd):
    """What was printed since the last call."""
    return lambda: "".join(capfd.readouterr())


@pytest.fixture
def apart(tmp_path, monkeypatch):
    """A folder like a clone as the working directory, and an environment of the page's own."""
    before = dict(os.environ)
    for one in REGISTRIES:
        monkeypatch.setattr(one, "_own", dict(one._entries))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(folder_like_a_clone(tmp_path))
    os.environ |= {
        "QAMX_DATA": str(tmp_path / "data"),
        "MINARI_DATASETS_PATH": str(tmp_path / "minari"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    yield tmp_path
    os.environ.clear()
    os.environ |= before
    for name in {path.stem for path in EXAMPLES} | {"my_methods"}:
        sys.modules.pop(name, None)


def pages_with_blocks():
    for page in PAGES:
        if any(True for _ in blocks_of(page)):
            marks = () if page.name in QUICK else (pytest.mark.walkthrough,)
            yield pytest.param(page, id=str(page.relative_to(DOCS)), marks=marks)


@pytest.mark.parametrize("page", pages_with_blocks())
def test_a_page_is_followed(page, apart, read):
    Walk(page, apart, read).go()


# What takes no time is looked at on all pages in every run of the tests


def commands() -> list[tuple[Block, str, list[str]]]:
    """Every `qamx ...` line of a shell block: the line, and its words."""
    found = []
    for block in blocks("bash"):
        for line in block.lines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["qamx"]:
                found.append((block, line, words[1:]))
    return found


@pytest.mark.parametrize(("block", "line", "words"), commands(), ids=str)
def test_a_command_parses_and_its_file_loads(block, line, words, apart):
    change = change_of(block.page.name, line)
    try:
        parsed = build_parser().parse_args(words)
    except SystemExit as ended:  # --help and --version end the program
        if ended.code:
            pytest.fail(line)
        return
    if isinstance(change, Change) and 2 in change.statuses:
        return  # the page shows what is wrong with it
    is_experiment = all(hasattr(parsed, name) for name in ("file", "overrides", "seed"))
    if is_experiment and find_experiment(parsed.file).exists():
        load(find_experiment(parsed.file), parsed.overrides, parsed.seed)
    for file in getattr(parsed, "files", ()):
        if file.exists():
            load_suite(file) if is_suite_file(file) else load(file)


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_is_what_it_seems(block, apart):
    for other in blocks_of(block.page):
        if other.title:
            (apart / other.title).write_text(other.text)
    load_as_what_it_is(block, apart)


def test_every_row_of_the_tables_is_of_use():
    """A row that matches nothing was left behind by a change of the pages."""
    lines = [(block.page.name, line) for block in blocks("bash") for line in block.commands()]
    used = {id(change_of(*one)) for one in lines}
    assert [row[:2] for row in LINES if id(row[2]) not in used] == []
    texts = [(block.page.name, block.text) for block in blocks("text")]
    for page, begins, _ in OUTPUTS:
        assert any(name == page and text.startswith(begins) for name, text in texts), begins
    assert STAGES.keys() <= {page.name for page in PAGES}
