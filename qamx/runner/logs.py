"""The run's records: JSON lines on disk (the source of truth) and, where asked for, wandb."""

import contextlib
import functools
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from qamx.errors import RunError, UserError
from qamx.runner.disk import explain

FROZEN = "diverged.json"
"""The file, in a run's folder, that says when and why the run left its group."""

LONGEST_ROW = 2**14
"""Bytes within which the last row of a file is looked for."""


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
            raise RunError(explain(error, self._path.parent)) from error

    def position(self) -> int:
        """The end of the file, in bytes."""
        self._file.seek(0, 2)
        return self._file.tell()

    def cut(self, position: int) -> None:
        """Drops all that was written after `position`.

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
        """Every row."""
        self._file.seek(0)
        rows = [json.loads(line) for line in self._file]
        self._file.seek(0, 2)
        return rows

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def whole_rows(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a file that may be written to meanwhile; none where there is no file.

    **Raises:** `UserError` for a line that is not JSON.
    """
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise UserError(f"{path}: a line is not JSON ({error}); restore the file") from error


def last_row(path: Path) -> dict[str, Any]:
    """The last whole row of a file that may be written to meanwhile; empty without one."""
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        file.seek(max(0, file.seek(0, io.SEEK_END) - LONGEST_ROW))
        lines = file.read().split(b"\n")
        if len(lines) > 1:
            return json.loads(lines[-2])
    return {}


class Sink(Protocol):
    """Somewhere else that rows go to."""

    def write(self, row: dict[str, Any]) -> None:
        """Sends one row."""
        ...

    def close(self) -> None:
        """Sends what is pending."""
        ...


class WandbSink:
    """Weights & Biases; in offline mode nothing leaves the machine and no account is needed.

    **Arguments:** `mode` is "online" or "offline", `config` the resolved experiment.
    """

    def __init__(self, directory: Path, project: str, name: str, mode: str, config: dict[str, Any]):
        import wandb
        import wandb.errors

        # The same for each continuation in this directory, and for no other run.
        place = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:8]
        begin = functools.partial(
            wandb.init,
            project=project,
            name=name,
            id=f"{name}-{place}",
            resume="allow",
            reinit="create_new",  # a group of seeds has a run each in one process
            dir=str(directory),
            config=config,
        )
        try:
            self._run = begin(mode="offline" if mode == "offline" else "online")
        except (wandb.errors.Error, OSError) as error:
            print(f"wandb: {error}; logging offline in {directory}", flush=True)
            self._run = begin(mode="offline")

        # An evaluation's row comes after training has gone on: each kind has an axis of its own.
        self._run.define_metric("*", step_metric="step")
        self._run.define_metric("evaluation/*", step_metric="evaluation/step")

    def write(self, row: dict[str, Any]) -> None:
        self._run.log(row)

    def close(self) -> None:
        self._run.finish()


class Logs:
    """`metrics.jsonl` and `evaluations.jsonl` in the run's directory, and further sinks."""

    def __init__(self, directory: Path, sinks: tuple[Sink, ...] = ()):
        self.metrics = JsonLines(directory / "metrics.jsonl")
        self.evaluations = JsonLines(directory / "evaluations.jsonl")
        self._sinks = sinks

    def write_metrics(self, row: dict[str, Any]) -> None:
        """Records a row of training metrics."""
        self.metrics.write(row)
        self._send(row)

    def write_evaluation(self, row: dict[str, Any]) -> None:
        """Records a row of evaluation results."""
        self.evaluations.write(row)
        self._send({f"evaluation/{k}": v for k, v in row.items()})

    def positions(self) -> dict[str, int]:
        """The ends of both files, to cut back to on a resume."""
        return {
            "metrics": self.metrics.position(),
            "evaluations": self.evaluations.position(),
        }

    def cut(self, positions: dict[str, int]) -> None:
        """Drops the rows that were written after `positions` were taken."""
        self.metrics.cut(positions["metrics"])
        self.evaluations.cut(positions["evaluations"])

    def close(self) -> None:
        """Closes files and sinks."""
        self.metrics.close()
        self.evaluations.close()
        for sink in self._sinks:
            self._attempt(sink, sink.close)

    def _send(self, row: dict[str, Any]) -> None:
        for sink in self._sinks:
            self._attempt(sink, functools.partial(sink.write, row))

    def _attempt(self, sink: Sink, action: Callable[[], None]) -> None:
        """Gives up a sink that fails: training goes on, and the files have every row."""
        try:
            action()
        except Exception as error:
            print(f"{type(sink).__name__}: {error}; no more rows go there", flush=True)
            self._sinks = tuple(other for other in self._sinks if other is not sink)
