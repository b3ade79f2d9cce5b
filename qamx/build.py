"""From a validated experiment to a run.

Configuration becomes objects here and, for the agent by itself, in `qamx.assembly`, for data and
environment in `qamx.worlds`. The functions that the registry names for the built-in entries stand
in these three. A plugin's builders have the
same signatures:

- agent: `(settings, parts, key) -> AbstractAgent`, or an agent class, whose keyword arguments are
  then the settings of the same names
- schedule: `(settings) -> Schedule`
- environment: `(settings) -> Callable[[], Environment]`
- data set: `(settings, environment_settings) -> DataSource`
- inverse temperature: `(settings) -> AbstractInverseTemperature`
"""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from qamx import registry
from qamx._utils.backend import check_jax
from qamx._utils.machine import usable_cores
from qamx.agents import AbstractAgent
from qamx.assembly import build_agent, build_optimiser, build_sampling, builder_of
from qamx.config import Experiment, load
from qamx.config.experiment import EvaluationSettings, ScheduleSettings
from qamx.config.schedules import (
    CloningSettings,
    LearningSettings,
    OfflineSettings,
    OfflineToOnlineSettings,
    OnlineSettings,
)
from qamx.data.source import files_of
from qamx.errors import ExitCode, RunError, UserError
from qamx.normalisation import Scaling
from qamx.provenance import stamp
from qamx.schedules import Cloning, Offline, Online, Schedule
from qamx.trained_policy import load_agent
from qamx.training.guards import OutOfMemory, Stopped, locked, stop_immediately
from qamx.training.logs import JsonLines, Logs, Sink, WandbSink
from qamx.training.loop import Runner
from qamx.training.plan import Evaluation, Intervals, RunPlan
from qamx.training.seed_group import SeedRun
from qamx.worlds import World, build_world

NARROW = 32
"""The widest layer with which seeds are trained together on a CPU."""

CHANGEABLE = (
    "logging.",
    "checkpoint.",
    "data.cache",
    "data.directory",
    "evaluation.workers",
    "compute.updates_per_dispatch",
)
"""Keys that may change between the start of a run and its continuation."""


# --- the whole run ---


def run(experiment: Experiment, directory: Path) -> ExitCode:
    """Carries out an experiment in a directory, or continues it there; returns an exit code.

    **Raises:** `UserError` if the directory holds a run of another configuration, or the data
    cannot be had.
    """
    return run_together([experiment], [directory])


def run_seeds(experiments: Sequence[Experiment], directories: Sequence[Path]) -> ExitCode:
    """Carries out experiments one after the other; the worst of their exit codes.

    A failure ends its own run alone, and a stop all of them.
    """
    worst = ExitCode.DONE
    for experiment, directory in zip(experiments, directories, strict=True):
        try:
            code = run(experiment, directory)
        except RunError as error:
            print(f"seed {experiment.seed} does not go on: {error}", file=sys.stderr, flush=True)
            code = ExitCode.FAILED
        if code == ExitCode.INTERRUPTED:
            return code
        worst = max(worst, code)
    return worst


def run_together(experiments: Sequence[Experiment], directories: Sequence[Path]) -> ExitCode:
    """Carries out experiments that differ in their seeds alone, as one program.

    Each has a folder of its own, as if it ran alone. One that diverges is left where it stands,
    and the others go on; the exit code is then `FAILED`.

    **Raises:** `UserError` as `run`, and if the folders stand at different steps.
    """
    check_jax()
    with contextlib.ExitStack() as held:
        pairs = list(zip(experiments, directories, strict=True))
        members: list[SeedRun] = []
        for experiment, directory in pairs:
            _hold(experiment, directory, held)
        try:
            with stop_immediately():
                world = _world(experiments[0], directories[0])
                plan, files = build(experiments[0], world), files_of(world.data)
                for experiment, directory in pairs:
                    world.scaling.save(directory)
                    stamp(directory, experiment, files, continued=holds_state(directory))
                    logs = Logs(directory, _sinks(experiment, directory))
                    held.callback(logs.close)
                    own = dataclasses.replace(plan, seed=experiment.seed)
                    members.append(SeedRun(own, directory, logs))
                runner = Runner(members)
            code = runner.run()
        except Stopped:
            code = ExitCode.INTERRUPTED
        except OutOfMemory as error:
            raise RunError(f"{error}; {_sizes(experiments[0])}") from error
        rows = [JsonLines(directory / "evaluations.jsonl").rows() for _, directory in pairs]
    left = {member.directory for member in members if member.diverged is not None}
    for (_, directory), found in zip(pairs, rows, strict=True):
        if directory not in left:
            _say_outcome(code, found, directory)
    return code


def _world(experiment: Experiment, directory: Path) -> World:
    """Data and environment, in the units of the run that goes on, if one does."""
    scaling = Scaling.load(directory) if holds_state(directory) else None
    return build_world(experiment.data, experiment.environment, experiment.agent.horizon, scaling)


def vectorise(experiment: Experiment) -> bool:
    """Whether several seeds are faster as one program than one after the other.

    On an accelerator they are expected to be; on a CPU only with tiny networks
    (docs/performance.md has what was measured).
    """
    check_jax()
    agent = experiment.agent
    narrow = max(*agent.actor_hidden, *agent.critic_hidden) <= NARROW
    return jax.default_backend() != "cpu" or narrow


def _hold(experiment: Experiment, directory: Path, held: contextlib.ExitStack) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        held.enter_context(locked(directory))
        claim(directory, experiment)
    except OSError as error:
        raise UserError(
            f"{directory}: cannot hold a run ({error.strerror}); name another with --out"
        ) from error


def _sizes(experiment: Experiment) -> str:
    agent = experiment.agent
    return (
        f"lower agent.batch_size ({agent.batch_size}), agent.ensemble_size "
        f"({agent.ensemble_size}), agent.critic_hidden or actor_hidden, or, for the replay, the "
        "schedule's online_steps; data that does not fit goes into a folder of smaller shards, of "
        "which one is on the device at a time (data.updates_per_shard)"
    )


def build(experiment: Experiment, world: World | None = None) -> RunPlan:
    """The objects that an experiment names.

    **Arguments:** `world` is its data and environment, where they have been built already.
    """
    agent, evaluation, compute = experiment.agent, experiment.evaluation, experiment.compute
    world = world or build_world(experiment.data, experiment.environment, agent.horizon)
    return RunPlan(
        seed=experiment.seed,
        make_agent=functools.partial(build_agent, agent),
        optimiser=build_optimiser(agent),
        sampling=build_sampling(agent),
        schedule=build_schedule(experiment.schedule),
        data=world.data,
        make_environment=world.make_environment,
        scale_rewards=world.scaling.rewards,
        intervals=Intervals(
            experiment.logging.every, evaluation.every, experiment.checkpoint.every
        ),
        evaluation=build_evaluation(evaluation),
        keep_checkpoints=experiment.checkpoint.keep,
        initialise=functools.partial(initialise, run=agent.initialise_from, scaling=world.scaling),
        precision=compute.precision,
        updates_per_dispatch=(
            None if compute.updates_per_dispatch == "auto" else compute.updates_per_dispatch
        ),
    )


def build_evaluation(settings: EvaluationSettings) -> Evaluation:
    """What `[evaluation]` describes; one process a core, if the file leaves that open."""
    workers = settings.workers
    if workers == "auto":
        workers = min(usable_cores(), settings.environments, settings.episodes)
    return Evaluation(settings.episodes, settings.environments, settings.behaviour, workers)


def initialise(agent: AbstractAgent, run: str | None, scaling: Scaling) -> AbstractAgent:
    """The agent with the clone of the data that another run learned, if one is named.

    **Raises:** `UserError` if the run cannot be read, learned in other units than `scaling`, or
    its clone is another kind of network.
    """
    if run is None:
        return agent
    clone = load_agent(run).policy.clone
    if not scaling.has_units_of(Scaling.load(Path(run))):
        raise UserError(
            f"agent.initialise_from: {run} learned in other units of observations or actions; "
            "write data.normalise_observations and data.scale_actions as there, and name its data"
        )
    mine, theirs = (jax.tree.map(_shape, part) for part in (agent.policy.clone, clone))
    if jax.tree.structure(mine) != jax.tree.structure(theirs) or mine != theirs:
        raise UserError(
            f"agent.initialise_from: {run} clones the data with {_describe(clone)}, this method "
            f"with {_describe(agent.policy.clone)}; name a run whose network is the same"
        )
    return agent.start_from(clone)


def _shape(leaf: Any) -> Any:
    return (leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf


def _describe(clone: PyTree) -> str:
    shapes = [str(leaf.shape) for leaf in jax.tree.leaves(clone) if eqx.is_array(leaf)]
    return f"a {type(clone).__name__} of arrays {', '.join(shapes)}"


def build_schedule(settings: ScheduleSettings) -> Schedule:
    """The phases that `[schedule]` describes."""
    return builder_of(registry.schedules, settings.kind)(settings)


def claim(directory: Path, experiment: Experiment) -> None:
    """Writes the resolved experiment into a new directory, or checks the one that is there.

    **Raises:** `UserError` with every differing key.
    """
    path = directory / "config.toml"
    if path.exists() and holds_state(directory):
        differences = [
            f"  {key}: {theirs!r} there, {mine!r} here"
            for key, mine, theirs in experiment.differences(load(path))
            if not key.startswith(CHANGEABLE) and not _grows(key, mine, theirs)
        ]
        if differences:
            raise UserError(
                f"{directory} holds a run of another configuration:\n"
                + "\n".join(differences)
                + "\nname another directory with --out, or delete this one"
            )
    partial = path.with_suffix(".partial")
    partial.write_text(experiment.to_toml(), encoding="utf-8")
    partial.replace(path)


def holds_state(directory: Path) -> bool:
    """Whether a run can go on there; before that, another configuration can spoil nothing."""
    checkpoints = directory / "checkpoints"
    return checkpoints.is_dir() and any(checkpoints.iterdir())


def _grows(key: str, mine: Any, theirs: Any) -> bool:
    """A finished run may go on: the last phase may be made longer."""
    return key == "schedule.online_steps" and None not in (mine, theirs) and mine >= theirs


def _sinks(experiment: Experiment, directory: Path) -> tuple[Sink, ...]:
    logging = experiment.logging
    if logging.wandb == "disabled":
        return ()
    config = experiment.to_dict()
    return (
        WandbSink(directory, logging.wandb_project, experiment.run_name, logging.wandb, config),
    )


def _say_outcome(code: ExitCode, rows: list[dict[str, Any]], directory: Path) -> None:
    if code == ExitCode.INTERRUPTED:
        print(f"stopped; all state is saved in {directory}. The same command continues.")
    elif rows:
        last = rows[-1]
        cloned = last.get("behaviour_success")
        beside = "" if cloned is None else f", behaviour cloning {cloned:.0%}"
        print(f"done: success {last['success']:.0%}{beside} at step {last['step']:,}; {directory}")


# --- what the registry's built-in names stand for ---


def cloning(settings: CloningSettings) -> Schedule:
    """`kind = "cloning"`."""
    return Schedule((Cloning(settings.cloning_steps),))


def offline(settings: OfflineSettings) -> Schedule:
    """`kind = "offline"`."""
    return Schedule((*_cloning(settings), Offline(settings.offline_steps)))


def online(settings: OnlineSettings) -> Schedule:
    """`kind = "online"`."""
    return Schedule((*_cloning(settings), _online(settings)))


def offline_to_online(settings: OfflineToOnlineSettings) -> Schedule:
    """`kind = "offline_to_online"`."""
    phases = Offline(settings.offline_steps), _online(settings)
    return Schedule((*_cloning(settings), *phases))


def _cloning(settings: LearningSettings) -> tuple[Cloning, ...]:
    return () if settings.cloning_steps is None else (Cloning(settings.cloning_steps),)


def _online(settings: OnlineSettings | OfflineToOnlineSettings) -> Online:
    return Online(settings.online_steps, settings.online_warmup, settings.updates_per_step)
