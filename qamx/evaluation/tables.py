"""What evaluations are shown as: tables, and the JSON of each episode."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qamx._utils.terminal import print_table
from qamx.errors import UserError
from qamx.evaluation.play import Played
from qamx.evaluation.statistics import Pairing, mean_interval, success_interval
from qamx.training.evaluator import summarise

HEADER = ("run", "step", "task", "policy", "success", "95%", "return", "length", "seconds")


def show(found: Sequence[Played]) -> None:
    """Prints a line for each."""
    one = found[0]
    title = f"{len(one.episodes)} episodes in {one.environment.id}, seed {one.seed}"
    if len({(len(p.episodes), p.environment.id, p.seed) for p in found}) > 1:
        title = "evaluations"
    print_table(title, HEADER, [_row(played) for played in found])


def _row(played: Played) -> tuple[str, ...]:
    means = summarise(played.episodes)
    low, high = success_interval(played.solved, len(played.episodes))
    return (
        played.subject.name,
        f"{played.subject.step:,}",
        _task(played),
        played.policy,
        f"{means['success']:.0%} ({played.solved}/{len(played.episodes)})",
        f"[{low:.0%}, {high:.0%}]",
        f"{means['return']:.1f}",
        f"{means['length']:.1f}",
        f"{played.seconds:.1f}",
    )


def _task(played: Played) -> str:
    trained = played.subject.trained_task
    if played.task is None:
        return ""
    return str(played.task) if played.task == trained else f"{played.task} (trained for {trained})"


def show_pairing(one: Played, other: Played, pairing: Pairing) -> None:
    """Prints how two policies differ on the same reset seeds."""
    low, high = pairing.interval()
    gained = other.returns - one.returns
    least, most = mean_interval(gained)
    rows = [
        (
            "success",
            f"{100 * pairing.difference:+.1f} points",
            f"[{100 * low:+.1f}, {100 * high:+.1f}]",
        ),
        ("return", f"{gained.mean():+.2f}", f"[{least:+.2f}, {most:+.2f}]"),
    ]
    task = "" if one.task is None else f", task {one.task}"
    title = f"{other.subject.name} less {one.subject.name}{task}"
    print_table(title, ("", "difference", "95%"), rows)
    print(
        f"seeds solved by both {pairing.both}, by the first only {pairing.first}, by the second "
        f"only {pairing.second}, by neither {pairing.neither}; McNemar's exact test: "
        f"p = {pairing.p_value():.3g}"
    )


def pairing_report(task: int | None, pairing: Pairing) -> dict[str, Any]:
    """A pairing on a task as JSON has it."""
    return {
        "task": task,
        **vars(pairing),
        "difference": pairing.difference,
        "interval": pairing.interval(),
        "p_value": pairing.p_value(),
    }


def write_json(file: Path | None, found: Sequence[Played], **more: Any) -> None:
    """Writes every evaluation with each of its episodes, if a file is named.

    **Raises:** `UserError` if it cannot be written.
    """
    if file is None:
        return
    report = {"evaluations": [_report(played) for played in found], **more}
    try:
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--json {file}: cannot be written ({error.strerror})") from error


def _report(played: Played) -> dict[str, Any]:
    subject = played.subject
    return {
        "run": subject.name,
        "step": subject.step,
        "method": subject.method,
        "environment": played.environment.id,
        "task": played.task,
        "trained_task": subject.trained_task,
        "policy": played.role,
        "seed": played.seed,
        **summarise(played.episodes),
        "interval": success_interval(played.solved, len(played.episodes)),
        "seconds": played.seconds,
        "episodes": [
            {
                "seed": episode.seed,
                "success": episode.success,
                "return": episode.total_reward,
                "length": episode.length,
            }
            for episode in played.episodes
        ],
    }
