"""Cluster files: what a Slurm cluster grants to a job, and how runs share it."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, Strict, ValidationInfo, field_validator

from qamx.config.fields import (
    Absent,
    Allowed,
    Count,
    PositiveFloat,
    PositiveInt,
    Settings,
    Switch,
    Text,
)
from qamx.config.messages import ConfigError, show, value_problem
from qamx.config.toml import Tree, validated

_TIME = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)")

Lines = Annotated[
    tuple[Text, ...], Strict(False), Allowed('a list of lines, e.g. ["module load cuda"]')
]
SlurmText = Annotated[Text | None, Absent("Slurm's own")]


class ClusterSettings(Settings):
    """One cluster, or one of its partitions: resources of a job, and the runs in it."""

    partition: SlurmText = Field(default=None, description="as of `sbatch`")
    account: SlurmText = Field(default=None, description="as of `sbatch`")
    qos: SlurmText = Field(default=None, description="as of `sbatch`")
    constraint: SlurmText = Field(default=None, examples=["a5000"], description="as of `sbatch`")
    gpus: Count = Field(default=1, description="of a job")
    cpus: PositiveInt = Field(
        default=8, description="of a job; environments and evaluations run on them"
    )
    memory_gb: PositiveFloat = Field(default=32.0, description="of a job")
    time: Annotated[str, Allowed("hours, minutes and seconds")] = Field(
        default="24:00:00",
        examples=["24:00:00"],
        description="the time limit of one slot, `HH:MM:SS` or `D-HH:MM:SS`; a sweep may need many",
    )
    grace: PositiveInt = Field(
        default=120, description="seconds before the time limit at which runs are told to save"
    )
    jobs_at_once: PositiveInt = Field(
        default=256, description="jobs of an array that run at a time"
    )
    processes_per_gpu: PositiveInt = Field(
        default=1, description="processes on each GPU; without GPUs, in a job"
    )
    seeds_per_process: Annotated[PositiveInt | None, Absent("the suite's")] = Field(
        default=None, examples=[4], description="seeds trained together"
    )
    setup: Lines = Field(default=(), description="lines of shell, before the job's own command")
    options: Annotated[
        dict[str, str | int | Switch], Allowed('a table of options, e.g. { nice = "100" }')
    ] = Field(default={}, description="further options of `sbatch`, by their long names")

    @field_validator("time")
    @classmethod
    def _is_time(cls, text: str) -> str:
        if not _TIME.fullmatch(text) or not _seconds(text):
            raise value_problem(
                f'found {show(text)}; write hours, minutes and seconds, e.g. "24:00:00", with days '
                'before them, if any, e.g. "2-00:00:00"'
            )
        return text

    @field_validator("grace")
    @classmethod
    def _fits(cls, grace: int, info: ValidationInfo) -> int:
        time = info.data.get("time")
        if time is not None and grace >= _seconds(time):
            raise value_problem(
                f"found {grace}, which leaves nothing of the time {show(time)}; write fewer seconds"
            )
        return grace

    @property
    def minutes(self) -> int:
        """The time limit, in whole minutes, as Slurm counts it."""
        return -(-_seconds(self.time) // 60)

    @property
    def processes(self) -> int:
        """How many processes a job holds."""
        return max(self.gpus, 1) * self.processes_per_gpu


def load_cluster(path: str | Path) -> ClusterSettings:
    """Reads and validates a cluster's file.

    **Raises:** `ConfigError` with every problem of the file.
    """
    tree = Tree(Path(path))
    settings = validated(tree, ClusterSettings)
    if settings is None:
        raise ConfigError(tree.problems)
    return settings


def _seconds(time: str) -> int:
    found = _TIME.fullmatch(time)
    assert found is not None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
