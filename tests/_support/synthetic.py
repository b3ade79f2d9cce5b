"""Folders of runs that were never trained, with the success rates that a test gives them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import beta

from qamx.tools.results.published_results import EPISODES, SEEDS, Published
from qamx.tools.results.statistics import indices, interval

CONFIG = """\
name = "{name}"
seed = {seed}

[environment]
id = "{domain}"
task = {task}

[agent]
method = "{method}"

[schedule]
kind = "offline_to_online"
offline_steps = {offline}
online_steps = {online}

[evaluation]
episodes = 50
"""


def write_run(
    folder: Path,
    success: Mapping[int, float],
    *,
    method: str = "qam",
    domain: str = "cube-double-play",
    task: int = 1,
    seed: int = 10001,
    name: str = "c2",
    offline: int = 1_000_000,
    online: int = 500_000,
) -> Path:
    """A run with a success rate at each step."""
    folder.mkdir(parents=True)
    text = CONFIG.format(
        name=name,
        seed=seed,
        domain=domain,
        task=task,
        method=method,
        offline=offline,
        online=online,
    )
    (folder / "config.toml").write_text(text)
    rows = (
        {"step": step, "phase": "offline" if step <= offline else "online", "success": rate}
        for step, rate in success.items()
    )
    (folder / "evaluations.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def write_seeds(
    folder: Path, rates: Sequence[Mapping[int, float]], method: str, domain: str, task: int
) -> None:
    """A run for each entry of `rates`, with seeds 10001, 20002, ..."""
    for index, success in enumerate(rates, start=1):
        place = folder / f"{method}-{domain}-task{task}-seed{index}"
        write_run(place, success, method=method, domain=domain, task=task, seed=10001 * index)


def seeds_like(figure: Published, name: str, tolerance: float = 0.004) -> np.ndarray:
    """Success rates of twelve seeds whose mean and bootstrap interval are the published ones.

    **Arguments:** `name` is what the report seeds the resamples of this method and task with;
    the interval's ends are met within `tolerance` where that can be done, or else as nearly as
    the search comes.
    """
    draws = indices(name, SEEDS)

    def error(won: np.ndarray) -> float:
        low, high = interval((won / EPISODES)[draws].mean(axis=-1))
        return float(max(abs(low - figure.low), abs(high - figure.high)))

    rng = np.random.default_rng(0)
    won = _beta(figure)
    best = error(won)
    for _ in range(3_000):
        if best <= tolerance:
            break
        giver, taker = rng.choice(SEEDS, 2, replace=False)
        amount = rng.integers(1, 1 + max(1, min(won[giver], EPISODES - won[taker])))
        changed = won.copy()
        changed[giver] -= amount
        changed[taker] += amount
        if changed.min() >= 0 and changed.max() <= EPISODES and (new := error(changed)) < best:
            won, best = changed, new
    return won / EPISODES


def _beta(figure: Published) -> np.ndarray:
    """Whole episodes won, with the published mean exactly and its spread by a beta law."""
    total = round(figure.mean * SEEDS * EPISODES)
    if total in (0, SEEDS * EPISODES):
        return np.full(SEEDS, total // SEEDS)
    mean = figure.mean
    variance = SEEDS * ((figure.high - figure.low) / 3.92) ** 2
    weight = max(mean * (1 - mean) / max(variance, 1e-6) - 1, 0.05)
    levels = (np.arange(SEEDS) + 0.5) / SEEDS
    won = np.round(EPISODES * beta.ppf(levels, mean * weight, (1 - mean) * weight)).astype(int)
    while won.sum() != total:
        step = int(np.sign(total - won.sum()))
        free = np.flatnonzero((won + step >= 0) & (won + step <= EPISODES))
        won[free[len(free) // 2]] += step
    return won
