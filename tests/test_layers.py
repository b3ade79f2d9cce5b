"""Imports run one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "qamx"

# From the ground up. A part imports parts of its own row and of those above it here.
ROWS = (
    "_types errors _utils",
    "nn flow rl",
    "schedules policies agents",
    "data envs normalisation",
    "registry config",
    "training",
    "building provenance trained_policy callbacks running evaluation deploy export",
    "tools",
    "cli",
)
ROW_OF = {part: height for height, row in enumerate(ROWS) for part in row.split()}


def part_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """Modules of the package that a file imports, at its top and inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            place = ROOT.parent.joinpath(*name.split("."))
            if name.startswith("qamx.") and (place.is_dir() or place.with_suffix(".py").exists()):
                yield name.removeprefix("qamx.")


FILES = sorted(path for path in ROOT.rglob("*.py") if part_of(path) in ROW_OF)


def test_every_part_has_its_row():
    assert {part_of(path) for path in ROOT.rglob("*.py")} - {"__init__", "__main__"} == set(ROW_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    height = ROW_OF[part_of(path)]
    above = sorted(n for n in imports(path) if ROW_OF[n.split(".")[0]] > height)
    assert not above, f"{path.name} imports {above}"


def test_there_is_no_cycle_of_imports():
    graph = {}
    for path in FILES:
        name = str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
        graph[name.removesuffix(".__init__")] = {*imports(path)}
    packages = {name for name in graph if (ROOT / name.replace(".", "/")).is_dir()}
    # A package's `__init__` is run before its modules: to import from it is to import them.
    graph = {name: {n for n in found if n not in packages} for name, found in graph.items()}
    while ends := {name for name, found in graph.items() if not found & graph.keys()}:
        graph = {name: found for name, found in graph.items() if name not in ends}
    assert not graph, f"among these modules: {sorted(graph)}"


def test_public_names_are_the_objects_whatever_has_been_imported():
    code = """
import qamx
from qamx import *
import qamx.building, qamx.config.loader, qamx.running, qamx.trained_policy
from qamx import build, run, update, load
assert all(callable(name) for name in (build, run, update, load, qamx.build, qamx.run, qamx.load))
assert qamx.build is build is qamx.running.build
assert {"QAM", "RQL", "Parts", "run", "load_agent"} < set(qamx.__all__) <= set(globals())
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, check=True)
