"""`qamx verify-resume`: compares a run that is killed (SIGKILL) and resumed with a whole one."""

import contextlib
import io
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qamx._utils.backend import check_jax
from qamx._utils.terminal import print_table
from qamx.config import Experiment, load
from qamx.errors import ExitCode, RunError, UserError
from qamx.provenance import read
from qamx.running import build
from qamx.tools.diff import first_difference
from qamx.training.checkpoint import to_host
from qamx.training.logs import Logs, last_row
from qamx.training.loop import Runner
from qamx.training.plan import RunPlan
from qamx.training.seed_group import SeedRun

STEPS, WARMUP, SAVE_EVERY, EVALUATE_EVERY = 120, 10, 15, 60
"""The short version's steps of a phase, of warm-up, and between checkpoints and evaluations."""

LATEST = 0.75
"""The share of a phase before which kills are drawn, so that none comes after its end."""

TOLERANCE = 1e-3
"""Relative and absolute tolerance on a device that is not bitwise reproducible."""

POLL_SECONDS = 0.002


def verify_resume(file: Path, overrides: Sequence[str], seed: int | None, kills: int) -> int:
    """Runs, kills, resumes and compares; prints the comparison; returns 0 if all is equal.

    **Arguments:** `overrides` and `seed` as in `qamx run`; the seed also determines when the run
    is killed. Kills take the phases in turn.

    **Raises:** `UserError` for a mistake in the file; `RunError` if a run ends in any other way.
    """
    if kills < 1:
        raise UserError(f"--kills: found {kills}; write a positive integer, e.g. 4")
    check_jax()
    changes = [*_shortened(load(file, overrides, seed)), *overrides]
    experiment = load(file, changes, seed)
    plan = build(experiment)
    folder = Path(tempfile.mkdtemp(prefix="qamx-verify-resume-"))
    command = [sys.executable, "-m", "qamx", "run", str(file), "--set", *changes]
    command += ["--seed", str(experiment.seed)]
    phases = ", ".join(f"{phase.steps} {phase.name} steps" for phase in plan.schedule.phases)
    print(f"{file}: {phases}, a checkpoint every {experiment.checkpoint.every}", flush=True)
    runs = folder / "whole", folder / "killed"
    _finish(command, runs[0])
    killed = _kill(command, runs[1], _kill_steps(plan, kills, experiment.seed), plan)
    _finish(command, runs[1])
    if not killed:
        raise RunError("no kill came before the run's end; choose another --seed or more --kills")
    if _compare(plan, runs):
        print(f"resumes exactly: survived {killed} of {killed} kills")
        shutil.rmtree(folder)
        return 0
    print(f"does not resume exactly; both runs are in {folder}")
    return 1


def _shortened(experiment: Experiment) -> list[str]:
    """The overrides of the short version."""
    steps = {"cloning_steps": STEPS, "offline_steps": STEPS, "online_steps": STEPS}
    limits = {
        "schedule": steps | {"online_warmup": WARMUP},
        "data": {"updates_per_shard": SAVE_EVERY * 2},
        "evaluation": {"every": EVALUATE_EVERY, "episodes": 2},
        "checkpoint": {"every": SAVE_EVERY},
        "logging": {"every": 1},
    }
    sections = experiment.to_dict()
    return [
        f"{section}.{key}={min(limit, sections[section][key])}"
        for section, keys in limits.items()
        for key, limit in keys.items()
        if sections[section].get(key) is not None
    ] + ["logging.wandb=disabled"]


def _kill_steps(plan: RunPlan, kills: int, seed: int) -> list[int]:
    """The sorted steps of the kills: random, the phases in turn."""
    draw, phases = random.Random(seed), plan.schedule.phases
    steps = []
    for kill in range(kills):
        index = kill % len(phases)
        inside = draw.uniform(0, LATEST) * phases[index].steps
        steps.append(plan.schedule.start(index) + 1 + int(inside))
    return sorted(steps)


def _start(command: list[str], directory: Path, errors: Any) -> "subprocess.Popen[bytes]":
    words = [*command, "--out", str(directory)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=errors)


def _finish(command: list[str], directory: Path) -> None:
    """Runs to the end."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        code = _start(command, directory, errors).wait()
        _expect(code == ExitCode.DONE, code, errors)
    print(f"{directory.name}: done, {time.monotonic() - began:.0f} s", flush=True)


def _kill(command: list[str], directory: Path, steps: list[int], plan: RunPlan) -> int:
    """Resumes a run repeatedly, and kills it after each of the steps; returns the kills."""
    draw, killed = random.Random(plan.seed), 0
    for number, kill_step in enumerate(steps, start=1):
        # Rows from before the kill stay until the run is restored: wait for a step beyond them.
        target = max(kill_step, _last_step(directory) + 1)
        with tempfile.TemporaryFile() as errors:
            process = _start(command, directory, errors)
            try:
                while process.poll() is None and _last_step(directory) < target:
                    time.sleep(POLL_SECONDS)
                time.sleep(draw.uniform(0, 10 * POLL_SECONDS))
            finally:
                process.kill()
            code = process.wait()
            _expect(code in (ExitCode.DONE, -signal.SIGKILL), code, errors)
        step = _last_step(directory)
        if code == ExitCode.DONE:
            print(f"kill {number} of {len(steps)}: came after the end", flush=True)
            continue
        killed += 1
        phase = plan.schedule.phase_at(step).name
        print(f"kill {number} of {len(steps)}: {phase}, after step {step}", flush=True)
    return killed


def _last_step(directory: Path) -> int:
    """The step of the last whole row of metrics."""
    return last_row(directory / "metrics.jsonl").get("step", 0)


def _expect(holds: bool, code: int, errors: Any) -> None:
    if holds:
        return
    errors.seek(0)
    text = errors.read().decode(errors="replace").strip()
    if code == ExitCode.USER_ERROR:
        raise UserError(text)
    raise RunError(f"a run ended with exit status {code}:\n{text[-4000:]}")


@dataclass(frozen=True)
class Compared:
    """A compared part: its name, size and fault (empty if equal)."""

    name: str
    count: str
    fault: str


def _compare(plan: RunPlan, runs: tuple[Path, Path]) -> bool:
    exact = read(runs[0])["starts"][-1]["device"]["backend"] == "cpu"
    kind = "bitwise" if exact else f"within {TOLERANCE:g} absolute and relative (not on a CPU)"
    whole, killed = (_state(plan, run) for run in runs)
    tolerance = 0.0 if exact else TOLERANCE
    parts = [_compare_arrays(name, whole[name], killed[name], tolerance) for name in whole]
    parts += [_compare_rows(name, runs, exact) for name in ("metrics", "evaluations")]
    rows = [(part.name, part.count, part.fault or "equal") for part in parts]
    print_table(f"compared {kind}", ("", "", ""), rows)
    return not any(part.fault for part in parts)


def _state(plan: RunPlan, directory: Path) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of a finished run, restored from its last checkpoint."""
    with contextlib.redirect_stdout(io.StringIO()):
        logs = Logs(directory)
        runner = Runner([SeedRun(plan, directory, logs)])
        code = runner.run()
        logs.close()
    if code != ExitCode.DONE:
        raise RunError(f"{directory}: stopped while it was read")
    training, replay = to_host(runner.training), to_host(runner.replay)
    return {"parameters, optimiser, keys": training, "replay": replay}


def _compare_arrays(
    name: str, whole: dict[str, np.ndarray], killed: dict[str, np.ndarray], tolerance: float
) -> Compared:
    differing = [key for key in whole if not _same(whole[key], killed[key], tolerance)]
    fault = f"{len(differing)} differ, the first {differing[0]}" if differing else ""
    entries = sum(array.size for array in whole.values())
    return Compared(name, f"{len(whole)} arrays, {entries:,} entries", fault)


def _same(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    if tolerance == 0.0 or a.shape != b.shape or a.dtype.kind != "f":
        return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())
    return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance))


def _compare_rows(name: str, runs: tuple[Path, Path], exact: bool) -> Compared:
    files = [run / f"{name}.jsonl" for run in runs]
    whole, killed = (file.read_text(encoding="utf-8").splitlines() for file in files)
    count, fault = f"{len(whole)} rows", ""
    if exact and whole != killed:
        first = first_difference(*files)
        place = f"from step {first.step:,} on: {first.keys[0]}" if first else "in their text"
        fault = f"differ {place}"
    elif len(whole) != len(killed):
        fault = f"{len(whole)} rows and {len(killed)}"
    elif not exact:
        pairs = zip(map(json.loads, whole), map(json.loads, killed), strict=True)
        far = [row["step"] for row, resumed in pairs if not _near(row, resumed)]
        fault = f"differ from step {far[0]} on" if far else ""
    return Compared(name, count, fault)


def _near(row: dict[str, Any], resumed: dict[str, Any]) -> bool:
    return row.keys() == resumed.keys() and all(
        row[key] == resumed[key]
        if isinstance(row[key], str)
        else np.isclose(row[key], resumed[key], TOLERANCE, TOLERANCE)
        for key in row
    )
