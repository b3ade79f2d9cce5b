"""Makes the run folder `run_of_7e76995` beside this file, with qamx as of that commit.

    git worktree add CHECKOUT 7e76995
    python make_run_of_7e76995.py CHECKOUT

`stopped` is a run that a SIGTERM ended at step 63, in the middle of an episode of its online phase;
the two logs are those of the same run, uninterrupted.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).with_name("run_of_7e76995")
LOGS = ("metrics.jsonl", "evaluations.jsonl")
INTERRUPTED = 75


def run(checkout: Path, directory: Path, fault: str = "") -> int:
    faults = checkout / "tests" / "faults"
    environment = os.environ | {
        "QAMX_FAULT": fault,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(checkout), str(faults)]),
    }
    command = ["run", str(faults / "corner.toml"), "--out", str(directory)]
    changes = ["--set", "checkpoint.keep=1"]
    return subprocess.run(
        [sys.executable, "-m", "qamx", *command, *changes], env=environment, cwd=directory.parent
    ).returncode


def main(checkout: Path) -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    with tempfile.TemporaryDirectory() as name:
        stopped, whole = Path(name) / "stopped", Path(name) / "whole"
        assert run(checkout, stopped, "SIGTERM@63") == INTERRUPTED
        assert run(checkout, whole) == 0
        shutil.copytree(stopped, FOLDER / "stopped", ignore=shutil.ignore_patterns("lock*"))
        for log in LOGS:
            shutil.copy(whole / log, FOLDER)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
