"""The first update with a metric that is not finite: its batch and state, replayed and saved."""

import json
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from qamx.data.replay import Replay
from qamx.schedules import Schedule
from qamx.training.checkpoint import to_host
from qamx.training.seed_group import SeedGroup, SeedRun
from qamx.training.state import Trainer, Training


class FiniteCheck:
    """Checks the metrics of a group's training, and drops the seeds that diverge.

    The loop has it copy the training after each row of the log: a copy inside the device per
    logging interval. Choosing in each update between the state before and after it would copy as
    much every time, and going back to a checkpoint would repeat far more updates.
    """

    def __init__(self, group: SeedGroup, schedule: Schedule, step: int, training: Training):
        self._group, self._schedule = group, schedule
        self.restart(step, training)

    def restart(self, step: int, training: Training) -> None:
        """Copies the training, from which updates can be repeated while offline rows stay."""
        self._step, self._training = step, jax.tree.map(jnp.copy, training)

    def means(
        self, training: Training, trainer: Trainer, replay: Replay, saved_step: int
    ) -> list[dict[str, float]]:
        """The metrics' means, a table a run; a run with a mean that is not finite is dropped.

        **Raises:** as `SeedGroup.drop`.
        """
        means = training.means()
        for run in self._group.active:
            broken = [name for name, mean in means[run.index].items() if not math.isfinite(mean)]
            if broken:
                cause = self._save_evidence(run, broken, training, trainer, replay)
                self._group.drop(
                    run,
                    f"{cause}. {last_saved(saved_step)}; look at the data's range, lower the "
                    "learning rate or the inverse temperature",
                )
        return means

    def _save_evidence(
        self, run: SeedRun, broken: list[str], training: Training, trainer: Trainer, replay: Replay
    ) -> str:
        """Saves the batch and the state of the offending update; returns its description."""
        stacking = self._group.stacking
        place = stacking.place(run.index)
        since = training.counted[place] - self._training.counted[place]
        update = int(self._training.state.updates[place] + since)
        step, before = self._before(update, trainer, replay)
        own = stacking.of(before, run.index)
        rows = jax.device_put(self._at_step(replay.of(place), step), jax.local_devices()[0])
        batch = {name.strip("."): a for name, a in to_host(trainer.next_batch(own, rows)).items()}
        directory = run.directory / "nonfinite" / f"step-{step}"
        directory.mkdir(parents=True, exist_ok=True)
        evidence: dict[str, dict[str, Any]] = {"batch": batch, "state": to_host(own.state)}
        for name, arrays in evidence.items():
            np.savez(directory / f"{name}.npz", **arrays)
        report = {"step": step, "update": update, "not_finite": broken}
        (directory / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
        bad = [name for name, array in batch.items() if not np.isfinite(array).all()]
        finding = f"the batch's {', '.join(bad)} are not finite" if bad else "the batch is finite"
        return (
            f"step {step:,}, update {update:,}: {', '.join(broken)} not finite; {finding}; "
            f"batch and state of before the update are in {directory}"
        )

    def _before(self, update: int, trainer: Trainer, replay: Replay) -> tuple[int, Training]:
        """The step that brought an update (counted from 1), and the training before it.

        The same updates are repeated on the rows that had been collected then, with bitwise the
        same result.
        """
        # Of a copy: several seeds of a group may diverge after the same one.
        step, training = self._step, jax.tree.map(jnp.copy, self._training)
        schedule, done = self._schedule, int(jnp.max(training.state.updates))  # of all seeds
        while schedule.updates_at(step) < update:
            # Offline, where nothing is collected, one call does all updates.
            online = schedule.collected_at(step + 1) > schedule.collected_at(step)
            step += 1 if online else update - schedule.updates_at(step)
            missing = min(schedule.updates_at(step), update - 1) - done
            training = trainer.run(training, self._at_step(replay, step), missing)
            done += missing
        return step, training

    def _at_step(self, replay: Replay, step: int) -> Replay:
        """The buffer with the online rows that had been collected when the run reached `step`."""
        size = jnp.asarray(replay.offline_size + self._schedule.collected_at(step), jnp.int32)
        return eqx.tree_at(lambda r: r.size, replay, size)


def last_saved(step: int) -> str:
    """The sentence about the last checkpoint."""
    return f"The last checkpoint is of step {step:,}"


@jax.jit
def _finite(arrays: list[jax.Array]) -> list[jax.Array]:
    return [jnp.all(jnp.isfinite(array)) for array in arrays]


def broken_arrays(tree: PyTree) -> list[str]:
    """The paths of a tree's arrays that are not finite."""
    named = [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
        if eqx.is_inexact_array(leaf)
    ]
    finite = _finite([leaf for _, leaf in named])
    return [name for (name, _), fine in zip(named, finite, strict=True) if not fine]
