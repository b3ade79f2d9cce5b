"""The published figures that come with the package.

Sources: Li and Levine (2026), arXiv 2601.14234, and the successors' papers; `published/README.md`
describes the files.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SOURCE = "Li and Levine (2026), arXiv 2601.14234"

SEEDS = 12
"""Runs behind each number of that paper."""

EPISODES = 50
"""Episodes behind each run's success rate."""

TASKS = 5
"""Tasks of each domain."""

DOMAINS = (
    "antmaze-large-navigate",
    "antmaze-giant-navigate",
    "humanoidmaze-medium-navigate",
    "humanoidmaze-large-navigate",
    "scene-play",
    "puzzle-3x3-play",
    "puzzle-4x4-play",
    "cube-double-play",
    "cube-triple-play",
    "cube-quadruple-play",
)
"""The domains that `all` is the mean of."""

_VARIANTS = {
    "QAM-E-NOCLIP": "noclip",
    "QAM-E (K=2)": "K2",
    "QAM-E (T=1)": "T1",
    "QAM-E (T=3)": "T3",
    "QAM-E (T=20)": "T20",
    "QAM-E (T=30)": "T30",
    "QAM-E (0.1x tau)": "tau-x0.1",
    "QAM-E (0.3x tau)": "tau-x0.3",
    "QAM-E (3x tau)": "tau-x3",
    "QAM-E (10x tau)": "tau-x10",
}
"""Variants of `experiments/suites/sensitivity.toml` by their names in the paper."""


@dataclass(frozen=True)
class Published:
    """A published success rate: the mean over runs of `seeds`, and its 95% interval."""

    mean: float
    low: float
    high: float
    seeds: int = SEEDS
    source: str = SOURCE


@cache
def published() -> dict[tuple[str, str, int], Published]:
    """Every figure, by label, group and step.

    A group is a task (`cube-double-play task 2`), a domain, or `all`. The table of success rates
    takes precedence over the curves.
    """
    return {
        key: Published(
            *(float(row[column]) for column in ("success_mean", "ci95_low", "ci95_high")),
            seeds=int(row.get("seeds", SEEDS)),
            source=row.get("source", SOURCE),
        )
        for key, row in _rows()
        if row["ci95_low"]
    }


def without_interval(label: str, group: str) -> str | None:
    """A published figure that no test can use, in words; None if there is none."""
    for (method, name, step), row in _rows():
        if (method, name) == (label, group) and not row["ci95_low"]:
            return (
                f"published at {step:,} in other settings and without an interval: "
                f"{float(row['success_mean']):.0%} ({row['source']})"
            )
    return None


def steps(label: str, group: str) -> list[int]:
    """The steps at which a method has published figures on a group."""
    return sorted(step for method, name, step in published() if (method, name) == (label, group))


def _rows() -> Iterator[tuple[tuple[str, str, int], dict[str, str]]]:
    """The rows of the tables with their keys, the success rates last."""
    tables = ("domain_curves", "domain"), ("successors", "name"), ("success_rates", "name")
    folder = files("qamx.tools.results") / "published"
    for table, column in tables:
        with (folder / f"{table}.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield (_label(row["method"]), _group(row[column]), int(row["step"])), row


def _label(method: str) -> str:
    return f"qam_edit-{_VARIANTS[method]}" if method in _VARIANTS else method


def _group(name: str) -> str:
    domain, single, task = name.removesuffix("-v0").partition("-singletask-task")
    return f"{domain} task {task}" if single else domain
