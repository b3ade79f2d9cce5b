"""The published figures that come with the package.

Source: Li and Levine (2026), arXiv 2601.14234; `published/README.md` describes the files.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SOURCE = "Li and Levine (2026), arXiv 2601.14234"

SEEDS = 12
"""Runs behind each published number."""

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
    """A published success rate: the mean over `SEEDS` runs, and its 95% interval."""

    mean: float
    low: float
    high: float


@cache
def published() -> dict[tuple[str, str, int], Published]:
    """Every figure, by label, group and step.

    A group is a task (`cube-double-play task 2`), a domain, or `all`. The table of success rates
    takes precedence over the curves.
    """
    figures = {}
    folder = files("qamx.tools.results") / "published"
    for name, column in (("domain_curves.csv", "domain"), ("success_rates.csv", "name")):
        with (folder / name).open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = _label(row["method"]), _group(row[column]), int(row["step"])
                interval = row["success_mean"], row["ci95_low"], row["ci95_high"]
                figures[key] = Published(*map(float, interval))
    return figures


def steps(label: str, group: str) -> list[int]:
    """The steps at which a method has published figures on a group."""
    return sorted(step for method, name, step in published() if (method, name) == (label, group))


def _label(method: str) -> str:
    return f"qam_edit-{_VARIANTS[method]}" if method in _VARIANTS else method


def _group(name: str) -> str:
    domain, single, task = name.removesuffix("-v0").partition("-singletask-task")
    return f"{domain} task {task}" if single else domain
