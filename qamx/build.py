"""From a validated experiment to a run: the one place where configuration becomes objects.

The functions that the registry names for the built-in entries stand here too. A plugin's
builders have the same signatures:

- agent: `(settings, parts, key) -> AbstractAgent`, or an agent class, whose keyword arguments are
  then the settings of the same names
- schedule: `(settings) -> Schedule`
- environment: `(settings) -> Callable[[], Environment]`
- data set: `(settings, environment_settings) -> DataSource`
- inverse temperature: `(settings) -> AbstractInverseTemperature`
"""

import contextlib
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from qamx import registry
from qamx._types import Key
from qamx.agents import AbstractAgent, Parts, adam, best_of_n
from qamx.config import Experiment, load
from qamx.config.agents import AgentSettings
from qamx.config.ogbench import OGBenchDataSettings, OGBenchEnvironmentSettings
from qamx.config.schedules import (
    CloningSettings,
    LearningSettings,
    OfflineSettings,
    OfflineToOnlineSettings,
    OnlineSettings,
)
from qamx.config.sections import ScheduleSettings, scheme_of
from qamx.config.temperatures import (
    ConstantTemperature,
    LinearTemperature,
    TemperatureSettings,
    TrustRegionTemperature,
)
from qamx.data.checks import CheckedData, files_of
from qamx.data.ogbench import OGBenchData, find_files
from qamx.data.sampling import BalancedSampling, UniformSampling
from qamx.envs import Environment, OGBenchEnvironment
from qamx.errors import ExitCode, RunError, UserError
from qamx.flow import SOLVERS, Integrator
from qamx.nn import Networks
from qamx.passport import stamp
from qamx.rl import Backup
from qamx.runner.checkpoint import Checkpoints
from qamx.runner.lock import locked
from qamx.runner.logs import JsonLines, Logs, Sink, WandbSink
from qamx.runner.loop import Runner
from qamx.runner.memory import OutOfMemory
from qamx.runner.plan import Evaluation, Intervals, RunPlan
from qamx.runner.stop import Stopped, leaving_at_once
from qamx.schedules import (
    AbstractInverseTemperature,
    Cloning,
    Constant,
    Linear,
    Offline,
    Online,
    Schedule,
    TrustRegion,
)

CHANGEABLE = ("logging.", "checkpoint.", "data.directory")
"""Keys that may change between the start of a run and its continuation."""


# --- the whole run ---


def run(experiment: Experiment, directory: Path) -> ExitCode:
    """Carries out an experiment in a directory, or continues it there; returns an exit code.

    **Raises:** `UserError` if the directory holds a run of another configuration, or the data
    cannot be had.
    """
    with contextlib.ExitStack() as held:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(directory))
            claim(directory, experiment)
        except OSError as error:
            raise UserError(
                f"{directory}: cannot hold a run ({error.strerror}); name another with --out"
            ) from error
        try:
            with leaving_at_once():
                plan = build(experiment)
                files, goes_on = files_of(plan.data), holds_state(directory)
                stamp(directory, experiment, files, continued=goes_on)
                logs = Logs(directory, _sinks(experiment, directory))
                held.callback(logs.close)
                runner = Runner(plan, directory, logs)
            code = runner.run()
        except Stopped:
            code = ExitCode.INTERRUPTED
        except OutOfMemory as error:
            raise RunError(f"{error}; {_sizes(experiment)}") from error
        rows = JsonLines(directory / "evaluations.jsonl").rows()
    _say_outcome(code, rows, directory)
    return code


def _sizes(experiment: Experiment) -> str:
    agent = experiment.agent
    return (
        f"lower agent.batch_size ({agent.batch_size}), agent.ensemble_size "
        f"({agent.ensemble_size}), agent.critic_hidden or actor_hidden, or, for the replay, the "
        "schedule's online_steps or the size of a data shard"
    )


def build(experiment: Experiment) -> RunPlan:
    """The objects that an experiment names."""
    agent, evaluation = experiment.agent, experiment.evaluation
    clip = None if agent.gradient_clip == "none" else float(agent.gradient_clip)
    sampling = {"uniform": UniformSampling, "balanced": BalancedSampling}[agent.sampling]
    return RunPlan(
        seed=experiment.seed,
        make_agent=functools.partial(build_agent, agent),
        optimiser=adam(agent.learning_rate, clip),
        sampling=sampling(agent.batch_size, agent.horizon, agent.discount),
        schedule=build_schedule(experiment.schedule),
        data=CheckedData(
            _builder(registry.datasets, scheme_of(experiment.data.source))(
                experiment.data, experiment.environment
            ),
            experiment.data.source,
            agent.horizon,
        ),
        make_environment=_builder(registry.environments, scheme_of(experiment.environment.id))(
            experiment.environment
        ),
        intervals=Intervals(
            experiment.logging.every, evaluation.every, experiment.checkpoint.every
        ),
        evaluation=Evaluation(evaluation.episodes, evaluation.environments, evaluation.behaviour),
        keep_checkpoints=experiment.checkpoint.keep,
        initialise=functools.partial(initialise, run=agent.initialise_from),
    )


def initialise(agent: AbstractAgent, run: str | None) -> AbstractAgent:
    """The agent with the clone of the data that another run learned, if one is named.

    **Raises:** `UserError` if the run cannot be read, or its clone is another kind of network.
    """
    if run is None:
        return agent
    clone = load_agent(run).policy.clone
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


def load_agent(directory: Path | str) -> AbstractAgent:
    """The agent of a run, as its newest checkpoint has it.

    **Raises:** `UserError` if the directory holds no run or no checkpoint.
    """
    directory = Path(directory)
    experiment = load(directory / "config.toml")
    env = _builder(registry.environments, scheme_of(experiment.environment.id))(
        experiment.environment
    )()
    sizes = env.observation_size, env.action_size
    env.close()
    template = build_agent(experiment.agent, *sizes, jax.random.key(experiment.seed))
    arrays, static = eqx.partition(template, eqx.is_array)
    return eqx.combine(_restored(directory / "checkpoints", arrays), static)


def _restored(directory: Path, arrays: AbstractAgent) -> AbstractAgent:
    if not directory.is_dir():
        raise UserError(f"{directory}: no checkpoint yet; let the run go on")
    checkpoints = Checkpoints(directory)
    try:
        saved = checkpoints.newest_unmoved()
        if saved is None:
            raise UserError(f"{directory}: no intact checkpoint; let the run go on")
        return saved.fit(arrays, prefix=".state.agent")
    finally:
        checkpoints.close()


def build_schedule(settings: ScheduleSettings) -> Schedule:
    """The phases that `[schedule]` describes."""
    return _builder(registry.schedules, settings.kind)(settings)


def build_agent(
    settings: AgentSettings, observation_size: int, action_size: int, key: Key
) -> AbstractAgent:
    """A fresh agent of the registered method, in the sizes of a problem."""
    parts = build_parts(settings, observation_size, action_size)
    builder = _builder(registry.agents, settings.method)
    if not isinstance(builder, type):
        return _best_of(settings.best_of_n, builder(settings, parts, key))
    values = {
        name: _part(getattr(settings, name))
        for name in inspect.signature(builder).parameters
        if name not in ("parts", "key")
    }
    agent = builder(parts, **values, key=key)
    return agent if "best_of_n" in values else _best_of(settings.best_of_n, agent)


def _part(value: Any) -> Any:
    """What an agent's argument is for the value of a key."""
    return inverse_temperature(value) if isinstance(value, TemperatureSettings) else value


def _best_of(draws: int | None, agent: AbstractAgent) -> AbstractAgent:
    return agent if draws is None else best_of_n(agent, draws)


def build_parts(settings: AgentSettings, observation_size: int, action_size: int) -> Parts:
    """The parts that the common keys of `[agent]` describe."""
    networks = Networks(
        observation_size=observation_size,
        action_dim=settings.horizon * action_size,
        actor_hidden=tuple(settings.actor_hidden),
        critic_hidden=tuple(settings.critic_hidden),
        ensemble_size=settings.ensemble_size,
        actor_layer_norm=settings.actor_layer_norm,
        critic_layer_norm=settings.critic_layer_norm,
    )
    backup = Backup(settings.discount, settings.horizon, settings.pessimism)
    integrator = Integrator(settings.flow_steps, SOLVERS[settings.solver]())
    return Parts(networks, backup, integrator, settings.target_rate)


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


def _builder(kind: registry.Registry, name: str) -> Callable[..., Any]:
    return kind[name].load_builder()


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
    elif code == ExitCode.DONE and rows:
        last = rows[-1]
        cloned = last.get("behaviour_success")
        beside = "" if cloned is None else f", behaviour cloning {cloned:.0%}"
        print(f"done: success {last['success']:.0%}{beside} at step {last['step']:,}; {directory}")


# --- what the registry's built-in names stand for ---


def inverse_temperature(settings: TemperatureSettings) -> AbstractInverseTemperature:
    """The registered schedule of an inverse temperature."""
    return _builder(registry.temperatures, settings.schedule)(settings)


def constant(settings: ConstantTemperature) -> Constant:
    """A number, or `schedule = "constant"`."""
    return Constant(settings.value)


def linear(settings: LinearTemperature) -> Linear:
    """`schedule = "linear"`."""
    return Linear(settings.start, settings.stop, settings.updates)


def trust_region(settings: TrustRegionTemperature) -> TrustRegion:
    """`schedule = "trust_region"`."""
    return TrustRegion(settings.kl_budget, settings.kl_scale)


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


def ogbench_environment(settings: OGBenchEnvironmentSettings) -> Callable[[], Environment]:
    """An OGBench task."""
    return functools.partial(OGBenchEnvironment, settings.name, settings.task, settings.reward)


def ogbench_data(
    settings: OGBenchDataSettings, environment: OGBenchEnvironmentSettings
) -> OGBenchData:
    """An OGBench data set, found, generated or downloaded."""
    files = find_files(
        settings.name,
        None if settings.directory is None else Path(settings.directory),
        shards=settings.shards,
        generate_episodes=settings.generate_episodes,
        generate_seed=settings.generate_seed or 0,
    )
    return OGBenchData(
        environment.name, environment.task, environment.reward, files, settings.updates_per_shard
    )
