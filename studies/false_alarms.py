"""How often `qamx compare` finds a difference where there is none.

    python -m studies.false_alarms

For each published task the seeds' own probabilities of success get a beta law with the published
mean and variance between seeds. Twelve seeds are drawn from it and published (a mean, and the
bootstrap interval of it, to four decimals), as many as we have are drawn from the same law, and
the two are compared. Printed is how often a difference is found at a level of 5%: on average,
and in brackets below what nine tenths of the cases stay, and the largest.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from qamx.tools.results.power import variance_components
from qamx.tools.results.published_results import (
    DOMAINS,
    EPISODES,
    SEEDS,
    TASKS,
    Published,
    published,
)
from qamx.tools.results.runs import Scores, Task
from qamx.tools.results.significance import difference, holm, sample_of_interval, sample_of_runs
from qamx.tools.results.statistics import interval

LEVEL = 0.05
RESAMPLES = 1_000
STUDIES = 300
STEPS = (1_000_000, 1_500_000)


class Interval(NamedTuple):
    """Published means of many studies, and the ends of their intervals."""

    mean: Float[np.ndarray, " studies"]
    low: Float[np.ndarray, " studies"]
    high: Float[np.ndarray, " studies"]


def study_figures() -> list[list[list[Published]]]:
    """The figures of the tasks of each domain, for each method at the end of each phase."""
    figures = published()
    return [
        [
            [figures[method, f"{domain} task {task}", step] for task in range(1, TASKS + 1)]
            for domain in DOMAINS
        ]
        for method in sorted({label for label, group, _ in figures if group == "all"})
        for step in STEPS
        if (method, f"{DOMAINS[0]} task 1", step) in figures
    ]


def seeds_of(
    figure: Published, studies: int, seeds: int, rng: np.random.Generator
) -> Float[np.ndarray, "studies seeds"]:
    """Success rates drawn from a law with a published mean and variance."""
    mean = figure.mean
    if mean in (0, 1):
        return np.full((studies, seeds), mean)
    one = variance_components([figure])
    # At least a little of each, where the beta law is defined.
    between = np.clip(one.between[0], 1e-5, 0.98 * mean * (1 - mean))
    weight = mean * (1 - mean) / between - 1
    own = rng.beta(mean * weight, (1 - mean) * weight, (studies, seeds))
    return rng.binomial(EPISODES, own) / EPISODES


def publish(rates: Float[np.ndarray, "studies seeds"], rng: np.random.Generator) -> Interval:
    """What would be published of each study."""
    weights = rng.multinomial(SEEDS, np.full(SEEDS, 1 / SEEDS), RESAMPLES) / SEEDS
    low, high = interval(weights @ rates.T)
    return Interval(*(np.round(end, 4) for end in (rates.mean(axis=-1), low, high)))


def p_values(
    figures: Sequence[Published], seeds: int, studies: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "tasks studies"], Float[np.ndarray, " studies"]]:
    """The p-values of each task of a domain, and of the domain, with nothing to be found."""
    tasks = [Task("domain", number) for number in range(len(figures))]
    theirs = [seeds_of(figure, studies, SEEDS, rng) for figure in figures]
    ours = {
        task: seeds_of(figure, studies, seeds, rng)
        for task, figure in zip(tasks, figures, strict=True)
    }
    told = {task: publish(rates, rng) for task, rates in zip(tasks, theirs, strict=True)}
    single = [p_value(ours, [task], told[task], told) for task in tasks]
    whole = p_value(ours, tasks, publish(np.mean(theirs, axis=0), rng), told)
    return np.array(single), whole


def p_value(
    ours: Scores, tasks: Sequence[Task], figure: Interval, told: Mapping[Task, Interval]
) -> Float[np.ndarray, " studies"]:
    """The p-values of our runs against what was published of a group."""
    theirs = sample_of_interval(*figure, {task: told[task].mean for task in tasks})
    return np.asarray(difference(sample_of_runs(ours, tasks, EPISODES), theirs, tasks).p)


def main() -> None:
    rng = np.random.default_rng(0)
    studies = study_figures()
    chosen = [studies[index] for index in rng.permutation(len(studies))[:12]]
    for seeds in (1, 2, 4, 12):
        rates: dict[str, list[float]] = {"task": [], "domain": [], "six rows": [], "sixty rows": []}
        for domains in chosen:
            rows = []
            for figures in domains:
                single, whole = p_values(figures, seeds, STUDIES, rng)
                rates["task"] += list((single < LEVEL).mean(axis=-1))
                rates["domain"].append(float((whole < LEVEL).mean()))
                rows.append(np.vstack([single, whole]))
                rates["six rows"].append(any_found(rows[-1]))
            rates["sixty rows"].append(any_found(np.vstack(rows)))
        told = "  ".join(
            f"{name} {np.mean(found):.1%} ({np.percentile(found, 90):.1%}, {max(found):.1%})"
            for name, found in rates.items()
        )
        print(f"{seeds:2d} seeds: {told}", flush=True)


def any_found(rows: Float[np.ndarray, "rows studies"]) -> float:
    """How often a corrected p-value of any row is below the level."""
    return float(np.mean([min(holm(list(column))) < LEVEL for column in rows.T]))


if __name__ == "__main__":
    main()
