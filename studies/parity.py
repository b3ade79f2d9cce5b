"""Training beside the authors' release: a small QAM in a point maze, both programs, many seeds.

    python -m studies.parity train ours --tasks 5 1 --seeds 24
    python -m studies.parity train authors --tasks 5 1 --seeds 24 --release FOLDER --python PYTHON
    python -m studies.parity report
    python -m studies.parity train "slower targets" --tasks 1 --seeds 10
    python -m studies.parity steadiness

Both learn from one data set (`qamx data generate pointmaze-medium-navigate --episodes 200`), with
the same settings, and are evaluated by 25 episodes every 5,000 updates. `FOLDER` is a clone of
https://github.com/ColinQiyangLi/qam, `PYTHON` an environment with what it needs. Rows are appended
to `studies/parity.csv` as runs end; what is there already is not trained again. Other settings of
ours are trained under a name of `VARIANTS`, to see how often they lose what they have learned.
"""

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

HERE = Path(__file__).parent
RESULTS = HERE / "parity.csv"
SIDES = ("ours", "authors")
AUTHORS = ("agent.learning_rate=1e-3", "agent.target_rate=0.02")
"""What the release is given too; a variant may change it again."""
VARIANTS = {
    "ours": (),
    "lower learning rate": ("agent.learning_rate=3e-4",),
    "half the target rate": ("agent.target_rate=0.01",),
    "slower targets": ("agent.target_rate=0.005",),
    "four critics": ("agent.ensemble_size=4",),
    "larger batches": ("agent.batch_size=256",),
    "trust region": ("agent.method=trqam", "agent.inverse_temperature=", "agent.kl_budget=1.0"),
    "lower rate, slower targets": ("agent.learning_rate=5e-4", "agent.target_rate=0.01"),
}
"""What each variant changes in these settings."""
FIRST_SEED, UPDATES, EVERY = 101, 30_000, 5_000
REPORTED = (10_000, 15_000, 20_000, 30_000)
SOLVED, FALLEN, STEADY = 0.9, 0.5, 0.95
"""A seed has fallen if it reached the first success rate and is below the second later; from the
third on an evaluation is steady."""


class Row(NamedTuple):
    """One evaluation of one training."""

    side: str
    task: int
    seed: int
    updates: int
    success: float
    episode_return: float


def read(path: Path = RESULTS) -> list[Row]:
    """The rows of a results file, none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(side, int(task), int(seed), int(updates), float(success), float(episode_return))
            for side, task, seed, updates, success, episode_return in list(csv.reader(file))[1:]
        ]


def append(rows: Iterable[Row], path: Path = RESULTS) -> None:
    """Adds the rows of a training that has ended."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["side", "task", "seed", "updates", "success", "return"])
        writer.writerows(rows)


def train_ours(name: str, task: int, seed: int, data: Path, folder: Path) -> Iterator[Row]:
    """Rows of `qamx run quickstart`, with the study's phase, settings and a variant's changes."""
    changes = [
        *AUTHORS,
        *VARIANTS[name],
        f"environment.task={task}",
        f"data.directory={data}",
        "data.generate_episodes=",
        "schedule.kind=offline",
        f"schedule.offline_steps={UPDATES}",
        "schedule.online_steps=",
        "schedule.online_warmup=",
        "evaluation.workers=0",
        "evaluation.episodes=25",
        "evaluation.behaviour=false",
        f"evaluation.every={EVERY}",
    ]
    run = ["run", "quickstart", "--seed", str(seed), "--out", str(folder / "run")]
    subprocess.run([sys.executable, "-m", "qamx", *run, "--set", *changes], check=True)
    for line in (folder / "run" / "evaluations.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield Row(name, task, seed, row["step"], row["success"], row["return"])


def train_authors(
    task: int, seed: int, data: Path, folder: Path, release: Path, python: Path
) -> Iterator[Row]:
    """Rows of the release, driven by `studies/authors_qam.py`."""
    out = folder / "rows.csv"
    options = {"data": data, "task": task, "seed": seed, "updates": UPDATES, "every": EVERY}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    script = [str(python), str(HERE / "authors_qam.py"), str(release), *words, "--out", str(out)]
    subprocess.run(script, check=True)
    with out.open(newline="", encoding="utf-8") as file:
        for updates, success, episode_return in csv.reader(file):
            yield Row("authors", task, seed, int(updates), float(success), float(episode_return))


def train(arguments: argparse.Namespace) -> None:
    """Trains what the results lack, a seed at a time."""
    # One thread a process: two processes side by side are then twice as fast.
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    done = {(row.side, row.task, row.seed) for row in read()}
    for task in arguments.tasks:
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
            if (arguments.side, task, seed) in done:
                continue
            with tempfile.TemporaryDirectory() as folder:
                place = (task, seed, arguments.data.resolve(), Path(folder))
                if arguments.side == "authors":
                    append(list(train_authors(*place, arguments.release, arguments.python)))
                else:
                    append(list(train_ours(arguments.side, *place)))


def fell(success: np.ndarray) -> bool:
    """Whether one training's success rates, in order, fall after the task was solved."""
    solved = np.flatnonzero(success >= SOLVED)
    return bool(solved.size and (success[solved[0] :] < FALLEN).any())


def interval(values: np.ndarray) -> str:
    """Mean with its 95% bootstrap interval."""
    if np.ptp(values) == 0:
        return f"{values.mean():.4g}"
    found = stats.bootstrap((values,), np.mean, rng=np.random.default_rng(0))
    low, high = found.confidence_interval
    return f"{values.mean():.4g} [{low:.4g}, {high:.4g}]"


def report(rows: list[Row]) -> Iterator[str]:
    """Lines of a Markdown table: both programs, and the p of a rank-sum test on each result."""
    yield "| task | updates | seeds | success: qamx | authors | p | return: qamx | authors | p |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for task in sorted({row.task for row in rows}):
        for updates in REPORTED:
            at = [
                [r for r in rows if r[0] == s and r[1] == task and r[3] == updates] for s in SIDES
            ]
            if not all(at):
                continue
            counts = " and ".join(str(len(side)) for side in at)
            cells = [str(task), f"{updates:,}", counts]
            for entry in ("success", "episode_return"):
                ours, theirs = (np.array([getattr(r, entry) for r in side]) for side in at)
                p = stats.mannwhitneyu(ours, theirs).pvalue
                cells += [interval(ours), interval(theirs), f"{p:.2g}"]
            yield f"| {' | '.join(cells)} |"
    for task in sorted({row.task for row in rows}):
        yield ""
        yield f"Task {task}, seeds that fell after they had solved it: {_falls(rows, task)}."


def curves_of(rows: list[Row], side: str, task: int) -> list[np.ndarray]:
    """The success rates of each seed, in the order of updates."""
    own = sorted(row for row in rows if row.side == side and row.task == task)
    seeds = sorted({row.seed for row in own})
    return [np.array([row.success for row in own if row.seed == seed]) for seed in seeds]


def steadiness(rows: list[Row], task: int = 1) -> Iterator[str]:
    """Lines of a Markdown table: when each variant solves a task, and how steady it is then."""
    yield (
        f"| settings | seeds | solved after, updates | fallen | below {STEADY:.0%} once solved | "
        "lowest | seeds that end steady |"
    )
    yield "|---|---|---|---|---|---|---|"
    for name in VARIANTS:
        curves = curves_of(rows, name, task)
        solved = [curve for curve in curves if max(curve) >= SOLVED]
        if not solved:
            continue
        first = [int(np.argmax(curve >= SOLVED)) for curve in solved]
        later = np.concatenate([curve[at + 1 :] for curve, at in zip(solved, first, strict=True)])
        never = [math.inf] * (len(curves) - len(solved))
        when = EVERY * np.sort([*(at + 1 for at in first), *never])
        cells = (
            f"{when[(len(when) - 1) // 2]:,.0f} ({when[0]:,.0f} to {when[-1]:,.0f})",
            f"{sum(map(fell, solved))} of {len(solved)}",
            f"{(later < STEADY).sum()} of {later.size}",
            f"{later.min():.2f}",
            f"{sum(curve[-1] >= STEADY for curve in curves)} of {len(curves)}",
        )
        yield f"| {name} | {len(curves)} | {' | '.join(cells)} |".replace("inf", "never")


def _falls(rows: list[Row], task: int) -> str:
    parts, counts = [], []
    for side in SIDES:
        curves = curves_of(rows, side, task)
        fallen = sum(map(fell, curves))
        parts.append(f"{side} {fallen} of {len(curves)}")
        counts.append((fallen, len(curves) - fallen))
    return f"{' and '.join(parts)} (Fisher's exact test: p = {stats.fisher_exact(counts)[1]:.2g})"


def _print_table(table: Callable[[list[Row]], Iterator[str]], _: argparse.Namespace) -> None:
    print("\n".join(table(read())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("side", choices=(*VARIANTS, "authors"))
    training.add_argument("--tasks", type=int, nargs="+", default=[5, 1])
    training.add_argument("--seeds", type=int, default=24)
    training.add_argument("--data", type=Path, default=Path("data/quickstart"))
    training.add_argument("--release", type=Path)
    training.add_argument("--python", type=Path)
    training.set_defaults(handle=train)
    for name, table in (("report", report), ("steadiness", steadiness)):
        handle = partial(_print_table, table)
        commands.add_parser(name).set_defaults(handle=handle)
    arguments = parser.parse_args()
    arguments.handle(arguments)


if __name__ == "__main__":
    main()
