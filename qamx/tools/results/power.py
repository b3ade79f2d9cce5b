"""`qamx plan`: the seeds that a comparison needs."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from jaxtyping import Float

from qamx._utils.terminal import print_table, print_text
from qamx.config.toml import domains
from qamx.errors import UserError, suggestion
from qamx.tools.results.published_results import (
    DOMAINS,
    EPISODES,
    SEEDS,
    SOURCE,
    TASKS,
    Published,
    published,
    steps,
)
from qamx.tools.results.runs import ALL, Task
from qamx.tools.results.significance import LEVEL, difference, sample_of_published
from qamx.tools.results.statistics import points

MOST = 10_000
"""The limit of the search for seeds."""


@dataclass(frozen=True)
class VarianceComponents:
    """The published mean of a method on a group of tasks, and the variance of one seed's mean.

    `between` and `chance` hold, for each task, its share \\(B_k/K^2\\) and
    \\((p_k(1-p_k)-B_k)/K^2\\) of the variance; the second is divided by the number of episodes.
    """

    mean: float
    between: Float[np.ndarray, " tasks"]
    chance: Float[np.ndarray, " tasks"]

    def variances(self, episodes: int) -> Float[np.ndarray, " tasks"]:
        """Each task's share of the variance of one seed's mean."""
        return self.between + self.chance / episodes


def variance_components(figures: Sequence[Published]) -> VarianceComponents:
    """The components behind the published figures of a group's tasks."""
    means = np.array([figure.mean for figure in figures])
    total = np.array([sample_of_published(figure, {}).variance for figure in figures])
    bernoulli = means * (1 - means)
    between = (total - bernoulli / EPISODES) / (1 - 1 / EPISODES)
    between = np.clip(between, 0, bernoulli)
    square = len(figures) ** 2
    return VarianceComponents(float(means.mean()), between / square, (bernoulli - between) / square)


def power(
    first: VarianceComponents, second: VarianceComponents, gap: float, seeds: int, episodes: int
) -> float:
    """The probability that a two-sided t-test finds a difference, with its right sign.

    **Arguments:** `gap` is the true difference of the means, `seeds` and `episodes` are those of
    each method on each task.
    """
    from scipy.stats import nct, t

    shares = np.concatenate([side.variances(episodes) for side in (first, second)])
    if not shares.any():  # all won or lost by every seed
        return float(gap != 0)
    freedom = (seeds - 1) * shares.sum() ** 2 / (shares**2).sum()
    shift = abs(gap) / np.sqrt(shares.sum() / seeds)
    bound = t.ppf(1 - LEVEL / 2, freedom)
    return float(nct.sf(bound, freedom, shift))


def seeds_needed(
    first: VarianceComponents, second: VarianceComponents, gap: float, target: float, episodes: int
) -> int | None:
    """The fewest seeds, at least two, with a power; None if `MOST` are too few."""
    choices = range(2, MOST + 1)
    found = bisect_left(choices, target, key=lambda n: power(first, second, gap, n, episodes))
    return choices[found] if found < len(choices) else None


def gap_found(
    first: VarianceComponents, second: VarianceComponents, seeds: int, target: float, episodes: int
) -> float:
    """The smallest difference that `seeds` find with a power."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        enough = power(first, second, middle, seeds, episodes) >= target
        low, high = (low, middle) if enough else (middle, high)
    return high


EPISODE_CHOICES = (10, 25, 50, 100, 200)
"""Numbers of episodes in every plan."""


def plan(
    methods: Sequence[str], domain: str, step: int, power: float, episodes: int, hours: float
) -> None:
    """Prints the seeds and episodes that separate two methods, with their cost.

    **Arguments:** `hours` are those of one GPU for one run.

    **Raises:** `UserError` for an unknown name or a number out of range.
    """
    _check(power, episodes, hours)
    domain = domains().get(domain, domain)
    tasks = _tasks(domain)
    figures = [_figures(method, domain, tasks, step) for method in methods]
    first, second = (variance_components(list(of_task.values())) for of_task in figures)

    def row(gap: float, episodes: int) -> tuple[str, str, str, str]:
        seeds = seeds_needed(first, second, gap, power, episodes)
        if seeds is None:
            return str(episodes), f"over {MOST:,}", "-", "-"
        runs = 2 * seeds * len(tasks)
        return str(episodes), f"{seeds:,}", f"{runs:,}", f"{runs * hours:,.0f}"

    sides = list(zip(methods, (first, second), strict=True))
    means = " and ".join(f"{method} {points(side.mean, '.1f')}%" for method, side in sides)
    print_text(f"{means} on {domain} ({len(tasks)} tasks) at step {step:,}; {SOURCE}")
    _print_deviations(sides)
    gap = first.mean - second.mean
    print_table(
        f"Seeds per method and task to detect {points(gap, '+.1f')} points ({power:.0%} power)",
        ("episodes", "seeds", "runs", "GPU hours"),
        [row(gap, choice) for choice in sorted({*EPISODE_CHOICES, episodes})],
    )
    samples = [
        sample_of_published(published()[method, domain, step], single)
        for method, single in zip(methods, figures, strict=True)
    ]
    gap, half = (float(number) for number in astuple(difference(samples[0], samples[1], tasks))[:2])
    low, high = gap - half, gap + half
    if low <= 0 <= high:
        advice = "which method is better is not known, and a plan on that difference is a guess"
    else:
        near = min((low, high), key=abs)
        _, seeds, _, cost = row(near, episodes)
        advice = f"if it is {points(near, '+.1f')}, {seeds} seeds are needed ({cost} GPU hours)"
    interval = f"95% interval {points(low, '+.1f')} to {points(high, '+.1f')}"
    print_text(f"the published difference is {points(gap, '+.1f')}, {interval}; {advice}")
    least = points(gap_found(first, second, SEEDS, power, episodes), ".1f")
    print(f"{SEEDS} seeds x {episodes} episodes detect differences >= {least} points")


def _check(power: float, episodes: int, hours: float) -> None:
    if not 0.05 < power < 1:
        raise UserError(f"--power: found {power:g}; write a number between 0.05 and 1, e.g. 0.8")
    if episodes < 1:
        raise UserError(f"--episodes: found {episodes}; write a positive integer, e.g. {EPISODES}")
    if not 0 < hours < np.inf:
        raise UserError(f"--hours: found {hours:g}; write a positive number, e.g. 3.0")


def _tasks(domain: str) -> tuple[Task, ...]:
    names = {group.rpartition(" task ")[0] for _, group, _ in published() if " task " in group}
    if domain != ALL and domain not in names:
        raise UserError(
            f'--domain: found "{domain}"; {suggestion(domain, {*names, *domains(), ALL})}'
        )
    chosen = DOMAINS if domain == ALL else (domain,)
    return tuple(Task(name, number) for name in chosen for number in range(1, TASKS + 1))


def _figures(method: str, domain: str, tasks: Sequence[Task], step: int) -> dict[Task, Published]:
    known = {label for label, _, _ in published()}
    if method not in known:
        raise UserError(f'METHOD: found "{method}"; {suggestion(method, known)}')
    keys = {task: (method, str(task), step) for task in tasks}
    figures = {task: published()[key] for task, key in keys.items() if key in published()}
    if len(figures) < len(tasks):
        common = set.intersection(*(set(steps(method, str(task))) for task in tasks))
        at = ", ".join(f"{number:,}" for number in sorted(common)) or "no step"
        raise UserError(
            f"--step: {method} has no published figures for the tasks of {domain} at {step:,}, "
            f"but at {at}"
        )
    return figures


def _print_deviations(sides: Sequence[tuple[str, VarianceComponents]]) -> None:
    rows = []
    for method, side in sides:
        variances = side.between.sum(), side.chance.sum() / EPISODES, side.variances(EPISODES).sum()
        rows.append((method, *(points(np.sqrt(variance), ".1f") for variance in variances)))
    header = ("method", "between seeds", f"by {EPISODES} episodes", "together")
    print_table(
        "Standard deviation between seeds, of the mean over tasks (percentage points)", header, rows
    )
