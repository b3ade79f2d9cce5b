"""Two checkouts side by side: an update, its compilation, seeds together, a run of one update.

    python benchmarks/beside.py BEFORE AFTER --size quickstart --method qam --rounds 7 --seeds 4
    python benchmarks/beside.py BEFORE AFTER --start --rounds 3

Each round starts one process in each checkout, in turn, with this interpreter. Printed are each
side's median, and the median and range of the rounds' ratios, BEFORE over AFTER: above 1, AFTER
is faster. `--start` times a process from its imports to the end of its first update instead,
without programs kept from before (`cold`) and with them (`warm`).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

FIELDS = {"update_ms": "update, ms", "trace_s": "trace, s", "compile_s": "compile, s"}

START = [
    "run",
    "experiments/quickstart.toml",
    "--out",
    "{folder}/run",
    "--set",
    "data.directory={data}",
]
SHORT = {
    "data.directory": "{data}",
    "data.generate_episodes": "",
    "evaluation.workers": "0",
    "evaluation.episodes": "1",
    "evaluation.behaviour": "false",
    "evaluation.every": "1",
    "checkpoint.every": "1",
    "logging.every": "1",
    "schedule.kind": "offline",
    "schedule.offline_steps": "1",
    "schedule.online_steps": "",
    "schedule.online_warmup": "",
}
"""A run of one update."""


def qamx(checkout: Path, words: list[str], cache: Path) -> None:
    """Runs the command of a checkout, with a user's cache of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-m", "qamx", *words]
    subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)


def bench(checkout: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """What `qamx bench` of a checkout measures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.json"
        sizes = ["--size", arguments.size, "--precision", arguments.precision]
        seeds = ["--seeds", *arguments.seeds] if arguments.seeds else []
        words = ["bench", "--device", "cpu", *sizes, *seeds, "--rounds", "3", "--json", str(file)]
        qamx(checkout, [*words, "--method", arguments.method], Path(folder))
        (result,) = json.loads(file.read_text(encoding="utf-8"))["methods"]
    figures = {label: result[name] for name, label in FIELDS.items()}
    for each in result["together"]:
        figures[f"update of {each['seeds']} seeds, ms"] = (
            1e3 * each["seeds"] / each["updates_per_second"]
        )
    return figures


def start(checkout: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of two runs of one update: the first finds no program, the second those of it."""
    figures = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold", "warm"):
            with tempfile.TemporaryDirectory() as folder:
                places = {"folder": folder, "data": arguments.data.resolve()}
                words = [*START, *map("=".join, SHORT.items())]
                began = time.monotonic()
                qamx(checkout, [word.format(**places) for word in words], Path(cache))
                figures[f"a run of one update, {name}, s"] = time.monotonic() - began
    return figures


def report(rounds: list[tuple[Mapping[str, float], Mapping[str, float]]]) -> None:
    """Prints medians, and the median and range of the ratios."""
    for name in rounds[0][0]:
        before, after = ([side[name] for side in sides] for sides in zip(*rounds, strict=True))
        ratios = [old / new for old, new in zip(before, after, strict=True)]
        print(
            f"{name:32} {statistics.median(before):9.2f} {statistics.median(after):9.2f}   "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--size", default="quickstart")
    parser.add_argument("--method", default="qam")
    parser.add_argument("--precision", default="tf32")
    parser.add_argument("--seeds", nargs="*", default=["1"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--data", type=Path, default=Path("data/quickstart"))
    arguments = parser.parse_args()
    measure = start if arguments.start else bench
    rounds = []
    for number in range(arguments.rounds):
        sides = (arguments.before.resolve(), arguments.after.resolve())
        if number % 2:  # neither side always goes first
            later = measure(sides[1], arguments)
            rounds.append((measure(sides[0], arguments), later))
        else:
            rounds.append((measure(sides[0], arguments), measure(sides[1], arguments)))
    print(f"{'':32} {'before':>9} {'after':>9}   before / after")
    report(rounds)


if __name__ == "__main__":
    main()
