"""`qamx eval`: episodes, paired comparisons, tables, JSON."""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from qamx._utils.defaults import check_seed
from qamx._utils.html import write_text
from qamx._utils.hub import local_folder
from qamx._utils.machine import use_cpu
from qamx._utils.terminal import Progress, letters, print_table, short_names
from qamx.config import EnvironmentSettings, Experiment, load
from qamx.deploy.metadata import EXPERIMENT, FILE_NAME
from qamx.envs import close_envs
from qamx.errors import UserError
from qamx.evaluation.intervals import Pairing, mean_interval, success_interval
from qamx.evaluation.policy_source import PolicySource, source_of_export, source_of_run, task_of
from qamx.trained_policy import load_experiment
from qamx.training.evaluator import Evaluator, PlayedEpisode, Role, summarise
from qamx.training.guards import Watchdog, open_watched_envs
from qamx.training.plan import evaluation_seeds


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of evaluations; None or empty values are those of the run's own evaluations."""

    tasks: Sequence[int] = ()
    episodes: int | None = None
    seed: int | None = None
    step: int | None = None
    workers: int | None = None
    behaviour: bool = False
    strengths: Sequence[float] = ()

    def open(self, directory: Path) -> PolicySource:
        """The policy of a run, also of `hf:USER/NAME`, evaluated with these options.

        **Raises:** `UserError` for a run or a number that cannot be.
        """
        if self.seed is not None:
            check_seed("--seed", self.seed)
        folder = local_folder(directory)
        exported = (folder / FILE_NAME).is_file()
        source = (source_of_export if exported else source_of_run)(folder, self.step)
        return replace(source, name=str(directory)).with_episodes(self.episodes, self.workers)

    def open_each(self, directory: Path) -> list[PolicySource]:
        """The policy of a run at each of the strengths, or at its own where none is named.

        **Raises:** `UserError` as `open`, and for a strength that cannot be.
        """
        source = self.open(directory)
        return [source.with_strength(w) for w in self.strengths] or [source]

    def seed_for(self, source: PolicySource) -> int:
        """The seed of the evaluations of a policy."""
        return source.seed if self.seed is None else self.seed


@dataclass(frozen=True)
class EvaluationResult:
    """The episodes of a policy, or of its clone of the data, on a task."""

    source: PolicySource
    environment: EnvironmentSettings
    role: Role
    seed: int
    episodes: list[PlayedEpisode]
    seconds: float

    @property
    def task(self) -> int | None:
        """The task that was played, where the environment has several."""
        return task_of(self.environment)

    @property
    def policy(self) -> str:
        """The method, with its strength if one was named, or `behaviour`."""
        if self.role == "behaviour":
            return "behaviour"
        strength = self.source.strength
        return self.source.method + ("" if strength is None else f", strength {strength:g}")

    @property
    def successes(self) -> np.ndarray:
        """The success of each episode."""
        return np.array([episode.success for episode in self.episodes])

    @property
    def solved(self) -> int:
        """The number of successful episodes."""
        return int(self.successes.sum())

    @property
    def returns(self) -> np.ndarray:
        """The return of each episode."""
        return np.array([episode.total_reward for episode in self.episodes])


def evaluate(directories: Sequence[Path], options: EvaluationOptions, file: Path | None) -> int:
    """Evaluates each run's policy on each task, and prints a line for each.

    **Raises:** `UserError` for a run, task or number that cannot be.
    """
    use_cpu()
    _check_file(file)
    sources = [source for directory in directories for source in options.open_each(directory)]
    # The clone of the data has no strength: it plays once for each run.
    cloned = [options.behaviour and s.strength in (None, *options.strengths[:1]) for s in sources]
    plans = [
        (source, source.for_tasks(options.tasks), roles_for(source, behaviour))
        for source, behaviour in zip(sources, cloned, strict=True)
    ]
    results: list[EvaluationResult] = []
    try:
        for source, environments, roles in plans:
            for environment in environments:
                results += play(source, environment, roles, options.seed_for(source))
                write_json(file, results)  # after each, so that an interruption loses one at most
    finally:
        if results:
            show(results, short_names([result.source.name for result in results]))
    return 0


def evaluate_paired(
    directories: Sequence[Path], options: EvaluationOptions, file: Path | None
) -> int:
    """Evaluates two runs' policies on the same reset seeds, and prints their differences.

    **Raises:** `UserError` as `evaluate`, and if the two act in different environments.
    """
    if len(directories) != 2:
        raise UserError(f"--paired: found {len(directories)} runs; name two")
    use_cpu()
    _check_file(file)
    first, second = (options.open(directory) for directory in directories)
    if options.strengths:
        raise UserError("--strength: the two policies of --paired play at their own; leave it out")
    if options.behaviour:
        raise UserError("--behaviour: the two policies of --paired are compared; leave it out")
    # Of several tasks too the environments differ in the first, as only the task varies.
    environments, others = (source.for_tasks(options.tasks) for source in (first, second))
    if differs := _differences(environments[0], others[0]):
        raise UserError(
            f"--paired: {first.name} and {second.name} act in different environments: {differs}; "
            "name runs of one environment and task, or the task of both with --task"
        )
    second = second.with_episodes(first.evaluation.episodes, None)
    results: list[EvaluationResult] = []
    pairs: list[PairedResult] = []
    try:
        for environment in environments:
            for source in (first, second):
                results += play(source, environment, ("evaluate",), options.seed_for(first))
                if source is second:
                    pairs.append(PairedResult(*results[-2:]))
                write_json(file, results, pairings=[pair.to_dict() for pair in pairs])
    finally:
        if results:
            show(results, letters([first.name, second.name]))
        for pair in pairs:
            pair.show()
    return 0


def roles_for(source: PolicySource, behaviour: bool) -> tuple[Role, ...]:
    """The roles to play: the policy, and with `behaviour` its clone of the data.

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
    """Plays the episodes of each role, as the run's evaluations do.

    **Arguments:** `seed` determines the reset seeds and the policy's draws; with the run's seed,
    environment and number of episodes this is the evaluation of the run.
    """
    evaluation, watchdog = source.evaluation, Watchdog()
    seeds = evaluation_seeds(seed, evaluation.episodes)
    count = min(evaluation.environments, evaluation.episodes)
    make = source.make_environment(environment)
    players = open_watched_envs(make, count, evaluation.workers, watchdog)
    try:
        for role in roles:
            began = time.monotonic()
            act = source.act_for(seed, role)
            label = f"evaluating {PurePath(source.name).name}"
            with Progress(len(seeds), unit="episodes", label="compiling the policy") as progress:
                # Of the episodes before the one that begins, all but those at play are over.
                begun = partial(_show_begun, progress, count, label)
                episodes = Evaluator(players).play(act, seeds, begun)
            seconds = time.monotonic() - began
            yield EvaluationResult(source, environment, role, seed, episodes, seconds)
    finally:
        close_envs(players)
        watchdog.close()


def _show_begun(progress: Progress, playing: int, label: str, index: int) -> None:
    progress.advance(max(0, index + 1 - playing), label)


def experiment_of(folder: Path) -> Experiment:
    """The experiment of a run, or of an exported policy.

    **Raises:** `UserError` if the folder holds neither.
    """
    folder = local_folder(folder)
    exported = (folder / FILE_NAME).is_file()
    return load(folder / EXPERIMENT) if exported else load_experiment(folder)


HEADER = ("run", "task", "policy", "step", "success", "95%", "return", "length", "seconds")
"""Columns of a table; the first four are left out, or in the title, where they do not vary."""


def show(results: Sequence[EvaluationResult], names: Mapping[str, str]) -> None:
    """Prints a line for each result; `names` are short ones of the runs."""
    rows = [_row(result, names) for result in results]
    settings = {_settings(result) for result in results}
    title = settings.pop() if len(settings) == 1 else "evaluations"
    shown = [True, *(len({row[i] for row in rows}) > 1 for i in (1, 2, 3))]
    shared = [
        text for text, varies in zip(_shared(results[0]), shown[1:], strict=True) if not varies
    ]
    shown += [True] * (len(HEADER) - 4)
    table = [tuple(compress(row, shown)) for row in (HEADER, *rows)]
    print_table(", ".join(filter(None, (title, *shared))), table[0], table[1:])


def _settings(result: EvaluationResult) -> str:
    return f"{len(result.episodes)} episodes in {result.environment.id}, seed {result.seed}"


def _shared(result: EvaluationResult) -> tuple[str, str, str]:
    task = _task(result)
    return task and f"task {task}", result.policy, f"step {result.source.step:,}"


def _task(result: EvaluationResult) -> str:
    trained = result.source.trained_task
    task = "" if result.task is None else str(result.task)
    return task if result.task == trained else f"{task} (trained for {trained})"


def _row(result: EvaluationResult, names: Mapping[str, str]) -> tuple[str, ...]:
    means = summarise(result.episodes)
    low, high = success_interval(result.solved, len(result.episodes))
    return (
        names[result.source.name],
        _task(result),
        result.policy,
        f"{result.source.step:,}",
        f"{means['success']:.0%} ({result.solved}/{len(result.episodes)})",
        f"[{low:.0%}, {high:.0%}]",
        f"{means['return']:.1f}",
        f"{means['length']:.1f}",
        f"{result.seconds:.1f}",
    )


@dataclass(frozen=True)
class PairedResult:
    """Two policies' episodes on the same reset seeds."""

    first: EvaluationResult
    second: EvaluationResult

    @property
    def pairing(self) -> Pairing:
        """The counts of successes."""
        return Pairing.of(self.first.successes, self.second.successes)

    def show(self) -> None:
        """Prints the differences of success and return, with McNemar's test."""
        pairing, gained = self.pairing, self.second.returns - self.first.returns
        low, high = (f"{100 * end:+.1f}" for end in pairing.interval())
        least, most = mean_interval(gained)
        rows = [
            ("success", f"{100 * pairing.difference:+.1f} points", f"[{low}, {high}]"),
            ("return", f"{gained.mean():+.2f}", f"[{least:+.2f}, {most:+.2f}]"),
        ]
        task = "" if self.first.task is None else f", task {self.first.task}"
        print_table(f"B - A{task}", ("", "difference", "95%"), rows)
        logging.getLogger("qamx").info(
            f"solved by both {pairing.both}, only A {pairing.first}, only B {pairing.second}, "
            f"neither {pairing.neither}; McNemar's exact test: p = {pairing.p_value():.3g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The pairing as JSON."""
        pairing = self.pairing
        found = {"task": self.first.task, **vars(pairing), "difference": pairing.difference}
        return {**found, "interval": pairing.interval(), "p_value": pairing.p_value()}


def write_json(file: Path | None, results: Sequence[EvaluationResult], **more: Any) -> None:
    """Writes every evaluation with each of its episodes, if a file is named.

    **Raises:** `UserError` if it cannot be written.
    """
    if file is not None:
        report = {"evaluations": [_to_dict(result) for result in results], **more}
        write_text("--json", file, json.dumps(report, indent=2) + "\n")


def _to_dict(result: EvaluationResult) -> dict[str, Any]:
    source = result.source
    return {
        "run": source.name,
        "step": source.step,
        "method": source.method,
        "environment": result.environment.id,
        "task": result.task,
        "trained_task": source.trained_task,
        "policy": result.role,
        "strength": source.strength,
        "seed": result.seed,
        **summarise(result.episodes),
        "interval": success_interval(result.solved, len(result.episodes)),
        "seconds": result.seconds,
        "episodes": [
            {"seed": e.seed, "success": e.success, "return": e.total_reward, "length": e.length}
            for e in result.episodes
        ],
    }


LEARNED = {"reward_scale", "reward_shift"}
"""Keys of an environment that change the learned rewards, and not the episodes."""


def _differences(first: EnvironmentSettings, second: EnvironmentSettings) -> str:
    """The differing keys with both values, as in `task 2 and 3`; empty for equal environments."""
    ours, theirs = (environment.model_dump(exclude=LEARNED) for environment in (first, second))
    values = {key: (ours.get(key), theirs.get(key)) for key in ours | theirs}
    shown = [
        f"{key} {' and '.join('none' if value is None else str(value) for value in pair)}"
        for key, pair in values.items()
        if pair[0] != pair[1]
    ]
    return ", ".join(shown)


def _check_file(file: Path | None) -> None:
    if file is not None and not file.parent.is_dir():
        raise UserError(f"--json {file}: its folder does not exist; create it, or name another")
    if file is not None and file.is_dir():
        raise UserError(f"--json {file}: a folder; name a file in it")
