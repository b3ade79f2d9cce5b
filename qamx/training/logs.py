"""The run's records: JSON lines on disk (the source of truth) and, where asked for, wandb and
TensorBoard."""

import contextlib
import functools
import hashlib
import importlib
import io
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from qamx._utils.files import atomic_write, describe_write_error, read_json_lines
from qamx.errors import RunError, UserError

_LOG = logging.getLogger("qamx")

DIVERGED = "diverged.json"
"""The file, in a run's folder, with the reason for which the run left its group."""

RATE = "rate.json"
"""The file with the steps a second of a run that works, over the last half minute."""

LONGEST_ROW = 2**14
"""The most bytes of the last row of a file."""

OFFLINE = "offline-run-"
"""Prefix of the folders that wandb has not sent; `wandb sync` looks for it."""

SUPERSEDED = "superseded-"
"""Prefix of a folder all of whose rows a later one has."""


class JsonLines:
    """A file of one JSON object a line, which can be cut back to an earlier end.

    **Arguments:** `path` is created if it is missing; rows are appended and flushed.
    """

    def __init__(self, path: Path):
        self._path = path
        # Without a buffer, a row that a full disk refuses is not tried again on closing.
        self._file = path.open("a+b", buffering=0)

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row.

        **Raises:** `RunError` if it cannot be written.
        """
        left = memoryview(f"{json.dumps(row)}\n".encode())
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise RunError(describe_write_error(error, self._path.parent)) from error

    def position(self) -> int:
        """The end of the file, in bytes."""
        self._file.seek(0, 2)
        return self._file.tell()

    def cut(self, position: int) -> None:
        """Drops everything after `position`.

        **Raises:** `UserError` if the file has lost rows from before.
        """
        if self.position() < position:
            raise UserError(
                f"{self._path}: shorter than when the checkpoint was saved; restore the file, or "
                "start a run in a new directory"
            )
        self._file.truncate(position)
        self._file.seek(0, 2)

    def rows(self) -> list[dict[str, Any]]:
        return read_json_lines(self._path)

    def close(self) -> None:
        self._file.close()


def last_row(path: Path) -> dict[str, Any]:
    """The last whole row of a file that may be written to meanwhile; empty without one."""
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        file.seek(max(0, file.seek(0, io.SEEK_END) - LONGEST_ROW))
        lines = file.read().split(b"\n")
        if len(lines) > 1:
            return json.loads(lines[-2])
    return {}


def write_rate(directory: Path, rate: float) -> None:
    """Writes the rate of a run that works."""
    atomic_write(directory / RATE, json.dumps({"steps_per_second": rate}))


def read_rate(directory: Path) -> float | None:
    """The rate that a run has written, None without one."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads((directory / RATE).read_bytes())["steps_per_second"])
    return None


class Sink(Protocol):
    """A further destination of rows."""

    def resume(self, rows: Sequence[dict[str, Any]]) -> None:
        """Takes the rows that a resumed run keeps; it may have them, and later ones, already."""

    def write(self, row: dict[str, Any]) -> None:
        """Sends one row."""

    def close(self) -> None:
        """Sends pending rows."""


STEPS = ("step", "evaluation/step")
"""The keys of the step at sinks, in a row of metrics and in one of an evaluation."""


class WandbSink:
    """Weights & Biases; in offline mode nothing leaves the machine and no account is needed.

    A resumed run has each row once. Offline, wandb begins an empty folder each time: the rows that
    the run has kept are copied to it, and earlier folders are given names that `wandb sync` passes
    over. Online, rows up to the last steps that the server has are not sent again.

    **Arguments:** `mode` is "online" or "offline", `config` the resolved experiment.
    """

    def __init__(self, directory: Path, project: str, name: str, mode: str, config: dict[str, Any]):
        import wandb
        import wandb.errors

        # The same each time this directory's run is resumed, and for no other run.
        digest = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:8]
        begin = functools.partial(
            wandb.init,
            project=project,
            name=name,
            id=f"{name}-{digest}",
            resume="allow",
            reinit="create_new",  # a group of seeds has a run each in one process
            dir=str(directory),
            config=config,
        )
        folder = directory / "wandb"
        self._earlier = sorted(folder.glob(f"{OFFLINE}*"))
        sent = any(folder.glob("run-*")) or any(folder.glob(f"*{OFFLINE}*/*.synced"))
        offline = mode == "offline"
        try:
            self._run = begin(mode="offline" if offline else "online")
        except (wandb.errors.Error, OSError) as error:
            _LOG.info(f"wandb: {error}; logging offline in {directory}")
            offline, self._run = True, begin(mode="offline")
        if sent and offline:
            _LOG.info(
                "wandb: rows of this run are at the server, and the new folder will have all of "
                "them: before you sync it, delete the run there, or give it a name with --id"
            )
        self._defined = set(STEPS)
        at_server = {key: self._run.summary.get(key) for key in STEPS}  # of a resumed run
        self._reached = {k: int(v) for k, v in at_server.items() if isinstance(v, int | float)}
        if self._reached:
            steps = ", ".join(f"{key} {reached:,}" for key, reached in self._reached.items())
            _LOG.info(
                f"wandb: the server has this run's rows up to {steps}: they are not sent again"
            )

    def resume(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            if all(row[key] > reached for key, reached in self._reached.items() if key in row):
                self._define(row)
                self._run.log(row)
        for folder in self._earlier:  # only now that the new one has all of their rows
            folder.rename(folder.with_name(f"{SUPERSEDED}{folder.name}"))
        self._earlier = []

    def write(self, row: dict[str, Any]) -> None:
        self.resume([row])

    def close(self) -> None:
        self._run.finish()

    def _define(self, row: dict[str, Any]) -> None:
        """Gives new keys their axis: training is ahead when an evaluation's row comes.

        Patterns would overlap ("*" matches all), and wandb's choice among them is undefined.
        """
        for key in row.keys() - self._defined:
            axis = "evaluation/step" if key.startswith("evaluation/") else "step"
            self._run.define_metric(key, step_metric=axis)
        self._defined |= row.keys()


class TensorBoardSink:
    """TensorBoard's event files, in `tensorboard/` of the run's folder.

    A resumed run has each row once: those that it keeps are written to a new file, and the earlier
    ones are emptied. (An open viewer would wait for a deleted one.)
    """

    def __init__(self, directory: Path):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        proto = "tensorboard.compat.proto"
        self._event = importlib.import_module(f"{proto}.event_pb2")
        self._summary = importlib.import_module(f"{proto}.summary_pb2").Summary
        folder = directory / "tensorboard"
        self._earlier = list(folder.glob("events.out.tfevents.*"))
        self._writer = EventFileWriter(str(folder))
        # A viewer drops what it has read of the earlier files.
        log = self._event.SessionLog
        self._add(0, session_log=log(status=log.START))

    def resume(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            (step,) = (row[key] for key in STEPS if key in row)
            values = [
                self._summary.Value(tag=key, simple_value=value)
                for key, value in row.items()
                if key not in STEPS and isinstance(value, int | float)
            ]
            self._add(step, summary=self._summary(value=values))
        self._writer.flush()
        for file in self._earlier:
            os.truncate(file, 0)
        self._earlier = []

    def write(self, row: dict[str, Any]) -> None:
        self.resume([row])

    def close(self) -> None:
        self._writer.close()

    def _add(self, step: int, **content: Any) -> None:
        self._writer.add_event(self._event.Event(wall_time=time.time(), step=step, **content))


class Logs:
    """`metrics.jsonl` and `evaluations.jsonl` in the run's directory, and further sinks."""

    def __init__(self, directory: Path, sinks: tuple[Sink, ...] = ()):
        self.metrics = JsonLines(directory / "metrics.jsonl")
        self.evaluations = JsonLines(directory / "evaluations.jsonl")
        self._sinks = sinks

    def write_metrics(self, row: dict[str, Any]) -> None:
        """Records a row of training metrics."""
        self.metrics.write(row)
        self._each_sink(lambda sink: sink.write(row))

    def write_evaluation(self, row: dict[str, Any]) -> None:
        """Records a row of evaluation results."""
        self.evaluations.write(row)
        self._each_sink(lambda sink: sink.write(_as_sent(row)))

    def positions(self) -> dict[str, int]:
        """The ends of both files, to cut back to on a resume."""
        return {"metrics": self.metrics.position(), "evaluations": self.evaluations.position()}

    def cut(self, positions: dict[str, int]) -> None:
        """Drops the rows that were written after `positions` were taken."""
        self.metrics.cut(positions["metrics"])
        self.evaluations.cut(positions["evaluations"])
        kept = [*self.metrics.rows(), *map(_as_sent, self.evaluations.rows())]
        if kept:
            self._each_sink(lambda sink: sink.resume(kept))

    def close(self) -> None:
        """Closes files and sinks."""
        self.metrics.close()
        self.evaluations.close()
        self._each_sink(lambda sink: sink.close())

    def _each_sink(self, action: Callable[[Sink], None]) -> None:
        """Drops a sink that fails: training continues, and the files have every row."""
        for sink in self._sinks:
            try:
                action(sink)
            except Exception as error:
                _LOG.info(f"{type(sink).__name__}: {error}; no more rows go there")
                self._sinks = tuple(kept for kept in self._sinks if kept is not sink)


def _as_sent(evaluation: dict[str, Any]) -> dict[str, Any]:
    """A row of an evaluation as it is sent to sinks, among those of training."""
    return {f"evaluation/{key}": value for key, value in evaluation.items()}
