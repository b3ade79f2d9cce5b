"""Real runs in processes of their own, and what they leave."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from qamx.training.checkpoint import Checkpoints

HERE = Path(__file__).parent
END = 100
CACHE = Path(tempfile.gettempdir()) / f"qamx-faults-{os.getuid()}"
"""Compiled programs, outside of pytest (`conftest.py` has its own)."""


def arguments(directory, *changes):
    run = ["run", str(HERE / "corner.toml"), "--out", str(directory)]
    return [*run, *(("--set", *changes) if changes else ())]


def command(directory, *changes):
    return [sys.executable, "-m", "qamx", *arguments(directory, *changes)]


def environment(fault="", progress=False):
    return os.environ | {
        "QAMX_FAULT": fault,
        "QAMX_PROGRESS": "1" if progress else "",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(CACHE)),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]),
    }


def qamx(directory, fault="", *changes):
    """Runs to the end or to the fault; returns the finished process with its output."""
    return subprocess.run(
        command(directory, *changes), env=environment(fault), capture_output=True, text=True
    )


def outcome(directory):
    """All that a finished run leaves, comparable: arrays, position, logs and replay."""
    checkpoints = Checkpoints(directory / "checkpoints")
    saved = checkpoints.read(END)
    checkpoints.close()
    arrays = dict(saved.arrays)
    for name, _, _ in saved.position["replay"]:
        with np.load(directory / "replay" / name, allow_pickle=False) as file:
            for column in file.files:
                key = f"replay.{column}"
                arrays[key] = (
                    np.concatenate([arrays[key], file[column]]) if key in arrays else (file[column])
                )
    position = {key: value for key, value in saved.position.items() if key != "replay"}
    logs = [(directory / f"{name}.jsonl").read_bytes() for name in ("metrics", "evaluations")]
    return arrays, json.dumps(position, sort_keys=True), logs


def assert_same(one, other):
    """Bitwise the same end."""
    assert one[1:] == other[1:]
    assert one[0].keys() == other[0].keys()
    for name, array in one[0].items():
        assert array.dtype == other[0][name].dtype
        np.testing.assert_array_equal(array, other[0][name], err_msg=name)
