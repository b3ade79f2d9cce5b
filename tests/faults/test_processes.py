"""Faults of whole processes: SIGKILL, a scheduler's signals, two runs in one directory."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from corner import SECONDS, simulators
from processes import END, HERE, arguments, assert_same, command, environment, outcome, qamx

from qamx.cli import main
from qamx.errors import ExitCode, UserError
from qamx.training.guards import locked


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)  # its plugin
        assert main(arguments(directory)) == ExitCode.DONE
    return outcome(directory)


def continue_and_compare(directory, expected):
    ended = qamx(directory)
    assert ended.returncode == ExitCode.DONE, ended.stderr
    assert_same(outcome(directory), expected)


def test_a_kill_inside_a_save_is_survived(expected, tmp_path):
    assert qamx(tmp_path, "manifest@70").returncode == -signal.SIGKILL
    assert list((tmp_path / "checkpoints").glob("*.partial"))
    continue_and_compare(tmp_path, expected)


@pytest.mark.faults
@pytest.mark.parametrize(
    "fault",
    [
        "step@3",  # before the first checkpoint
        "step@14",  # cloning
        "step@20",  # its end
        "step@37",  # offline
        "step@50",  # its end
        "step@53",  # warm-up
        "step@64",  # mid-chunk
        "step@78",  # mid-episode
        "evaluation@25",
        "evaluation@75",
        "rows@70",
        "manifest@20",
        "commit@50",
        "commit@90",
    ],
)
def test_a_kill_is_survived(expected, tmp_path, fault):
    assert qamx(tmp_path, fault).returncode == -signal.SIGKILL
    continue_and_compare(tmp_path, expected)


WARNINGS = [pytest.param(name, marks=pytest.mark.faults) for name in ("SIGUSR1", "SIGUSR2")]


@pytest.mark.parametrize("name", ["SIGTERM", *WARNINGS])
def test_a_scheduler_gets_a_checkpoint_and_the_resumable_code(expected, tmp_path, name):
    assert qamx(tmp_path, f"{name}@63").returncode == ExitCode.INTERRUPTED
    assert (tmp_path / "checkpoints" / "63").is_dir()
    continue_and_compare(tmp_path, expected)


def test_a_run_folder_of_an_earlier_version_is_continued_to_its_end(tmp_path):
    """A run of commit 7e76995, stopped in an online episode, brings what it would have brought."""
    fixture, directory = HERE.parent / "data" / "run_of_7e76995", tmp_path / "run"
    shutil.copytree(fixture / "stopped", directory)
    ended = qamx(directory)
    assert ended.returncode == ExitCode.DONE, ended.stderr
    names = {path.name for path in (fixture / "stopped").iterdir()} | {"lock", "lock.json"}
    assert {path.name for path in directory.iterdir()} == names
    assert (directory / "checkpoints" / str(END) / "manifest.json").is_file()
    for log in ("metrics.jsonl", "evaluations.jsonl"):
        kept = (fixture / "stopped" / log).read_bytes()
        assert (directory / log).read_bytes().startswith(kept)
        expected, rows = (
            [json.loads(line) for line in (folder / log).read_text().splitlines()]
            for folder in (fixture, directory)
        )
        assert [row.keys() for row in rows] == [row.keys() for row in expected]
        for row, other in zip(rows, expected, strict=True):
            # Processors round differently, and 37 updates carry that on; one processor does not.
            assert row == {
                key: pytest.approx(value, rel=1e-2, abs=1e-3) if isinstance(value, float) else value
                for key, value in other.items()
            }


@pytest.mark.faults
def test_a_second_process_is_refused_and_a_dead_one_is_not(expected, tmp_path):
    with subprocess.Popen(
        command(tmp_path), env=environment(progress=True), stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        next(line for line in first.stdout if line.startswith("at "))
        first.send_signal(signal.SIGSTOP)
        second = qamx(tmp_path)
        first.kill()
    assert second.returncode == ExitCode.USER_ERROR
    assert f"pid {first.pid} on " in second.stderr
    assert json.loads((tmp_path / "lock.json").read_text())["pid"] == first.pid
    continue_and_compare(tmp_path, expected)


def test_a_directory_is_locked_while_its_holder_lives(tmp_path):
    hold = "import sys, time, pathlib; from qamx.training.guards import locked\n"
    hold += "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        message = f"pid {holder.pid} on {socket.gethostname()}"
        with pytest.raises(UserError, match=message), locked(tmp_path):
            pass
        holder.kill()
    with locked(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()


ENDS = [
    ("", 0, ExitCode.DONE),
    ("raise@60", 0, ExitCode.FAILED),
    ("hang@60", 0, ExitCode.FAILED),
    ("SIGTERM@63", 0, ExitCode.INTERRUPTED),
    ("SIGTERM@63", 2, ExitCode.INTERRUPTED),
    ("SIGINT@63", 0, ExitCode.INTERRUPTED),
    ("step@63", 1, -signal.SIGKILL),
    ("step@63", "auto", -signal.SIGKILL),
]


@pytest.mark.faults
@pytest.mark.parametrize(("fault", "workers", "code"), ENDS)
def test_no_simulator_outlives_a_run(tmp_path, monkeypatch, fault, workers, code):
    monkeypatch.setenv(SECONDS, f"4000.{secrets.randbelow(10**9):09}")
    workers = f'"{workers}"' if workers == "auto" else workers
    ended = qamx(tmp_path, fault, f"evaluation.workers={workers}")
    assert ended.returncode == code, ended.stderr
    deadline = time.monotonic() + (20.0 if code < 0 else 0.0)
    while (left := simulators()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == set()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("nan@0", ExitCode.FAILED, "not finite"),
        ("raise@60", ExitCode.FAILED, "reset seed"),
        ("hang@60", ExitCode.FAILED, "did not answer for 2 s"),
    ],
)
def test_a_failed_run_has_its_own_code_and_one_message(tmp_path, fault, code, said):
    ended = qamx(tmp_path, fault)
    assert ended.returncode == code
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
