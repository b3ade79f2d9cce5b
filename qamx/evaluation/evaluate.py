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
from qamx.envs import close_envs
from qamx.errors import UserError
from qamx.evaluation.policy_source import Subject, subject_of_export, subject_of_run, task_of
from qamx.evaluation.statistics import Pairing, mean_interval, success_interval
from qamx.trained_policy import load_experiment
from qamx.training.evaluator import Episode, Evaluator, Role, summarise
from qamx.training.guards import Watchdog, open_watched_envs
from qamx.training.plan import evaluation_seeds


@dataclass(frozen=True)
class Played:
    """The episodes of a policy, or of its clone of the data, on a task."""

    subject: Subject
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
        """Who played, in a word."""
        return "behaviour" if self.role == "behaviour" else self.subject.method

    @property
    def solved(self) -> int:
        """How many episodes ended in success."""
        return sum(episode.success for episode in self.episodes)

    @property
    def returns(self) -> np.ndarray:
        """The return of each episode."""
        return np.array([episode.total_reward for episode in self.episodes])


def settings_for(subject: Subject, tasks: Sequence[int]) -> list[EnvironmentSettings]:
    """The environment for each task, or for the trained one where none is named."""
    return [subject.for_task(task) for task in tasks or (None,)]


def roles_for(subject: Subject, behaviour: bool) -> tuple[Role, ...]:
    """Who plays: the policy, and its clone of the data beside it if that is asked for.

    **Raises:** `UserError` if the method keeps no clone.
    """
    if behaviour and not subject.has_behaviour:
        raise UserError(
            f"--behaviour: {subject.name} holds no clone of the data apart from the policy that "
            "acts; leave it out, or, of an exported policy, name its run"
        )
    return ("evaluate", "behaviour") if behaviour else ("evaluate",)


def play(
    subject: Subject, environment: EnvironmentSettings, roles: Sequence[Role], seed: int
) -> Iterator[Played]:
    """Plays the subject's number of episodes in each role, as its run's evaluations do.

    **Arguments:** `seed` determines the reset seeds and the policy's draws; with the run's own
    (and its environment and number of episodes) this is the evaluation of the run.
    """
    evaluation, watchdog = subject.evaluation, Watchdog()
    seeds = evaluation_seeds(seed, evaluation.episodes)
    count = min(evaluation.environments, evaluation.episodes)
    players = open_watched_envs(
        subject.make_environment(environment), count, evaluation.workers, watchdog
    )
    try:
        for role in roles:
            began = time.monotonic()
            episodes = Evaluator(players).play(subject.policies.act(seed, role), seeds)
            seconds = time.monotonic() - began
            yield Played(subject, environment, role, seed, episodes, seconds)
    finally:
        close_envs(players)
        watchdog.close()


HEADER = ("run", "step", "task", "policy", "success", "95%", "return", "length", "seconds")


def show(found: Sequence[Played]) -> None:
    """Prints a line for each."""
    one = found[0]
    title = f"{len(one.episodes)} episodes in {one.environment.id}, seed {one.seed}"
    if len({(len(p.episodes), p.environment.id, p.seed) for p in found}) > 1:
        title = "evaluations"
    print_table(title, HEADER, [_row(played) for played in found])


def _row(played: Played) -> tuple[str, ...]:
    means = summarise(played.episodes)
    low, high = success_interval(played.solved, len(played.episodes))
    return (
        played.subject.name,
        f"{played.subject.step:,}",
        _task(played),
        played.policy,
        f"{means['success']:.0%} ({played.solved}/{len(played.episodes)})",
        f"[{low:.0%}, {high:.0%}]",
        f"{means['return']:.1f}",
        f"{means['length']:.1f}",
        f"{played.seconds:.1f}",
    )


def _task(played: Played) -> str:
    trained = played.subject.trained_task
    if played.task is None:
        return ""
    return str(played.task) if played.task == trained else f"{played.task} (trained for {trained})"


def show_pairing(one: Played, other: Played, pairing: Pairing) -> None:
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
    title = f"{other.subject.name} less {one.subject.name}{task}"
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


def write_json(file: Path | None, found: Sequence[Played], **more: Any) -> None:
    """Writes every evaluation with each of its episodes, if a file is named.

    **Raises:** `UserError` if it cannot be written.
    """
    if file is None:
        return
    report = {"evaluations": [_report(played) for played in found], **more}
    try:
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--json {file}: cannot be written ({error.strerror})") from error


def _report(played: Played) -> dict[str, Any]:
    subject = played.subject
    return {
        "run": subject.name,
        "step": subject.step,
        "method": subject.method,
        "environment": played.environment.id,
        "task": played.task,
        "trained_task": subject.trained_task,
        "policy": played.role,
        "seed": played.seed,
        **summarise(played.episodes),
        "interval": success_interval(played.solved, len(played.episodes)),
        "seconds": played.seconds,
        "episodes": [
            {
                "seed": episode.seed,
                "success": episode.success,
                "return": episode.total_reward,
                "length": episode.length,
            }
            for episode in played.episodes
        ],
    }


@dataclass(frozen=True)
class Options:
    """How to play; what is None or empty is as in the run's own evaluations."""

    tasks: Sequence[int] = ()
    episodes: int | None = None
    seed: int | None = None
    step: int | None = None
    workers: int | None = None
    behaviour: bool = False

    def subject(self, directory: Path) -> Subject:
        """The policy of a run, to be played like this.

        **Raises:** `UserError` for a run or a number that cannot be.
        """
        if self.seed is not None:
            check_seed("--seed", self.seed)
        return subject_of(directory, self.step).with_episodes(self.episodes, self.workers)


def subject_of(folder: Path, step: int | None) -> Subject:
    """The policy of a run, or one that was exported.

    **Raises:** `UserError` if the folder holds neither.
    """
    exported = (folder / FILE_NAME).is_file()
    return (subject_of_export if exported else subject_of_run)(folder, step)


def experiment_of(folder: Path) -> Experiment:
    """The experiment of a run, or of an exported policy.

    **Raises:** `UserError` if the folder holds neither.
    """
    exported = (folder / FILE_NAME).is_file()
    return load(folder / EXPERIMENT) if exported else load_experiment(folder)


def evaluate(directories: Sequence[Path], options: Options, file: Path | None) -> int:
    """Plays each run's policy on each task, and prints a line for each.

    **Raises:** `UserError` for a run, task or number that cannot be.
    """
    use_cpu()
    _check_folder(file)
    subjects = [options.subject(directory) for directory in directories]
    plans = [(one, settings_for(one, options.tasks)) for one in subjects]
    roles = [roles_for(one, options.behaviour) for one in subjects]
    found: list[Played] = []
    try:
        for (subject, environments), own in zip(plans, roles, strict=True):
            for environment in environments:
                found += play(subject, environment, own, _seed(options, subject))
                write_json(file, found)  # after each, so that an interruption loses one at most
    finally:
        if found:
            show(found)
    return 0


def evaluate_paired(directories: Sequence[Path], options: Options, file: Path | None) -> int:
    """Plays two runs' policies on the same reset seeds, and prints how they differ.

    **Raises:** `UserError` as `evaluate`, and if the two act in different environments.
    """
    if len(directories) != 2:
        raise UserError(f"--paired: found {len(directories)} runs; name two")
    use_cpu()
    _check_folder(file)
    first, second = (options.subject(directory) for directory in directories)
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
    found: list[Played] = []
    try:
        for environment in tables[0]:
            for subject in (first, second):
                found += play(subject, environment, ("evaluate",), seed)
                pairings = [pairing_report(one.task, pair) for one, _, pair in _pairs(found)]
                write_json(file, found, pairings=pairings)
    finally:
        if found:
            show(found)
        for pair in _pairs(found):
            show_pairing(*pair)
    return 0


def _pairs(found: Sequence[Played]) -> list[tuple[Played, Played, Pairing]]:
    """Each task's two evaluations, compared; one whose other is still to come is left out."""
    pairs = zip(found[::2], found[1::2], strict=False)
    return [(one, other, Pairing.of(_successes(one), _successes(other))) for one, other in pairs]


def _successes(played: Played) -> np.ndarray:
    return np.array([episode.success for episode in played.episodes])


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


def _seed(options: Options, subject: Subject) -> int:
    return subject.seed if options.seed is None else options.seed


def _check_folder(file: Path | None) -> None:
    if file is not None and not file.parent.is_dir():
        raise UserError(f"--json {file}: its folder does not exist; create it, or name another")
    if file is not None and file.is_dir():
        raise UserError(f"--json {file}: a folder; name a file in it")
