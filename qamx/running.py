"""Runs: from an experiment to a finished run folder."""

import contextlib
import dataclasses
import logging
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax

from qamx import building
from qamx._utils.backend import check_jax, keep_programs, reserve_devices
from qamx._utils.files import atomic_write, package_version, read_json_lines
from qamx._utils.terminal import print_log_interactively
from qamx.agents import AbstractAgent
from qamx.callbacks import Callback, Callbacks
from qamx.config import Experiment, load
from qamx.data.source import files_of
from qamx.errors import ExitCode, RunError, UserError
from qamx.normalisation import Normalisation
from qamx.provenance import stamp
from qamx.trained_policy import TrainedPolicy, start_from_run
from qamx.training.evaluator import Acting
from qamx.training.guards import OutOfMemory, Stopped, locked, stop_immediately
from qamx.training.logs import Logs, Sink, TensorBoardSink, WandbSink
from qamx.training.loop import Runner
from qamx.training.plan import Intervals, RunPlan
from qamx.training.seed_group import SeedRun

LOGGER = logging.getLogger("qamx")

NARROW = 32
"""The widest layer with which seeds are trained together on a CPU."""

CHANGEABLE = (
    "logging.",
    "checkpoint.",
    "data.cache",
    "data.directory",
    "evaluation.workers",
    "compute.cache",
    "compute.devices",
    "compute.updates_per_dispatch",
)
"""Keys that may change between the start of a run and its continuation."""


def build(experiment: Experiment, task: building.LearningTask | None = None) -> RunPlan:
    """The plan of an experiment's run, all objects built.

    **Arguments:** `task` is its data and environment, where they have been built already.
    """
    agent, evaluation, compute = experiment.agent, experiment.evaluation, experiment.compute
    task = task or building.build_task(experiment.data, experiment.environment, agent.horizon)
    intervals = Intervals(experiment.logging.every, evaluation.every, experiment.checkpoint.every)
    initialise = partial(start_from_run, run=agent.initialise_from, scaling=task.scaling)
    dispatch = compute.updates_per_dispatch
    return RunPlan(
        seed=experiment.seed,
        make_agent=partial(building.initialise_agent, agent),
        optimiser=building.build_optimiser(agent),
        sampling=building.build_sampling(agent),
        schedule=building.build_schedule(experiment.schedule),
        data=task.data,
        make_environment=task.make_environment,
        scale_rewards=task.scaling.rewards,
        intervals=intervals,
        evaluation=building.build_evaluation(evaluation),
        keep_checkpoints=experiment.checkpoint.keep,
        initialise=initialise,
        precision=compute.precision,
        updates_per_dispatch=None if dispatch == "auto" else dispatch,
        devices=None if compute.devices == "auto" else compute.devices,
    )


def run(
    experiment: Experiment,
    directory: Path | str | None = None,
    callbacks: Sequence[Callback] = (),
) -> ExitCode:
    """Run an experiment in a directory, or resume it there.

    **Arguments:** `directory` is by default the one that `qamx run` takes,
    `runs/NAME-taskK-seedN`; `callbacks` are called with a `TrainingEvent` for each row of metrics
    and of evaluations, and may stop the run.

    **Raises:** `UserError` if the directory holds a run of another configuration, or the data
    cannot be had; the error of a callback, with all state saved.
    """
    if not isinstance(experiment, Experiment):
        raise UserError(f"experiment: found {experiment!r}; give qamx.load(...) of a file or name")
    print_log_interactively()
    return run_together([experiment], [Path(directory or experiment.directory)], callbacks)


def run_group(experiments: Sequence[Experiment], directory: Path | None, mode: str) -> ExitCode:
    """Run experiments that differ only in their seeds, together or one after the other.

    **Arguments:** `directory` gets a folder for each seed; with None each experiment has its
    default folder. `mode` is `vectorised`, `sequential`, or `auto` for what is faster here.
    """
    directories = [
        experiment.directory if directory is None else directory / f"seed{experiment.seed}"
        for experiment in experiments
    ]
    devices = experiments[0].compute.devices
    if mode != "sequential":
        reserve_devices(len(experiments), None if devices == "auto" else devices)
    together = mode == "vectorised" or (mode == "auto" and vectorise(experiments[0]))
    return (run_together if together else run_seeds)(experiments, directories)


def run_seeds(experiments: Sequence[Experiment], directories: Sequence[Path]) -> ExitCode:
    """Run experiments one after the other; returns the worst of their exit codes.

    A failure ends its own run alone, a stop all of them.
    """
    worst = ExitCode.DONE
    for experiment, directory in zip(experiments, directories, strict=True):
        try:
            code = run(experiment, directory)
        except RunError as error:
            LOGGER.error("seed %d stops: %s", experiment.seed, error)
            code = ExitCode.FAILED
        if code == ExitCode.INTERRUPTED:
            return code
        worst = max(worst, code)
    return worst


def run_together(
    experiments: Sequence[Experiment],
    directories: Sequence[Path],
    callbacks: Sequence[Callback] = (),
) -> ExitCode:
    """Run experiments that differ only in their seeds as one program.

    Each has its own folder, as if it ran alone. One that diverges stops, and the others continue;
    the exit code is then `FAILED`.

    **Raises:** `UserError` as `run`, and if the folders are at different steps.
    """
    if experiments[0].logging.tensorboard and find_spec("tensorboard") is None:
        raise UserError(
            "logging.tensorboard: tensorboard is not installed; pip install tensorboard, or set it "
            "to false"
        )
    if experiments[0].compute.cache:
        keep_programs()
    check_jax()
    LOGGER.info(header(experiments, directories))
    with contextlib.ExitStack() as stack:
        for experiment, directory in zip(experiments, directories, strict=True):
            _lock_run_directory(experiment, directory, stack)
        members: list[SeedRun] = []
        try:
            with stop_immediately():
                members += _members(experiments, directories, stack)
                on_row = _callbacks(experiments[0], directories[0], callbacks)
                runner = Runner(members, on_row)
            code = runner.run()
            on_row.raise_error()
        except Stopped:
            code = ExitCode.INTERRUPTED
        except OutOfMemory as error:
            raise RunError(f"{error}; {_memory_remedy(experiments[0])}") from error
        rows = [read_json_lines(directory / "evaluations.jsonl") for directory in directories]
    diverged = {member.directory for member in members if member.diverged is not None}
    for directory, evaluations in zip(directories, rows, strict=True):
        if directory not in diverged:
            _log_result(code, evaluations, directory)
    return code


def header(experiments: Sequence[Experiment], directories: Sequence[Path]) -> str:
    """The first line of a run: method, environment, seeds, device, versions and folder."""
    first, device = experiments[0], jax.devices()[0]
    environment = f"{first.environment.id} {first.environment.label}".rstrip()
    word = "seed" if len(experiments) == 1 else "seeds"
    seeds = ", ".join(str(experiment.seed) for experiment in experiments)
    machine = device.platform if device.platform == "cpu" else device.device_kind
    versions = f"qamx {package_version('qamx') or '(source tree)'}, JAX {jax.__version__}"
    place = directories[0] if len(directories) == 1 else directories[0].parent
    what = f"{first.agent.method} on {environment}, {word} {seeds}"
    return f"{what}; {machine} on {socket.gethostname()}; {versions}; {place}"


def _members(
    experiments: Sequence[Experiment], directories: Sequence[Path], stack: contextlib.ExitStack
) -> Iterator[SeedRun]:
    """The runs of a group, which share data and environment; their logs close with the stack."""
    one, first = experiments[0], directories[0]
    scaling = Normalisation.load(first) if holds_state(first) else None  # of the run resumed
    task = building.build_task(one.data, one.environment, one.agent.horizon, scaling)
    plan, files = build(one, task), files_of(task.data)
    for experiment, directory in zip(experiments, directories, strict=True):
        task.scaling.save(directory)
        stamp(directory, experiment, files, continued=holds_state(directory))
        logs = Logs(directory, _sinks(experiment, directory))
        stack.callback(logs.close)
        yield SeedRun(dataclasses.replace(plan, seed=experiment.seed), directory, logs)


def _callbacks(experiment: Experiment, directory: Path, functions: Sequence[Callback]) -> Callbacks:
    scaling = Normalisation.load(directory)
    horizon, precision = experiment.agent.horizon, experiment.compute.precision

    def make_policy(agent: AbstractAgent, acting: Acting) -> TrainedPolicy:
        return TrainedPolicy(agent, scaling, horizon, precision, acting)

    return Callbacks(functions, make_policy)


def vectorise(experiment: Experiment) -> bool:
    """True if several seeds are expected to be faster as one program than one after the other:
    on an accelerator, on several cores, and with tiny networks (measured in docs/performance.md).
    """
    check_jax()
    agent = experiment.agent
    narrow = max(*agent.actor_hidden, *agent.critic_hidden) <= NARROW
    return narrow or jax.default_backend() != "cpu" or jax.local_device_count() > 1


def _lock_run_directory(
    experiment: Experiment, directory: Path, stack: contextlib.ExitStack
) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(directory))
        check_or_write_config(directory, experiment)
    except OSError as error:
        message = f"{directory}: cannot hold a run ({error.strerror}); name another with --out"
        raise UserError(message) from error


def _memory_remedy(experiment: Experiment) -> str:
    agent = experiment.agent
    return (
        f"lower agent.batch_size ({agent.batch_size}), agent.ensemble_size "
        f"({agent.ensemble_size}), agent.critic_hidden or actor_hidden, or, for the replay, the "
        "schedule's online_steps; data that does not fit goes into a folder of smaller shards, of "
        "which one is on the device at a time (data.updates_per_shard)"
    )


def check_or_write_config(directory: Path, experiment: Experiment) -> None:
    """Write the resolved experiment into a new directory, or compare it with the one that is there.

    **Raises:** `UserError` with every differing key.
    """
    path = directory / "config.toml"
    if path.exists() and holds_state(directory):
        differences = [
            f"  {key}: {theirs!r} there, {mine!r} here"
            for key, mine, theirs in experiment.differences(load(path))
            if not key.startswith(CHANGEABLE) and not _extends_run(key, mine, theirs)
        ]
        if differences:
            raise UserError(
                f"{directory} holds a run of another configuration:\n"
                + "\n".join(differences)
                + "\nname another directory with --out, or delete this one"
            )
    atomic_write(path, experiment.to_toml())


def holds_state(directory: Path) -> bool:
    """True if a run can be resumed there; until then another configuration does no harm."""
    checkpoints = directory / "checkpoints"
    return checkpoints.is_dir() and any(checkpoints.iterdir())


def _extends_run(key: str, mine: Any, theirs: Any) -> bool:
    """True if only the last phase becomes longer, with which a finished run may continue."""
    return key == "schedule.online_steps" and None not in (mine, theirs) and mine >= theirs


def _sinks(experiment: Experiment, directory: Path) -> tuple[Sink, ...]:
    settings, name, sinks = experiment.logging, experiment.run_name, []
    mode, project = settings.wandb, settings.wandb_project
    if mode != "disabled":
        sinks.append(WandbSink(directory, project, name, mode, experiment.to_dict()))
    if settings.tensorboard:
        sinks.append(TensorBoardSink(directory))
    return tuple(sinks)


def _log_result(code: ExitCode, rows: list[dict[str, Any]], directory: Path) -> None:
    if code == ExitCode.INTERRUPTED:
        LOGGER.info("stopped; all state is saved in %s. The same command continues.", directory)
    elif rows:
        last = rows[-1]
        cloned = last.get("behaviour_success")
        clone = "" if cloned is None else f", behaviour cloning {cloned:.0%}"
        success = f"{last['success']:.0%}{clone} at step {last['step']:,}"
        LOGGER.info("done: success %s; %s", success, directory)
