"""Runs a suite, a few runs at a time, and prints its table of success rates.

    python studies/suite_table.py experiments/suites/quickstart.toml --jobs 2

A run that is complete is not run again, and one that was interrupted goes on.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from qamx.building import build_schedule
from qamx.config import load_suite
from qamx.config.suite import SuiteRun

RESAMPLES = 5_000


def carry_out(run: SuiteRun, folder: Path, cache: Path) -> int:
    """`qamx run` for one run of the suite, unless it is complete; what it prints goes beside it."""
    last = last_evaluation(run, folder)
    if last is not None and last["step"] == last_step(run):
        return 0
    seed = ("--seed", str(run.seed), "--out", str(folder / run.name))
    command = [sys.executable, "-m", "qamx", "run", str(run.file), *seed]
    command += ["--set", *run.overrides] if run.overrides else []
    # Runs that differ in the seed alone share their compiled programs.
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{run.name}.log").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=log, env=environment).returncode
    print(f"{'done' if code == 0 else f'exit {code}'}  {run.name}", file=sys.stderr, flush=True)
    return code


def last_step(run: SuiteRun) -> int:
    """The step at which a run is complete."""
    return build_schedule(run.load().schedule).steps


def last_evaluation(run: SuiteRun, folder: Path) -> dict[str, Any] | None:
    """The last row of a run's evaluations, if it has one."""
    path = folder / run.name / "evaluations.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1]) if lines else None


def interval(values: list[float]) -> tuple[float, float]:
    """The 95% bootstrap interval of the mean over seeds."""
    draws = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    low, high = np.percentile(draws.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def table(runs: tuple[SuiteRun, ...], folder: Path) -> str:
    """A Markdown table: a row an experiment, the mean over seeds and its interval."""
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        row = last_evaluation(run, folder)
        if row is not None:
            results[run.load().agent.method].append(row)
    lines = ["| method | success | 95% interval | seeds |", "|---|---|---|---|"]
    means = {name: np.mean([row["success"] for row in rows]) for name, rows in results.items()}
    for name in sorted(results, key=lambda name: -means[name]):
        lines.append(_row(f"`{name}`", [row["success"] for row in results[name]]))
    rows = (row for rows in results.values() for row in rows)
    clones = [row["behaviour_success"] for row in rows if "behaviour_success" in row]
    if clones:
        lines.append(_row("behaviour cloning", clones))
    return "\n".join(lines)


def _row(name: str, success: list[float]) -> str:
    low, high = interval(success)
    return f"| {name} | {np.mean(success):.0%} | {low:.0%} to {high:.0%} | {len(success)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs a suite and prints its table.")
    parser.add_argument("suite", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/suite"), help="the runs' folder")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these of the suite's seeds")
    arguments = parser.parse_args()
    runs = load_suite(arguments.suite).runs()
    if arguments.seeds:
        runs = tuple(run for run in runs if run.seed in arguments.seeds)
    # All experiments with one seed before the next: an early table compares like with like.
    runs = tuple(sorted(runs, key=lambda run: run.seed))
    cache = arguments.out.absolute() / "compiled"
    with ThreadPoolExecutor(arguments.jobs) as pool:
        codes = list(pool.map(lambda run: carry_out(run, arguments.out, cache), runs))
    print(table(runs, arguments.out))
    sys.exit(int(any(codes)))


if __name__ == "__main__":
    main()
