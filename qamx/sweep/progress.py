"""How far a run is, read from its folder alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from qamx._utils.files import TextError, read_text
from qamx.training.guards import is_locked
from qamx.training.logs import FROZEN, last_row


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    **Arguments:** `saved` is the step of the newest checkpoint, `step` the last that was logged
    if a process works on it, else the one that it goes on from; `rate` is in steps a second over
    the time since the run was last started, None where the files do not tell.
    """

    step: int
    saved: int
    evaluated: int
    success: float | None
    rate: float | None
    started: bool
    working: bool
    diverged: str

    def complete(self, total: int) -> bool:
        """Whether the run has reached its end, with its last evaluation and checkpoint."""
        return min(self.saved, self.evaluated) >= total


@dataclass(frozen=True)
class _Mark:
    time: float
    step: int


def progress_of(directory: Path) -> Progress:
    """Reads a run's folder, which need not be there."""
    if not directory.is_dir():
        return Progress(0, 0, -1, None, None, False, False, "")
    marks = _checkpoints(directory)
    saved = max((mark.step for mark in marks), default=0)
    logged = last_row(directory / "metrics.jsonl").get("step", 0)
    evaluation = last_row(directory / "evaluations.jsonl")
    working = is_locked(directory)
    return Progress(
        step=max(saved, logged) if working else saved,
        saved=saved,
        evaluated=evaluation.get("step", -1),
        success=evaluation.get("success"),
        rate=_rate(marks, _logged(directory, logged), _starts(directory)),
        started=(directory / "config.toml").exists(),
        working=working,
        diverged="" if working else _divergence(directory, logged),
    )


def steps_of(schedule: Mapping[str, Any]) -> int:
    """The last step that a table `[schedule]` asks for: its keys that end in `_steps`, summed."""
    return sum(
        value
        for key, value in schedule.items()
        if key.endswith("_steps") and isinstance(value, int)
    )


def planned_steps(directory: Path) -> int:
    """The last step of a run that has been started, by its `config.toml`; 0 if unknown."""
    import tomli

    try:
        table = tomli.loads(read_text(directory / "config.toml"))
    except (OSError, ValueError, TextError):
        return 0
    return steps_of(table.get("schedule", {}))


def _checkpoints(directory: Path) -> list[_Mark]:
    """Every whole checkpoint, with the time of its manifest, in the order of the steps."""
    found = []
    for path in (directory / "checkpoints").glob("*/manifest.json"):
        if path.parent.name.isdecimal():
            found.append(_Mark(path.stat().st_mtime, int(path.parent.name)))
    return sorted(found, key=lambda mark: mark.step)


def _logged(directory: Path, step: int) -> list[_Mark]:
    path = directory / "metrics.jsonl"
    return [_Mark(path.stat().st_mtime, step)] if step else []


def _starts(directory: Path) -> list[float]:
    """When the run was started and continued."""
    try:
        starts = json.loads((directory / "passport.json").read_bytes())["starts"]
        return [datetime.fromisoformat(start["time"]).timestamp() for start in starts]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _rate(checkpoints: list[_Mark], logged: list[_Mark], starts: list[float]) -> float | None:
    """Steps a second since the last start, from the times at which files were written.

    The start itself counts only where less is known: data and compilation come after it.
    """
    start = starts[-1] if starts else 0.0
    since = [mark for mark in (*checkpoints, *logged) if mark.time >= start]
    before = [mark.step for mark in checkpoints if mark.time < start]
    rate = _slope(since)
    if rate is None and (before or len(starts) == 1):
        rate = _slope([*since, _Mark(start, max(before, default=0))])
    return rate


def _slope(marks: list[_Mark]) -> float | None:
    """Steps a second between the first step of the marks and the last."""
    if not marks:
        return None
    first, last = (edge(marks, key=lambda mark: (mark.step, -mark.time)) for edge in (min, max))
    if last.step <= first.step or last.time <= first.time:
        return None
    return (last.step - first.step) / (last.time - first.time)


def _divergence(directory: Path, logged: int) -> str:
    """Why the run does not go on, if a value that is not finite ended it."""
    mark = directory / FROZEN
    if mark.exists():
        return json.loads(mark.read_bytes())["why"]
    for path in (directory / "nonfinite").glob("step-*/report.json"):
        # A row is logged once its metrics are found finite: later rows prove that it went on.
        if int(path.parent.name.removeprefix("step-")) >= logged:
            return f"not finite; see {path.parent}"
    return ""
