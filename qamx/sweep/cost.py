"""What a sweep will take, before it is started."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from qamx.sweep.packing import Process

PAPER_HOURS, PAPER_STEPS = 3.0, 1_500_000
"""One run of the paper's authors on an RTX A5000: a million updates offline, then half a million
steps online. Source: Li and Levine (2026), arXiv 2601.14234."""


@dataclass(frozen=True)
class Cost:
    """Hours of a process, and whether runs that were measured here say so."""

    hours: float
    measured: bool


def measured_rates(processes: Iterable[Process]) -> dict[str, float]:
    """The median rate, in steps a second, of processes of each kind that have run here."""
    found: dict[str, list[float]] = {}
    for process in processes:
        rates = [run.progress.rate for run in process.runs if run.progress.rate]
        if rates:
            found.setdefault(process.kind, []).append(median(rates))
    return {kind: median(rates) for kind, rates in found.items()}


def cost_of(process: Process, rates: Mapping[str, float]) -> Cost:
    """The hours that a process still takes on a GPU.

    By the rate of its kind where one is known. Else by the paper's, scaled by the steps that are
    left, as if its seeds were trained one after the other.
    """
    rate = rates.get(process.kind)
    if rate is not None:
        return Cost(process.left / rate / 3600, measured=True)
    steps = sum(run.left for run in process.runs)
    return Cost(steps * PAPER_HOURS / PAPER_STEPS, measured=False)


def explain(costs: Sequence[Cost]) -> str:
    """Where the hours of all processes come from."""
    measured = sum(cost.measured for cost in costs)
    parts = []
    if measured:
        parts.append(f"{measured} at the rates measured here")
    if measured < len(costs):
        parts.append(
            f"{len(costs) - measured} at the {PAPER_HOURS:g} hours that the paper's authors state "
            f"for {PAPER_STEPS:,} steps on an RTX A5000, scaled by the steps that are left and not "
            "measured here"
        )
    return f"processes: {'; '.join(parts)}"
