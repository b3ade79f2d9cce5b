"""The benchmark for two cores: its stored runs are its suite's, and its page shows their report."""

import re
import tarfile
from pathlib import Path

import pytest

from qamx.cli import main
from qamx.config import load, load_suite

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "experiments" / "suites" / "cpu.toml"
PAGE = ROOT / "docs" / "cpu_benchmark.md"
TASKS = {
    "All tasks (5)": ("mean",),
    "pointmaze-medium-navigate": ("task 1", "task 5"),
    "pointmaze-large-navigate": ("task 1", "task 3"),
    "antmaze-medium-navigate": ("task 1",),
}
"""The report's tables, and their columns, from which the page's has its columns."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    with tarfile.open(ROOT / "docs" / "assets" / "cpu_benchmark.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "cpu_published"


def cells(text):
    """The rows of a Markdown table, after its first two."""
    return [re.findall(r"[^|\n]+", row[1:-1]) for row in re.findall(r"(?m)^\| .*$", text)]


def test_the_stored_runs_are_those_of_the_suite(stored):
    suite = load_suite(SUITE)
    runs = suite.runs()
    assert sorted(run.name for run in runs) == sorted(path.name for path in stored.iterdir())
    for run in runs[:: suite.seeds_per_process]:
        assert load(stored / run.name / "config.toml") == run.load()


def test_the_page_shows_the_report_of_the_stored_runs(stored, tmp_path):
    assert main(["report", str(stored), "--out", str(tmp_path), "--no-figures"]) == 0
    sections = re.split(r"(?m)^### (.+)$", (tmp_path / "tables.md").read_text())
    found = {}
    for title, text in zip(sections[1::2], sections[2::2], strict=True):
        head, *rows = cells(text)
        for row in rows:
            shown = dict(zip(map(str.strip, head), map(str.strip, row), strict=True))
            columns = [shown[column] for column in TASKS.get(title, ())]
            found.setdefault(shown["method"].removeprefix("qam-"), []).extend(columns)
    page = PAGE.read_text().partition("## Results")[2]
    rows = [[cell.strip(" `") for cell in row] for row in cells(page)]
    assert len(found) == 10
    for method, (mean, ant, *points) in found.items():
        expected = [method, *points[2:], *points[:2], ant, mean]
        if method == "cloning":  # alone in its table, where it is the best
            expected = [cell.strip("*") for cell in expected]
        assert expected in rows


def test_a_later_version_is_compared_with_the_stored_runs(stored, capsys):
    assert main(["compare", str(stored), "--against", str(stored)]) == 0
    assert "pointmaze-medium-navigate" in capsys.readouterr().out
