"""All numbers of a report, for a script."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import numpy as np

from qamx.audit.flow.checks import readings
from qamx.audit.flow.report import Report


def numbers(report: Report) -> dict[str, Any]:
    """The report as JSON has it: arrays as lists, and None for what is not finite."""
    subject, found = report.subject, report.measures.found
    return _plain(
        {
            "run": str(subject.directory),
            "method": subject.experiment.agent.method,
            "step": subject.step,
            "phase": subject.phase,
            "evaluation": subject.evaluation,
            "seed": report.seed,
            "not_finite": report.measures.broken,
            "readings": [dataclasses.asdict(reading) for reading in readings(report)],
            "states": report.states,
            "stages": [
                {"name": name, **vars(stage)}
                for name, stage in zip(report.measures.names, found.stages, strict=True)
            ],
            "data_values": found.data_values,
            "windows": report.windows,
            "window_values": found.window_values,
            "gains": report.gains,
            "path_kls": report.path_kls,
            "paths": found.paths,
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, eqx.Module) or dataclasses.is_dataclass(value):
        return _plain(vars(value))
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
