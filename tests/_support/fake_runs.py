"""Folders of runs as the runner leaves them, without having run."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

CUBE = """
[environment]
id = "cube-double-play"
task = 2
[agent]
method = "qam"
horizon = 5
discount = 0.99
inverse_temperature = 1.0
"""
"""An experiment that is valid, and not to be trained."""

BEGIN = 1_700_000_000.0
"""When every run here was started, in seconds since the epoch."""


def fake_run(
    folder: Path,
    *,
    total: int = 1000,
    logged: dict[int, float] | None = None,
    saved: dict[int, float] | None = None,
    evaluated: dict[int, float] | None = None,
    starts: tuple[float, ...] = (0.0,),
    config: str = "",
) -> Path:
    """A run's folder.

    **Arguments:** `logged` and `saved` are steps with the seconds after `BEGIN` at which they were
    written, `evaluated` steps with success rates, `starts` seconds after `BEGIN`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    schedule = f'[schedule]\nkind = "offline"\noffline_steps = {total}\n'
    (folder / "config.toml").write_text(config or schedule)
    times = [datetime.fromtimestamp(BEGIN + start, UTC).isoformat() for start in starts]
    (folder / "passport.json").write_text(json.dumps({"starts": [{"time": t} for t in times]}))
    if logged:
        path = folder / "metrics.jsonl"
        path.write_text("".join(f"{json.dumps({'step': step})}\n" for step in logged))
        os.utime(path, (BEGIN, BEGIN + max(logged.values())))
    for step, time in (saved or {}).items():
        path = folder / "checkpoints" / str(step) / "manifest.json"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (BEGIN, BEGIN + time))
    rows = [{"step": step, "success": rate} for step, rate in (evaluated or {}).items()]
    (folder / "evaluations.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def complete_run(folder: Path, success: float = 1.0, total: int = 1000) -> Path:
    """The folder of a run that has reached its end."""
    return fake_run(folder, total=total, saved={total: 10.0}, evaluated={total: success})
