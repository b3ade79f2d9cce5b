"""`qamx plan`: the seeds that a comparison needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from qamx._utils.terminal import print_table
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
from qamx.tools.results.significance import Difference, difference, sample_of_published

LEVEL = 0.05
"""The two-sided level of the test whose power is asked for."""

MOST = 10_000
"""Seeds beyond which nobody goes."""


@dataclass(frozen=True)
class VarianceComponents:
    """A method on a group of tasks, as published: what one seed's mean over the tasks would be.

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
    """What the published figures of a group's tasks say of one seed."""
    means = np.array([figure.mean for figure in figures])
    total = np.array([sample_of_published(figure, {}).variance for figure in figures])
    bernoulli = means * (1 - means)
    between = (total - bernoulli / EPISODES) / (1 - 1 / EPISODES)
    between = np.clip(between, 0, bernoulli)
    square = len(figures) ** 2
    return VarianceComponents(float(means.mean()), between / square, (bernoulli - between) / square)


def power(
    one: VarianceComponents, other: VarianceComponents, gap: float, seeds: int, episodes: int
) -> float:
    """How likely a two-sided t-test finds a difference, with its right sign.

    **Arguments:** `gap` is the true difference of the means, `seeds` and `episodes` are those of
    each method on each task.
    """
    from scipy.stats import nct, t

    shares = np.concatenate([side.variances(episodes) for side in (one, other)])
    if not shares.any():  # all won or lost by every seed
        return float(gap != 0)
    freedom = (seeds - 1) * shares.sum() ** 2 / (shares**2).sum()
    shift = abs(gap) / np.sqrt(shares.sum() / seeds)
    bound = t.ppf(1 - LEVEL / 2, freedom)
    return float(nct.sf(bound, freedom, shift))


def seeds_needed(
    one: VarianceComponents, other: VarianceComponents, gap: float, wanted: float, episodes: int
) -> int | None:
    """The fewest seeds, two at least, with the power that is wanted; None if `MOST` are too few."""
    low, high = 1, 2
    while power(one, other, gap, high, episodes) < wanted:
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(one, other, gap, middle, episodes) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high


def gap_found(
    one: VarianceComponents, other: VarianceComponents, seeds: int, wanted: float, episodes: int
) -> float:
    """The smallest difference that so many seeds find with the power that is wanted."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        enough = power(one, other, middle, seeds, episodes) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high


EPISODE_CHOICES = (10, 25, 50, 100, 200)
"""Numbers of episodes that a plan always shows."""


def plan(
    methods: Sequence[str], domain: str, step: int, power: float, episodes: int, hours: float
) -> int:
    """Prints how many seeds and episodes separate two methods, and their cost.

    **Arguments:** `hours` are those of one GPU for one run.

    **Raises:** `UserError` for a name or number that is not known or sensible.
    """
    _check(power, episodes, hours)
    tasks = _tasks(domain)
    figures = [_figures(method, domain, tasks, step) for method in methods]
    one, other = (variance_components(list(found.values())) for found in figures)
    found = _difference(methods, domain, tasks, step, figures)
    print(
        f"{methods[0]} {_percent(one.mean)} and {methods[1]} {_percent(other.mean)} on {domain} "
        f"({len(tasks)} tasks) at step {step:,}; {SOURCE}"
    )
    _print_deviations(methods, (one, other))
    gap = one.mean - other.mean
    rows = [
        _row(one, other, gap, power, choice, len(tasks), hours)
        for choice in sorted({*EPISODE_CHOICES, episodes})
    ]
    title = f"seeds of each method on each task that find {_signed(gap)} with power {power:g}"
    print_table(title, ("episodes", "seeds", "runs", "GPU hours"), rows)
    _print_uncertainty(one, other, found, power, episodes, len(tasks), hours)
    return 0


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
        raise UserError(f'--domain: found "{domain}"; {suggestion(domain, {*names, ALL})}')
    domains = DOMAINS if domain == ALL else (domain,)
    return tuple(Task(name, number) for name in domains for number in range(1, TASKS + 1))


def _figures(method: str, domain: str, tasks: Sequence[Task], step: int) -> dict[Task, Published]:
    known = {label for label, _, _ in published()}
    if method not in known:
        raise UserError(f'METHOD: found "{method}"; {suggestion(method, known)}')
    found = {task: published().get((method, str(task), step)) for task in tasks}
    whole = {task: figure for task, figure in found.items() if figure is not None}
    if len(whole) < len(tasks):
        at = set.intersection(*(set(steps(method, str(task))) for task in tasks))
        there = ", ".join(f"{one:,}" for one in sorted(at)) or "no step"
        raise UserError(
            f"--step: {method} has no published figures for the tasks of {domain} at {step:,}, "
            f"but at {there}"
        )
    return whole


def _difference(
    methods: Sequence[str],
    domain: str,
    tasks: Sequence[Task],
    step: int,
    figures: Sequence[dict[Task, Published]],
) -> Difference:
    one, other = (
        sample_of_published(published()[method, domain, step], single)
        for method, single in zip(methods, figures, strict=True)
    )
    return difference(one, other, tasks)


def _row(
    one: VarianceComponents,
    other: VarianceComponents,
    gap: float,
    power: float,
    episodes: int,
    tasks: int,
    hours: float,
) -> tuple[str, str, str, str]:
    seeds = seeds_needed(one, other, gap, power, episodes)
    if seeds is None:
        return str(episodes), f"over {MOST:,}", "-", "-"
    runs = 2 * seeds * tasks
    return str(episodes), f"{seeds:,}", f"{runs:,}", f"{runs * hours:,.0f}"


def _print_deviations(methods: Sequence[str], spreads: Sequence[VarianceComponents]) -> None:
    rows = [
        (
            method,
            _deviation(one.between.sum()),
            _deviation(one.chance.sum() / EPISODES),
            _deviation(one.variances(EPISODES).sum()),
        )
        for method, one in zip(methods, spreads, strict=True)
    ]
    header = ("method", "between seeds", f"by {EPISODES} episodes", "together")
    print_table("deviation of one seed's mean over the tasks, in points", header, rows)


def _print_uncertainty(
    one: VarianceComponents,
    other: VarianceComponents,
    found: Difference,
    power: float,
    episodes: int,
    tasks: int,
    hours: float,
) -> None:
    low, high = float(found.gap - found.half), float(found.gap + found.half)
    interval = f"95% interval {_signed(low)} to {_signed(high)}"
    if low <= 0 <= high:
        told = "which method is better is not known, and a plan on that difference is a guess"
    else:
        near = min((low, high), key=abs)
        _, seeds, _, cost = _row(one, other, near, power, episodes, tasks, hours)
        told = f"if it is {_signed(near)}, {seeds} seeds are needed ({cost} GPU hours)"
    print(f"the published difference is {_signed(float(found.gap))}, {interval}; {told}")
    least = gap_found(one, other, SEEDS, power, episodes)
    print(
        f"{SEEDS} seeds and {episodes} episodes find differences from {100 * least:.1f} points on"
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}%"


def _signed(gap: float) -> str:
    return f"{100 * gap:+.1f}"


def _deviation(variance: float) -> str:
    return f"{100 * np.sqrt(variance):.1f}"
