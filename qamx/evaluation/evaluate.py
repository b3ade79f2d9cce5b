"""`qamx eval`: episodes, paired comparisons, tables, JSON."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qamx._utils.machine import use_cpu
from qamx._utils.seeds import check_seed
from qamx._utils.terminal import print_table
from qamx.config import EnvironmentSettings, Experiment, load
from qamx.deploy.metadata import EXPERIMENT, FILE_NAME
from qamx.envs import close_players
from qamx.errors import UserError
from qamx.evaluation.policy_source import PolicySource, source_of_export, source_of_run, task_of
from qamx.evaluation.statistics import Pairing, mean_interval, success_interval
from qamx.trained_policy import load_experiment
from qamx.training.evaluator import Episode, Evaluator, Role, summarise
from qamx.training.guards import Watchdog, open_watched_players
from qamx.training.plan import evaluation_seeds


@dataclass(frozen=True)
class EvaluationResult:
    """The episodes of a policy, or of its clone of the data, on a task."""

    source: PolicySource
    environment: EnvironmentSettings
    role: Role
    seed: int
    episodes: list[Episode]
    seconds: float

    @property
    def task(self) -> int | None:
        """The task that was played, where the environment has several."""
        return task_of(self.environment)

    @property
    def policy(self) -> str:
        """The method, or `behaviour`."""
        return "behaviour" if self.role == "behaviour" else self.source.method

    @property
    def solved(self) -> int:
        """How many episodes ended in success."""
        return sum(episode.success for episode in self.episodes)

    @property
    def returns(self) -> np.ndarray:
        """The return of each episode."""
        return np.array([episode.total_reward for episode in self.episodes])


def settings_for(source: PolicySource, tasks: Sequence[int]) -> list[EnvironmentSettings]:
    """The environment for each task, or for the trained one where none is named."""
    return [source.for_task(task) for task in tasks or (None,)]


def roles_for(source: PolicySource, behaviour: bool) -> tuple[Role, ...]:
    """Who plays: the policy, and its clone of the data beside it if that is asked for.

    **Raises:** `UserError` if the method keeps no clone.
    """
    if behaviour and not source.has_behaviour:
        raise UserError(
            f"--behaviour: {source.name} holds no clone of the data apart from the policy that "
            "acts; leave it out, or, of an exported policy, name its run"
        )
    return ("evaluate", "behaviour") if behaviour else ("evaluate",)


def play(
    source: PolicySource, environment: EnvironmentSettings, roles: Sequence[Role], seed: int
) -> Iterator[EvaluationResult]:
    """Plays the policy's number of episodes in each role, as its run's evaluations do.

    **Arguments:** `seed` determines the reset seeds and the policy's draws; with the run's own
    (and its environment and number of episodes) this is the evaluation of the run.
    """
    evaluation, watchdog = source.evaluation, Watchdog()
    seeds = evaluation_seeds(seed, evaluation.episodes)
    count = min(evaluation.environments, evaluation.episodes)
    players = open_watched_players(
        source.make_environment(environment), count, evaluation.workers, watchdog
    )
    try:
        for role in roles:
            began = time.monotonic()
            episodes = Evaluator(players).play(source.factory.act(seed, role), seeds)
            seconds = time.monotonic() - began
            yield EvaluationResult(source, environment, role, seed, episodes, seconds)
    finally:
        close_players(players)
        watchdog.close()


HEADER = ("run", "step", "task", "policy", "success", "95%", "return", "length", "seconds")


def show(found: Sequence[EvaluationResult]) -> None:
    """Prints a line for each."""
    one = found[0]
    title = f"{len(one.episodes)} episodes in {one.environment.id}, seed {one.seed}"
    if len({(len(p.episodes), p.environment.id, p.seed) for p in found}) > 1:
        title = "evaluations"
    print_table(title, HEADER, [_row(result) for result in found])


def _row(result: EvaluationResult) -> tuple[str, ...]:
    means = summarise(result.episodes)
    low, high = success_interval(result.solved, len(result.episodes))
    return (
        result.source.name,
        f"{result.source.step:,}",
        _task(result),
        result.policy,
        f"{means['success']:.0%} ({result.solved}/{len(result.episodes)})",
        f"[{low:.0%}, {high:.0%}]",
        f"{means['return']:.1f}",
        f"{means['length']:.1f}",
        f"{result.seconds:.1f}",
    )


def _task(result: EvaluationResult) -> str:
    trained = result.source.trained_task
    if result.task is None:
        return ""
    return str(result.task) if result.task == trained else f"{result.task} (trained for {trained})"


def show_pairing(one: EvaluationResult, other: EvaluationResult, pairing: Pairing) -> None:
    """Prints how two policies differ on the same reset seeds."""
    low, high = pairing.interval()
    gained = other.returns - one.returns
    least, most = mean_interval(gained)
    rows = [
        (
            "success",
            f"{100 * pairing.difference:+.1f} points",
            f"[{100 * low:+.1f}, {100 * high:+.1f}]",
        ),
        ("return", f"{gained.mean():+.2f}", f"[{least:+.2f}, {most:+.2f}]"),
    ]
    task = "" if one.task is None else f", task {one.task}"
    title = f"{other.source.name} less {one.source.name}{task}"
    print_table(title, ("", "difference", "95%"), rows)
    print(
        f"seeds solved by both {pairing.both}, by the first only {pairing.first}, by the second "
        f"only {pairing.second}, by neither {pairing.neither}; McNemar's exact test: "
        f"p = {pairing.p_value():.3g}"
    )


def pairing_report(task: int | None, pairing: Pairing) -> dict[str, Any]:
    """A pairing on a task as JSON has it."""
    return {
        "task": task,
        **vars(pairing),
        "difference": pairing.difference,
        "interval": pairing.interval(),
        "p_value": pairing.p_value(),
    }


def write_json(file: Path | None, found: Sequence[EvaluationResult], **more: Any) -> None:
    """Writes every evaluation with each of its episodes, if a file is named.

    **Raises:** `UserError` if it cannot be written.
    """
    if file is None:
        return
    report = {"evaluations": [_report(result) for result in found], **more}
    try:
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--json {file}: cannot be written ({error.strerror})") from error


def _report(result: EvaluationResult) -> dict[str, Any]:
    source = result.source
    return {
        "run": source.name,
        "step": source.step,
        "method": source.method,
        "environment": result.environment.id,
        "task": result.task,
        "trained_task": source.trained_task,
        "policy": result.role,
        "seed": result.seed,
        **summarise(result.episodes),
        "interval": success_interval(result.solved, len(result.episodes)),
        "seconds": result.seconds,
        "episodes": [
            {
                "seed": episode.seed,
                "success": episode.success,
                "return": episode.total_reward,
                "length": episode.length,
            }
            for episode in result.episodes
        ],
    }


@dataclass(frozen=True)
class EvaluationOptions:
    """How to play; what is None or empty is as in the run's own evaluations."""

    tasks: Sequence[int] = ()
    episodes: int | None = None
    seed: int | None = None
    step: int | None = None
    workers: int | None = None
    behaviour: bool = False

    def source(self, directory: Path) -> PolicySource:
        """The policy of a run, to be played like this.

        **Raises:** `UserError` for a run or a number that cannot be.
        """
        if self.seed is not None:
            check_seed("--seed", self.seed)
        return find_source(directory, self.step).with_episodes(self.episodes, self.workers)


def find_source(folder: Path, step: int | None) -> PolicySource:
    """The policy of a run, or one that was exported.

    **Raises:** `UserError` if the folder holds neither.
    """
    exported = (folder / FILE_NAME).is_file()
    return (source_of_export if exported else source_of_run)(folder, step)


def experiment_of(folder: Path) -> Experiment:
    """The experiment of a run, or of an exported policy.

    **Raises:** `UserError` if the folder holds neither.
    """
    exported = (folder / FILE_NAME).is_file()
    return load(folder / EXPERIMENT) if exported else load_experiment(folder)


def evaluate(directories: Sequence[Path], options: EvaluationOptions, file: Path | None) -> int:
    """Plays each run's policy on each task, and prints a line for each.

    **Raises:** `UserError` for a run, task or number that cannot be.
    """
    use_cpu()
    _check_folder(file)
    subjects = [options.source(directory) for directory in directories]
    plans = [(one, settings_for(one, options.tasks)) for one in subjects]
    roles = [roles_for(one, options.behaviour) for one in subjects]
    found: list[EvaluationResult] = []
    try:
        for (source, environments), own in zip(plans, roles, strict=True):
            for environment in environments:
                found += play(source, environment, own, _seed(options, source))
                write_json(file, found)  # after each, so that an interruption loses one at most
    finally:
        if found:
            show(found)
    return 0


def evaluate_paired(
    directories: Sequence[Path], options: EvaluationOptions, file: Path | None
) -> int:
    """Plays two runs' policies on the same reset seeds, and prints how they differ.

    **Raises:** `UserError` as `evaluate`, and if the two act in different environments.
    """
    if len(directories) != 2:
        raise UserError(f"--paired: found {len(directories)} runs; name two")
    use_cpu()
    _check_folder(file)
    first, second = (options.source(directory) for directory in directories)
    if options.behaviour:
        raise UserError("--behaviour: the two policies of --paired are compared; leave it out")
    tables = [settings_for(one, options.tasks) for one in (first, second)]
    if differs := _differences(*tables):
        raise UserError(
            f"--paired: {first.name} and {second.name} act in different environments: {differs}; "
            "name runs of one environment and task, or the task of both with --task"
        )
    second = second.with_episodes(first.evaluation.episodes, None)
    seed = _seed(options, first)
    found: list[EvaluationResult] = []
    try:
        for environment in tables[0]:
            for source in (first, second):
                found += play(source, environment, ("evaluate",), seed)
                pairings = [pairing_report(one.task, pair) for one, _, pair in _pairs(found)]
                write_json(file, found, pairings=pairings)
    finally:
        if found:
            show(found)
        for pair in _pairs(found):
            show_pairing(*pair)
    return 0


def _pairs(
    found: Sequence[EvaluationResult],
) -> list[tuple[EvaluationResult, EvaluationResult, Pairing]]:
    """Each task's two evaluations, compared; one whose other is still to come is left out."""
    pairs = zip(found[::2], found[1::2], strict=False)
    return [(one, other, Pairing.of(_successes(one), _successes(other))) for one, other in pairs]


def _successes(result: EvaluationResult) -> np.ndarray:
    return np.array([episode.success for episode in result.episodes])


LEARNED = {"reward_scale", "reward_shift"}
"""Keys of an environment that change what is learned, and not its episodes."""


def _differences(
    first: Sequence[EnvironmentSettings], second: Sequence[EnvironmentSettings]
) -> str:
    """The keys in which environments differ with both values, as in `task 2 and 3`; empty for
    environments that are played alike."""
    for pair in zip(first, second, strict=True):
        one, other = (environment.model_dump(exclude=LEARNED) for environment in pair)
        keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        if keys:
            return ", ".join(f"{key} {_shown(one, key)} and {_shown(other, key)}" for key in keys)
    return ""


def _shown(table: Mapping[str, Any], key: str) -> str:
    return "none" if table.get(key) is None else str(table[key])


def _seed(options: EvaluationOptions, source: PolicySource) -> int:
    return source.seed if options.seed is None else options.seed


def _check_folder(file: Path | None) -> None:
    if file is not None and not file.parent.is_dir():
        raise UserError(f"--json {file}: its folder does not exist; create it, or name another")
    if file is not None and file.is_dir():
        raise UserError(f"--json {file}: a folder; name a file in it")
