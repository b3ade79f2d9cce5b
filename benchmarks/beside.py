"""Two programs side by side: an update, its compilation, seeds together, a run of one update.

    python benchmarks/beside.py BEFORE AFTER --size quickstart --method qam --rounds 7 --seeds 4
    python benchmarks/beside.py BEFORE AFTER --start --rounds 3
    python benchmarks/beside.py RELEASE . --python PYTHON --size quickstart --rounds 7

`BEFORE` and `AFTER` are checkouts of qamx; `BEFORE` may also be a clone of the authors' release
(https://github.com/ColinQiyangLi/qam), `PYTHON` then being the interpreter of an environment with
what that needs. Each round starts one process of each side, in turn. Printed are each side's
median, and the median and range of the rounds' ratios, BEFORE over AFTER: above 1, AFTER is
faster. `--start` times a process from its imports to the end of its first update instead, without
programs kept from before (`cold`) and with them (`warm`).
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
from functools import partial
from pathlib import Path

from qamx.config.agents import QAMEditSettings, QAMSettings
from qamx.tools.bench_measure import SIZES, settings_of

UPDATE, FIRST = "update, ms", "trace and compile, s"

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
    figures = {UPDATE: result["update_ms"], FIRST: result["trace_s"] + result["compile_s"]}
    for each in result["together"]:
        figures[f"update of {each['seeds']} seeds, ms"] = (
            1e3 * each["seeds"] / each["updates_per_second"]
        )
    return figures


def bench_release(release: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """The same of the authors' release."""
    size, method = (
        SIZES[arguments.size],
        settings_of(arguments.method, **SIZES[arguments.size].agent),
    )
    assert isinstance(method, QAMSettings | QAMEditSettings)
    edits = isinstance(method, QAMEditSettings)
    settings = {
        "horizon_length": method.horizon,
        "action_chunking": True,
        "batch_size": method.batch_size,
        "num_qs": method.ensemble_size,
        "flow_steps": method.flow_steps,
        "actor_hidden_dims": method.actor_hidden,
        "value_hidden_dims": method.critic_hidden,
        "edit_scale": method.edit_scale if edits else 0.0,
    }
    words = {
        "observation": size.observation,
        "action": size.action,
        "updates": size.updates,
        "settings": settings,
    }
    script = Path(__file__).with_name("authors_update.py")
    command = [str(arguments.python), str(script), str(release), json.dumps(words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    return {UPDATE: result["update_ms"], FIRST: result["first_s"]}


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
    for name in rounds[0][0]:  # a release has no seeds together
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
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--data", type=Path, default=Path("data/quickstart"))
    arguments = parser.parse_args()
    measure = start if arguments.start else bench
    measure_before = measure if (arguments.before / "qamx").is_dir() else bench_release
    rounds = []
    for number in range(arguments.rounds):
        before, after = (
            partial(measure_before, arguments.before.resolve(), arguments),
            partial(measure, arguments.after.resolve(), arguments),
        )
        if number % 2:  # neither side always goes first
            later = after()
            rounds.append((before(), later))
        else:
            rounds.append((before(), after()))
    print(f"{'':32} {'before':>9} {'after':>9}   before / after")
    report(rounds)


if __name__ == "__main__":
    main()
