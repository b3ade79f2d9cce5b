"""What training waits for its shards, and the memory that they take.

    python benchmarks/shards.py --shards 20 --episodes 1000 --folder FOLDER

Generates a few episodes of cube-quadruple-play, makes shards of episodes drawn from them (kept in
the folder for the next time), and trains a small QAM agent on all of them in turn, offline: from
npz files with and without a shard ahead, and from the memory-mapped cache.
"""

import argparse
import contextlib
import io
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from qamx import build
from qamx.config import load
from qamx.data.ogbench.generate import generate
from qamx.data.ogbench.rollout import write_archive
from qamx.data.shards import FOLDER
from qamx.training.logs import Logs
from qamx.training.loop import Runner
from qamx.training.seed_group import SeedRun

NAME, STEPS, DRAWN_FROM = "cube-quadruple-play", 1001, 8
SMALL = ("actor_hidden=[64, 64]", "critic_hidden=[64, 64]", "ensemble_size=2", "flow_steps=5")


def make_shards(folder: Path, shards: int, episodes: int) -> None:
    """Shards of `episodes` episodes each, drawn with repetition from a few generated ones."""
    generate(NAME, episodes=DRAWN_FROM, directory=folder)
    with np.load(folder / f"{NAME}-v0.npz") as file:
        arrays = {k: file[k].reshape(DRAWN_FROM, STEPS, *file[k].shape[1:]) for k in file.files}
    (folder / f"{NAME}-100m-v0").mkdir(exist_ok=True)
    for shard in range(shards):
        path = folder / f"{NAME}-100m-v0" / f"{NAME}-v0-{shard:03d}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng(shard)
        picked = rng.integers(0, DRAWN_FROM, episodes)
        table = {k: a[picked].reshape(episodes * STEPS, *a.shape[2:]) for k, a in arrays.items()}
        # As hard to compress as data that does not repeat.
        noise = rng.normal(0, 1e-3, table["observations"].shape)
        table["observations"] = (table["observations"] + noise).astype(np.float32)
        write_archive(path, table, {"shard": shard, "episodes": episodes})


def resident() -> float:
    """MiB of memory that this process has of its own (mapped files do not count)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise OSError("this system does not say what memory a process has")


def _nothing(updates: int) -> None:
    """Has no shard made ready."""


def measure(arguments: argparse.Namespace, cached: bool, ahead: bool) -> dict[str, float]:
    """One pass over all shards: seconds and MiB."""
    total = arguments.shards * arguments.updates
    changes = [
        f"data.directory={arguments.folder}",
        f"data.updates_per_shard={arguments.updates}",
        f"data.shards={arguments.shards}",
        f"data.cache={str(cached).lower()}",
        *(f"agent.{change}" for change in SMALL),
        *("schedule.kind=offline", f"schedule.offline_steps={total}", "evaluation.episodes=1"),
        *(f"{section}.every={total}" for section in ("evaluation", "checkpoint", "logging")),
        "evaluation.environments=1",
    ]
    plan = build(load("experiments/c4_qam.toml", changes))
    waits: list[float] = []
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        runner = Runner([SeedRun(plan, Path(folder), Logs(Path(folder)))])
        runner.training = runner._trainer.run(runner.training, runner.replay, 1)  # compiles
        shards = runner._shards
        swap, prepare = shards.swap, shards.prepare

        def timed(updates: int) -> Any:
            began = time.perf_counter()
            try:
                return swap(updates)
            finally:
                waits.append(time.perf_counter() - began)
                memory.append(resident())

        shards.swap, shards.prepare = timed, prepare if ahead else _nothing
        began = time.perf_counter()
        runner.run()
        whole = time.perf_counter() - began
    return {
        "update, ms": 1e3 * (whole - sum(waits)) / total,
        "wait, median ms": 1e3 * float(np.median(waits)),
        "wait, longest ms": 1e3 * max(waits),
        "waiting": sum(waits) / whole,
        "MiB, 2nd shard": memory[0],
        "MiB, last": memory[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--episodes", type=int, default=100, help="of 1,000 transitions, a shard")
    parser.add_argument("--updates", type=int, default=1000, help="on each shard")
    parser.add_argument("--folder", type=Path, default=Path("data/shards"))
    arguments = parser.parse_args()
    make_shards(arguments.folder, arguments.shards, arguments.episodes)
    kept = arguments.folder / f"{NAME}-100m-v0" / FOLDER
    shutil.rmtree(kept, ignore_errors=True)
    rows = {
        "npz, none ahead": measure(arguments, cached=False, ahead=False),
        "npz": measure(arguments, cached=False, ahead=True),
        "cache, made now": measure(arguments, cached=True, ahead=True),
        "cache": measure(arguments, cached=True, ahead=True),
    }
    names = list(next(iter(rows.values())))
    print(f"{'':<18}" + "".join(f"{name:>18}" for name in names))
    for label, row in rows.items():
        print(f"{label:<18}" + "".join(f"{row[name]:>18.3f}" for name in names))


if __name__ == "__main__":
    main()
