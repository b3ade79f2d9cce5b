"""What is kept of an update that brought a metric that is not finite."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qamx.data.replay import Replay
from qamx.errors import RunError
from qamx.schedules import Schedule
from qamx.training.checkpoint import to_host
from qamx.training.state import Trainer, Training


class Divergence(RunError):
    """A metric, or the state, is no longer finite."""


@dataclass(frozen=True)
class Mark:
    """A copy of training at a step from which on the offline rows have not changed.

    The loop takes one after each row of the log. That is a copy inside the device per logging
    interval. Choosing in each update between the state before and after it would copy as much
    every time, and going back to a checkpoint would repeat far more updates.
    """

    step: int
    training: Training

    @classmethod
    def of(cls, step: int, training: Training) -> "Mark":
        """A mark whose arrays are its own: updates give up the buffers that they are given."""
        return cls(step, jax.tree.map(jnp.copy, training))

    def offending(self, training: Training, member: int | None) -> int:
        """The update (counted from 1) that brought what is not finite, of one seed."""
        place = ... if member is None else member
        since = training.counted[place] - self.training.counted[place]
        return int(self.training.state.updates[place] + since)

    def before(self, update: int, trainer: Trainer, replay: Replay, schedule: Schedule) -> "Mark":
        """The state before the given update (counted from 1), and the step that brought it.

        The same updates are taken again, on the rows that had been collected then: they end
        bitwise where they ended.
        """
        # Of a copy: other seeds of a group may have broken too, since the same mark.
        training, step = Mark.of(self.step, self.training).training, self.step
        done = int(jnp.max(training.state.updates))  # the same in all seeds of a group
        while schedule.updates_at(step) < update:
            # Offline, where nothing is collected, one call goes all the way.
            online = schedule.collected_at(step + 1) > schedule.collected_at(step)
            step += 1 if online else update - schedule.updates_at(step)
            wanted = min(schedule.updates_at(step), update - 1) - done
            training = trainer.run(training, rows_at(replay, schedule, step), wanted)
            done += wanted
        return Mark(step, training)


def rows_at(replay: Replay, schedule: Schedule, step: int) -> Replay:
    """The buffer with the online rows that had been collected when the run reached `step`."""
    size = jnp.asarray(replay.offline_size + schedule.collected_at(step), jnp.int32)
    return eqx.tree_at(lambda r: r.size, replay, size)


def broken_metrics(means: dict[str, float]) -> list[str]:
    """The metrics whose mean is not finite."""
    return [name for name, mean in means.items() if not math.isfinite(mean)]


@jax.jit
def _finite(arrays: list[jax.Array]) -> list[jax.Array]:
    return [jnp.all(jnp.isfinite(array)) for array in arrays]


def broken_arrays(training: Training) -> list[str]:
    """The arrays of the state that are not finite."""
    named = [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree.leaves_with_path(training.state)
        if eqx.is_inexact_array(leaf)
    ]
    finite = _finite([leaf for _, leaf in named])
    return [name for (name, _), fine in zip(named, finite, strict=True) if not fine]


def write_evidence(
    directory: Path, update: int, broken: list[str], mark: Mark, trainer: Trainer, replay: Replay
) -> str:
    """Writes batch and state of before the update; returns a sentence about the batch."""
    drawn = to_host(trainer.next_batch(mark.training, replay))
    batch: dict[str, Any] = {name.strip("."): array for name, array in drawn.items()}
    state: dict[str, Any] = {**to_host(mark.training.state)}
    directory.mkdir(parents=True, exist_ok=True)
    np.savez(directory / "batch.npz", **batch)
    np.savez(directory / "state.npz", **state)
    report = {"step": mark.step, "update": update, "not_finite": broken}
    (directory / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    bad = [name for name, array in batch.items() if not np.isfinite(array).all()]
    found = f"the batch's {', '.join(bad)} are not finite" if bad else "the batch is finite"
    return f"{found}; batch and state of before the update are in {directory}"
