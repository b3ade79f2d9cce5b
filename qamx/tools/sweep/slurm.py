"""Slurm: the cluster file, and a sweep's jobs."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field, Strict, ValidationInfo, field_validator

from qamx._utils.machine import visible_gpus
from qamx.config.fields import (
    Allowed,
    Count,
    DefaultText,
    PositiveFloat,
    PositiveInt,
    Settings,
    Switch,
    Text,
)
from qamx.config.messages import ConfigError, show, value_problem
from qamx.config.toml import ConfigTree, validated
from qamx.errors import ExitCode, RunError, UserError, install_extra
from qamx.tools.sweep.jobs import SweepFolder
from qamx.tools.sweep.local import Pool
from qamx.training.guards import StopRequest

if TYPE_CHECKING:
    from submitit import SlurmExecutor
    from submitit.core.utils import DelayedSubmission


_TIME = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)")

Lines = Annotated[
    tuple[Text, ...], Strict(False), Allowed('a list of lines, e.g. ["module load cuda"]')
]
SlurmText = Annotated[Text | None, DefaultText("Slurm's own")]


class ClusterSettings(Settings):
    """One cluster, or one of its partitions: resources of a job, and the runs in it."""

    partition: SlurmText = Field(default=None, description="as the option of `sbatch`")
    account: SlurmText = Field(default=None, description="as the option of `sbatch`")
    qos: SlurmText = Field(default=None, description="as the option of `sbatch`")
    constraint: SlurmText = Field(
        default=None, examples=["a5000"], description="as the option of `sbatch`"
    )
    gpus: Count = Field(default=1, description="GPUs of a job")
    cpus: PositiveInt = Field(
        default=8, description="cores of a job, for environments and evaluations"
    )
    memory_gb: PositiveFloat = Field(default=32.0, description="memory of a job")
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
        default=1, description="processes on each GPU; without GPUs, processes of a job"
    )
    seeds_per_process: Annotated[PositiveInt | None, DefaultText("the suite's")] = Field(
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
        """The number of processes in a job."""
        return max(self.gpus, 1) * self.processes_per_gpu


def load_cluster(path: str | Path) -> ClusterSettings:
    """Reads and validates a cluster's file.

    **Raises:** `ConfigError` with every problem of the file.
    """
    tree = ConfigTree(Path(path))
    settings = validated(tree, ClusterSettings)
    if settings is None:
        raise ConfigError(tree.problems)
    return settings


def _seconds(time: str) -> int:
    found = _TIME.fullmatch(time)
    assert found is not None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


REQUEUES = 1000
"""The limit of time-outs of a job, which resumes after each."""

LONGEST_ARRAY = 1000
"""Slurm's default limit."""


class SlurmJob(Protocol):
    """Work for a job: processes, by name."""

    @property
    def processes(self) -> tuple[str, ...]:
        """The names of the processes."""
        ...

    def __call__(self) -> int:
        """Runs them."""
        ...


@dataclass(frozen=True)
class SweepJob:
    """A job: processes of a sweep, `width` at a time."""

    directory: Path
    processes: tuple[str, ...]
    width: int

    def __call__(self) -> int:
        """Runs the processes that an earlier slot has not completed.

        **Raises:** as `run_in_job`.
        """

        def work(stop: StopRequest) -> ExitCode:
            folder = SweepFolder(self.directory)
            left = [name for name in self.processes if folder.exit_code_of(name) != ExitCode.DONE]
            return Pool(folder, self.width, visible_gpus(), stop).run(left)

        return run_in_job(self.directory, work)

    def checkpoint(self) -> "DelayedSubmission":
        """The job to requeue, for submitit."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_in_job(directory: Path, work: Callable[[StopRequest], ExitCode]) -> int:
    """Does the work of a job, which the job's signals stop.

    **Raises:** `RunError` if a run failed, `SystemExit` with `ExitCode.INTERRUPTED` if runs are to
    resume later.
    """
    stop = StopRequest()
    with _stop_on_signals(stop) as warned:
        code = work(stop)
    if code == ExitCode.INTERRUPTED:
        if warned.is_set():
            signal.raise_signal(_warning())  # submitit requeues the job and ends
        raise SystemExit(int(code))
    if code == ExitCode.FAILED:
        raise RunError(f"a run failed; qamx status {directory} shows its last lines")
    return int(code)


def _warning() -> signal.Signals:
    """submitit's signal near the time limit."""
    from submitit import JobEnvironment

    return JobEnvironment._usr_sig()


@contextlib.contextmanager
def _stop_on_signals(stop: StopRequest) -> Iterator[threading.Event]:
    """Signals request the stop; the event is set by a warning of the time limit, not by SIGTERM.

    submitit's handler of the warning would end the process at once. It is restored on exit, when
    the runs have saved their state.
    """
    warned = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGTERM:
            warned.set()
        stop.make()

    numbers = {signal.SIGTERM, signal.SIGUSR1, _warning()}
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield warned
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def submit(
    jobs: Sequence[SlurmJob], executor: Any, cluster: ClusterSettings | None = None
) -> dict[str, str]:
    """Submits jobs as arrays; returns the job number of each process.

    **Arguments:** `executor` is submitit's, with the settings of `cluster`; `SBATCH_ACCOUNT` and
    similar variables fill in missing ones.
    """
    numbers = {}
    with _submission_environment(cluster):
        for first in range(0, len(jobs), LONGEST_ARRAY):
            part = jobs[first : first + LONGEST_ARRAY]
            for job, sent in zip(part, executor.submit_array(part), strict=True):
                numbers |= dict.fromkeys(job.processes, sent.job_id)
    return numbers


OF_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_")
"""Prefixes of a job's variables, which sbatch and srun obey and a nested job would inherit:
processor binding, memory, tasks."""

REACHING = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_CLUSTERS", "SBATCH_CLUSTERS")
"""Variables that select the Slurm."""

LEFT_OPEN = ("account", "partition", "qos", "constraint", "reservation")
"""Settings that a user's `SBATCH_` variables may give if the cluster file does not (sbatch prefers
them to the batch script)."""

GRANTED = ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
"""Device variables of the surrounding job."""


@contextlib.contextmanager
def _submission_environment(cluster: ClusterSettings | None) -> Iterator[None]:
    """Hides environment variables that would change the submitted jobs."""
    given = {} if cluster is None else cluster.model_dump(exclude_none=True)
    given |= given.get("options", {})
    kept = {f"SBATCH_{key.upper()}" for key in LEFT_OPEN if key not in given} | set(REACHING)
    hidden = {name for name in os.environ if name.startswith(OF_A_JOB)} - kept
    if "SLURM_JOB_ID" in os.environ:
        hidden |= {name for name in GRANTED if name in os.environ}
    before = {name: os.environ.pop(name) for name in hidden}
    try:
        yield
    finally:
        os.environ.update(before)


def make_executor(directory: Path, name: str, cluster: ClusterSettings) -> "SlurmExecutor":
    """The submitit executor of this machine's Slurm, with a cluster file's resources.

    **Raises:** `UserError` without submitit or Slurm.
    """
    if shutil.which("sbatch") is None:
        raise UserError("--on slurm: no sbatch here; submit from a machine of the cluster")
    try:
        from submitit import SlurmExecutor
    except ImportError as error:
        text = f"--on slurm: submitit is missing; {install_extra('slurm')}"
        raise UserError(text) from error
    executor = SlurmExecutor(directory / "_sweep" / "slurm", max_num_timeout=REQUEUES)
    executor.update_parameters(**_parameters(name, cluster))
    return executor


def batch_script(directory: Path, name: str, cluster: ClusterSettings) -> str:
    """The batch script of a job, as submitit writes it; its last line starts the job's processes.

    **Raises:** `UserError` without submitit.
    """
    try:
        from submitit.slurm.slurm import _make_sbatch_string
    except ImportError as error:
        raise UserError('--on slurm: submitit is missing; pip install -e ".[slurm]"') from error
    folder = directory / "_sweep" / "slurm"
    command = f"python -m submitit.core._submit {folder}"
    return _make_sbatch_string(command, folder, **_parameters(name, cluster))


def _parameters(name: str, cluster: ClusterSettings) -> dict[str, Any]:
    """A cluster's settings by submitit's names."""
    named = {"partition", "account", "qos", "constraint"}
    return {
        **cluster.model_dump(include=named, exclude_none=True),
        **({"gpus_per_node": cluster.gpus} if cluster.gpus else {}),
        "job_name": name,
        "cpus_per_task": cluster.cpus,
        "mem": f"{round(cluster.memory_gb * 1024)}M",
        "time": cluster.minutes,
        "signal_delay_s": cluster.grace,
        "array_parallelism": cluster.jobs_at_once,
        "setup": list(cluster.setup),
        "wckey": None,  # submitit's default may be unknown to the cluster
        # srun does not take over the processors that sbatch was asked for.
        "srun_args": [f"--cpus-per-task={cluster.cpus}"],
        "additional_parameters": {"requeue": True, **cluster.options},
    }


def active_jobs() -> dict[str, str]:
    """The states of this user's waiting and running jobs.

    **Raises:** `UserError` if Slurm does not answer.
    """
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i %T"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        return {}
    except subprocess.CalledProcessError as error:
        raise UserError(f"squeue does not answer: {error.stderr.strip()}") from error
    return dict(line.split(maxsplit=1) for line in listed.stdout.splitlines())
