"""`import qamx` alone: names, version, submodules, and what its functions take."""

import subprocess
import sys
from pathlib import Path

import pytest

import qamx

ROOT = Path(__file__).parent.parent


def test_dir_lists_the_public_names():
    names = set(dir(qamx))
    assert {"QAM", "Parts", "run", "load", "TrainedPolicy", "deploy", "__version__"} < names
    assert not names & {"Any", "TYPE_CHECKING", "importlib", "import_module"}
    assert set(qamx.__all__) < names


def test_a_bare_import_is_enough():
    code = """
import sys, qamx
assert "numpy" not in sys.modules
assert callable(qamx.deploy.load_policy) and callable(qamx.registry.load_plugin)
assert qamx.__version__[0].isdigit()
assert not hasattr(qamx, "nothing")
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_load_takes_one_override_as_a_string():
    assert qamx.load("quickstart", "agent.horizon=4").agent.horizon == 4


def test_run_names_what_it_takes():
    with pytest.raises(qamx.UserError, match=r"experiment: found 'quickstart'; give qamx.load"):
        qamx.run("quickstart", "runs/x")  # pyright: ignore[reportArgumentType]
