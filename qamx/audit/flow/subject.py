"""What is inspected: a run as its folder tells it, without a lock and without a change to it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qamx.agents import AbstractAgent
from qamx.config import Experiment
from qamx.data.source import scaled
from qamx.data.transitions import Transitions
from qamx.errors import UserError
from qamx.normalisation import ScaledEnvironment, Scaling
from qamx.provenance import read
from qamx.trained_policy import load_experiment, load_snapshot
from qamx.training.logs import whole_rows
from qamx.worlds import build_data, build_environment

Row = dict[str, Any]
"""A line of the run's records."""


@dataclass(frozen=True)
class Subject:
    """A run, and the agent of its newest intact checkpoint.

    **Arguments:** `step` is the checkpoint's; `data` is the first shard in the policy's units,
    None where the files do not lie here; `metrics` and `evaluations` are the run's records.
    """

    directory: Path
    experiment: Experiment
    agent: AbstractAgent
    step: int
    scaling: Scaling
    data: Transitions | None
    metrics: list[Row]
    evaluations: list[Row]

    @property
    def phase(self) -> str:
        """The phase in which the checkpoint was saved, as the log tells it."""
        later = [row["phase"] for row in self.metrics if row["step"] >= self.step]
        return [*later, *(row["phase"] for row in self.metrics[-1:]), "not logged yet"][0]

    @property
    def evaluation(self) -> Row | None:
        """The last evaluation that the checkpoint has seen."""
        rows = [row for row in self.evaluations if row["step"] <= self.step]
        return rows[-1] if rows else None

    def open_environment(self) -> ScaledEnvironment:
        """The environment in the policy's units."""
        return ScaledEnvironment(build_environment(self.experiment.environment), self.scaling)


def find_subject(directory: Path) -> Subject:
    """The run of a folder.

    **Raises:** `UserError` if the folder holds no run or no intact checkpoint, or its data are
    damaged.
    """
    experiment = load_experiment(directory)
    try:
        step, agent = load_snapshot(directory)
    except UserError as error:
        broken = not_finite_at(directory)
        raise UserError(f"{error}{broken and f' (but: {broken})'}") from error
    scaling = Scaling.load(directory)
    return Subject(
        directory,
        experiment,
        agent,
        step,
        scaling,
        _data(directory, experiment, scaling),
        whole_rows(directory / "metrics.jsonl"),
        whole_rows(directory / "evaluations.jsonl"),
    )


def not_finite_at(directory: Path) -> str:
    """What the run says of an update that brought numbers that are not finite; empty without."""
    reports = [json.loads(p.read_bytes()) for p in directory.glob("nonfinite/step-*/report.json")]
    if not reports:
        return ""
    last = max(reports, key=lambda report: report["step"])
    return (
        f"update {last['update']:,} brought {', '.join(last['not_finite'])} that is not finite; "
        f"nonfinite/step-{last['step']} has its batch"
    )


def _data(directory: Path, experiment: Experiment, scaling: Scaling) -> Transitions | None:
    """The data if all their files are where the run had them: nothing is made or downloaded."""
    files = [Path(entry["file"]) for entry in read(directory)["data"]]
    if not all(file.exists() for file in files):
        return None
    source = build_data(experiment.data, experiment.environment)
    return scaled(scaling, source.load(0))
