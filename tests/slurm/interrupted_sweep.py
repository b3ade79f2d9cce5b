"""A sweep of six runs on a real Slurm, interrupted in every way, ends as an uninterrupted one.

    python tests/slurm/interrupted_sweep.py

starts a Slurm of one node and, on it, `qamx sweep --on slurm`: three jobs of two processes. The
first job gets the signal that Slurm sends near a time limit, the second is requeued from outside,
in the third a process is killed, after which the same command submits it again. Metrics and
evaluations of all six runs must then be those of a sweep that nothing interrupts, bit for bit.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from one_node import lacking, one_node

HERE = Path(__file__).parent
LIMIT_SECONDS = 900.0


def main() -> int:
    if said := lacking():
        print(f"a Slurm cannot be started here: {said}", file=sys.stderr)
        return 1
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory(prefix="qamx-slurm-") as name:
        folder = Path(name)
        (folder / "node").mkdir()
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache")
        os.environ["QAMX_DATA"] = str(folder / "data")
        whole, interrupted = folder / "whole", folder / "interrupted"
        assert sweep(whole, "--jobs", "2").returncode == 0
        with one_node(folder / "node"):
            interrupt(interrupted)
        compare(whole, interrupted)
    return 0


def sweep(out: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """One `qamx sweep`, whose output is shown."""
    command = [sys.executable, "-m", "qamx", "sweep", str(HERE / "suite.toml"), "--out", str(out)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    print(done.stdout + done.stderr, end="", flush=True)
    return done


def interrupt(out: Path) -> None:
    """Submits the sweep, interrupts each of its jobs, and carries it to its end."""
    submit = "--on", "slurm", "--cluster", str(HERE / "cluster.toml")
    assert sweep(out, *submit).returncode == 0
    first, second, third = jobs(out)
    again = sweep(out, *submit)
    assert "6 in Slurm's queue" in again.stdout

    wait_for(lambda: progressed(out, first), f"job {first}")
    tell("scancel", "--signal=USR2", first)
    wait_for(lambda: restarts(first) == 1, f"the requeue of job {first}")
    hurry(first)

    wait_for(lambda: progressed(out, second), f"job {second}")
    tell("scontrol", "requeue", second)
    wait_for(lambda: restarts(second) == 1, f"the requeue of job {second}")
    hurry(second)

    wait_for(lambda: progressed(out, third), f"job {third}")
    kill_one_process(out, third)
    wait_for(lambda: not queued(), "the jobs' end")
    states = {run["run"]: run["state"] for run in status(out)}
    assert sorted(states.values()) == ["complete"] * 5 + ["failed"], states

    assert sweep(out, *submit).returncode == 0
    wait_for(lambda: not queued(), "the last job's end")
    assert {run["state"] for run in status(out)} == {"complete"}
    assert "6 complete" in sweep(out, *submit).stdout


def compare(whole: Path, interrupted: Path) -> None:
    """Metrics and evaluations, byte by byte; and that the runs were continued, not begun anew."""
    names = sorted(path.parent.name for path in whole.glob("*/metrics.jsonl"))
    assert len(names) == 6
    for name in names:
        for file in ("metrics.jsonl", "evaluations.jsonl"):
            one, other = ((run / name / file).read_bytes() for run in (whole, interrupted))
            assert one, f"{name}/{file}: empty"
            assert one == other, f"{name}/{file}: differs"
    starts = {
        name: len(json.loads((interrupted / name / "passport.json").read_bytes())["starts"])
        for name in names
    }
    assert sum(count > 1 for count in starts.values()) >= 4, starts
    print(f"equal, bit for bit: {len(names)} runs, started {starts}")


# --- what is asked of Slurm and of the runs ---


def jobs(out: Path) -> list[str]:
    """The jobs of the sweep."""
    plan = json.loads((out / "_sweep" / "plan.json").read_bytes())
    return list(dict.fromkeys(entry["job"] for entry in plan.values()))


def runs_of(out: Path, job: str) -> list[str]:
    plan = json.loads((out / "_sweep" / "plan.json").read_bytes())
    return [name for name, entry in plan.items() if entry["job"] == job]


def progressed(out: Path, job: str) -> bool:
    """Whether a job's runs all work, have saved something, and have some way to go."""
    found = {run["run"]: run for run in status(out)}
    mine = [found[name] for name in runs_of(out, job)]
    assert not all(run["state"] == "complete" for run in mine), "the runs are too short"
    return all(run["state"] == "running" and run["step"] >= 1_000 for run in mine)


def status(out: Path) -> list[dict]:
    done = tell(sys.executable, "-m", "qamx", "status", str(out), "--json")
    return json.loads(done)


def restarts(job: str) -> int:
    """How often Slurm has requeued a job."""
    said = tell("scontrol", "show", "job", job)
    return int(said.partition("Restarts=")[2].split()[0])


def hurry(job: str) -> None:
    """A requeued job waits two minutes by default; this test does not."""
    wait_for(lambda: "JobState=PENDING" in tell("scontrol", "show", "job", job), f"job {job}")
    tell("scontrol", "update", f"JobId={job}", "StartTime=now")


def kill_one_process(out: Path, job: str) -> None:
    """SIGKILL for a process of a job, which no program can answer."""
    holder = json.loads((out / runs_of(out, job)[0] / "lock.json").read_bytes())
    os.kill(holder["pid"], signal.SIGKILL)


def queued() -> bool:
    return bool(tell("squeue", "--noheader").strip())


def tell(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.5)
    print(f"{what}: seen", flush=True)


if __name__ == "__main__":
    sys.exit(main())
