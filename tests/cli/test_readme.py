"""The pages at the top level: their commands parse and name what exists, their links resolve."""

import re
import shlex
from pathlib import Path

import pytest

from qamx.cli import build_parser
from qamx.config import find_experiment, find_suite

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def commands():
    """Each `qamx ...` of a line of a block in the README, or after `&&` in one."""
    blocks = FENCE.findall(PAGES[0].read_text())
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    for line in (shlex.split(line, comments=True) for line in lines):
        tail = line[len(line) - line[::-1].index("&&") :] if "&&" in line else line
        if tail[:1] == ["qamx"]:
            yield tail[1:]


def anchor(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_there_are_commands():
    assert ["run", "experiments/quickstart.toml"] in list(commands())


@pytest.mark.parametrize("arguments", commands(), ids=shlex.join)
def test_the_readme_s_commands_parse_and_find_their_files(arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    parsed = build_parser().parse_args(arguments)
    if hasattr(parsed, "file") and hasattr(parsed, "overrides"):
        assert find_experiment(parsed.file).is_file()
    if hasattr(parsed, "suite"):
        assert find_suite(parsed.suite).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page):
    for target in LINK.findall(page.read_text()):
        path, _, place = target.partition("#")
        if "://" in path:
            continue
        assert (ROOT / path).exists(), target
        if place:
            headings = map(anchor, HEADING.findall((ROOT / path).read_text()))
            assert place in headings, target
