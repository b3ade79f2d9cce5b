"""A report in words: the rows of its tables, on a terminal as on a page."""

import numpy as np

from qamx._utils.finding import counted
from qamx.audit.data.inspector import Report
from qamx.data.inspection.report import Portrait, Rewarding

TASK_HEADER = ("task", "rewards (rows)", "rows solved", "episodes solved")


def verdict(report: Report) -> str:
    """One line: what a run would do."""
    numbers = [report.count(level) for level in ("refuse", "warn", "note")]
    if numbers[0]:
        word = "a run refuses these data"
    elif numbers[1]:
        word = "a run starts with warnings"
    else:
        word = "sound"
    return f"{word} (refused: {numbers[0]}, warnings: {numbers[1]}, notes: {numbers[2]})"


def size_rows(report: Report) -> list[tuple[str, str]]:
    """What there is: a name and a text each."""
    looked, of = report.shards
    rows = [("shards", f"{looked:,} of {of:,} looked at")] if of > 1 else []
    if report.portrait is not None:
        rows += _portrait_rows(report.portrait, report.horizon)
    if report.validation_rows is not None:
        rows.append(("validation", counted(report.validation_rows, "transition")))
    return rows


def _portrait_rows(portrait: Portrait, horizon: int) -> list[tuple[str, str]]:
    low, high = portrait.observation_range
    least, most = portrait.action_range
    return [
        ("transitions", f"{portrait.rows:,}"),
        ("episodes", f"{len(portrait.lengths):,} of {_lengths(portrait.lengths)}"),
        ("windows", f"of {horizon} steps: {_share(portrait.window_share)} lie inside an episode"),
        ("observations", f"{len(low)} entries, from {low.min():.4g} to {high.max():.4g}"),
        ("actions", f"{len(least)} entries, from {least.min():.4g} to {most.max():.4g}"),
        ("at ±1", ", ".join(f"{share:.0%}" for share in portrait.saturation) + " of the rows"),
    ]


def _lengths(lengths: np.ndarray) -> str:
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest == longest:
        return counted(longest, "step")
    return f"{shortest:,} to {longest:,} steps, half of them at most {np.median(lengths):,.0f}"


def _share(share: float) -> str:
    return f"{share:.1%}" if share < 1 else "all"


def task_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """What each task rewards."""
    return [
        (
            name,
            _rewards(one),
            f"{one.solved_rows:,} ({one.solved_rows / one.rows:.1%})",
            f"{one.solved_episodes:,} of {one.episodes:,}",
        )
        for name, one in report.rewards.items()
    ]


def _rewards(one: Rewarding, most: int = 8) -> str:
    if not one.counts:
        return f"{one.low:.4g} to {one.high:.4g}, {np.mean(one.rewards):.4g} on average"
    texts = [f"{value:g}: {count:,}" for value, count in one.counts.items()]
    if len(texts) > most:
        left = len(texts) - most
        texts = [*texts[: most // 2], f"({left} more)", *texts[-most // 2 :]]
    return ", ".join(texts)
