"""The runs of one or several seeds as their folders hold them, with the online replay."""

import itertools
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

from qamx._utils.backend import used_devices
from qamx._utils.files import atomic_path, fsync, sha256
from qamx.data.transitions import Transitions
from qamx.errors import RunError, UserError
from qamx.training.checkpoint import Checkpoints, DamagedCheckpoint, Saved, verify_file
from qamx.training.guards import Divergence
from qamx.training.logs import DIVERGED, Logs
from qamx.training.plan import RunPlan, evaluation_seeds, keys_of
from qamx.training.state import ALONE, Alone, Stacked, Stacking, Training

_LOG = logging.getLogger("qamx")

Record: TypeAlias = tuple[str, int, str]
"""Name, size in bytes and SHA-256 of one file."""


class OnlineRows:
    """A folder of files named by their rows; a save writes the new rows alone.

    A checkpoint holds the records of the files that it needs.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self._records: list[Record] = []

    def save(self, first: int, rows: Transitions) -> list[Record]:
        """Writes the rows from `first` on, if any, atomically; returns the records of all files."""
        if len(rows):
            self._directory.mkdir(exist_ok=True)
            path = self._directory / f"{first:09d}-{first + len(rows):09d}.npz"
            with atomic_path(path) as partial, partial.open("wb") as file:
                np.savez(file, **vars(rows))
            fsync(self._directory)
            self._records.append((path.name, path.stat().st_size, sha256(path)))
        return self._records

    def verify(self, records: list[Record]) -> None:
        """Checks files against their records.

        **Raises:** `DamagedCheckpoint` if one is missing or has another content.
        """
        for name, size, digest in records:
            verify_file(self._directory / name, size, digest)

    def restore(self, records: list[Record], count: int) -> Transitions | None:
        """The rows in the recorded files, `count` of them.

        Other files are removed: their rows were played after the checkpoint, and are repeated.

        **Raises:** `DamagedCheckpoint` if they do not follow each other up to `count`.
        """
        self._records = records
        names = {name for name, _, _ in records}
        for path in self._directory.glob("*"):
            if path.name not in names:
                path.unlink()
        parts, reached = [], 0
        for name, _, _ in records:
            with np.load(self._directory / name, allow_pickle=False) as file:
                parts.append({key: file[key] for key in file.files})
            if int(name.split("-")[0]) != reached:
                raise DamagedCheckpoint(
                    f"{self._directory / name}: row {reached:,} should come first"
                )
            reached += len(parts[-1]["rewards"])
        if reached != count:
            raise DamagedCheckpoint(f"{self._directory}: {reached:,} rows, {count:,} were saved")
        if not parts:
            return None
        joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        return Transitions(**joined)


class SeedRun:
    """The run of one seed: its plan, its keys, and what its folder holds.

    **Arguments:** `plan` holds the seed, `directory` is the run's folder, `logs` its records.
    """

    def __init__(self, plan: RunPlan, directory: Path, logs: Logs):
        self.plan, self.directory, self.logs = plan, directory, logs
        self.seed = plan.seed
        self.index = 0
        """The index in the group."""
        self.keys = keys_of(plan.seed)
        self.checkpoints = Checkpoints(directory / "checkpoints", plan.keep_checkpoints)
        self.diverged: str | None = None
        """Why this run has left its group."""
        self._online_rows = OnlineRows(directory / "replay")
        self._saved_rows = 0

    def set_index(self, index: int) -> None:
        """Joins a group, unless the run has left it before."""
        self.index = index
        # A kill between two runs' saves must leave each of them the step before.
        self.checkpoints.keep = max(2, self.plan.keep_checkpoints)
        path = self.directory / DIVERGED
        if path.exists():
            self.diverged = json.loads(path.read_bytes())["why"]
            _LOG.info(f"seed {self.seed} stays out of the group: {self.diverged}")

    def mark_diverged(self, why: str) -> None:
        """Leaves the group; the run's files stay as they are."""
        self.diverged = why
        (self.directory / DIVERGED).write_text(json.dumps({"why": why}), encoding="utf-8")

    def evaluation_seeds(self) -> Sequence[int]:
        """The reset seeds of every evaluation."""
        return evaluation_seeds(self.seed, self.plan.evaluation.episodes)

    def newest(self, limit: int | None = None) -> Saved | None:
        """The newest intact checkpoint, of step `limit` at most."""
        return self.checkpoints.newest(
            lambda saved: self._online_rows.verify(saved.position["replay"]), limit
        )

    def save(
        self,
        step: int,
        training: Training,
        position: dict[str, Any],
        evaluating: dict[str, Any],
        rows: Callable[[int, int], Transitions],
    ) -> None:
        """Saves in the background.

        **Arguments:** `position` holds the number of `online_rows`, of which `rows` copies a
        range to the host; `evaluating` are policies whose evaluation has not ended.
        """
        first, collected = self._saved_rows, position["online_rows"]
        new = rows(first, collected)

        def write_rows() -> dict[str, Any]:
            return {"replay": self._online_rows.save(first, new)}

        self.checkpoints.save(step, training, position, write_rows, evaluating)
        self._saved_rows = collected

    def restore(self, saved: Saved) -> Transitions | None:
        """Cuts the records back to a checkpoint; returns the online transitions."""
        position = saved.position
        self.logs.cut(position["logs"])
        self.checkpoints.drop_after(saved.step)
        self._saved_rows = position["online_rows"]
        return self._online_rows.restore(position["replay"], self._saved_rows)

    def clear(self) -> None:
        """Removes the records of a run that ended before its first checkpoint."""
        # A second save waits for the first, so that rows beyond it prove that there was one.
        second = next(itertools.islice(self.plan.saves(0), 1, None), math.inf)
        reached = max((row["step"] for row in self.logs.metrics.rows()), default=0)
        if reached > second:
            raise UserError(
                f"{self.directory} has logs up to step {reached:,} but no checkpoint to resume "
                "from; restore its folder checkpoints, or name another directory with --out"
            )
        self.logs.cut({"metrics": 0, "evaluations": 0})
        self.checkpoints.drop_after(0)
        self._online_rows.restore([], 0)


class SeedGroup:
    """The runs that are trained together, and the arrangement of their seeds in arrays.

    **Raises:** `RunError` if all of them have diverged before.
    """

    def __init__(self, runs: Sequence[SeedRun]):
        self.runs = runs
        size, wanted = len(runs), runs[0].plan.devices
        self.stacking: Stacking = ALONE if size == 1 else Stacked(size, used_devices(size, wanted))
        if isinstance(self.stacking, Alone):
            (runs[0].directory / DIVERGED).unlink(missing_ok=True)
        else:
            for index, run in enumerate(runs):
                run.set_index(index)
        self._require_active()

    @property
    def active(self) -> list[SeedRun]:
        """The runs that have not diverged."""
        return [run for run in self.runs if run.diverged is None]

    def drop(self, run: SeedRun, why: str) -> None:
        """Continues without a run that has diverged.

        **Raises:** `Divergence` for a run alone, `RunError` if no run is left.
        """
        if isinstance(self.stacking, Alone):
            raise Divergence(why)
        run.mark_diverged(why)
        _LOG.info(f"seed {run.seed} stops: {why}")
        self._require_active()

    def newest_checkpoints(self) -> dict[int, Saved]:
        """The newest checkpoint of each active run by its index, all of one step; empty before
        the first save.

        **Raises:** `UserError` if checkpoints are more than one save interval apart.
        """
        limit: int | None = None
        while True:
            newest = {run.index: run.newest(limit) for run in self.active}
            steps = [0 if saved is None else saved.step for saved in newest.values()]
            if min(steps) == max(steps):
                return {index: saved for index, saved in newest.items() if saved is not None}
            _check_steps(self.active, steps)
            limit = min(steps)
            if limit == 0:
                return {}

    def rows(self, rows: Mapping[int, Transitions]) -> Transitions:
        """Rows of the runs by index, as `Replay.append` takes them; zeros for one without any."""
        unused = next(iter(rows.values()))
        if len(rows) < len(self.runs):
            unused = jax.tree.map(np.zeros_like, unused)
        return self.stacking.join([rows.get(run.index, unused) for run in self.runs], np.stack)

    def _require_active(self) -> None:
        if not self.active:
            lines = (f"seed {run.seed}: {run.diverged}" for run in self.runs)
            raise RunError("no seed of the group continues:\n" + "\n".join(lines))


def _check_steps(runs: Sequence[SeedRun], steps: Sequence[int]) -> None:
    """Refuses steps more than one save apart: a group saves its runs one after the other."""
    plan = runs[0].plan
    if max(steps) <= next(plan.saves(min(steps)), plan.schedule.steps):
        return
    listed = ", ".join(
        f"seed {run.seed} at step {step:,}" for run, step in zip(runs, steps, strict=True)
    )
    raise UserError(
        f"the runs of this group stand at different steps ({listed}); continue the ones behind by "
        "themselves (--seed), or use --seeds-mode sequential, or name new folders with --out"
    )
