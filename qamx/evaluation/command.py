"""`qamx eval`: plays the policies of runs, one by one or on the same seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qamx._utils.machine import use_cpu
from qamx._utils.seeds import check_seed
from qamx.config import EnvironmentSettings, Experiment, load
from qamx.deploy.metadata import EXPERIMENT, FILE_NAME
from qamx.errors import UserError
from qamx.evaluation.exported import subject_of_export
from qamx.evaluation.play import Played, play, roles_for, settings_for
from qamx.evaluation.statistics import Pairing
from qamx.evaluation.subject import Subject, subject_of_run
from qamx.evaluation.tables import pairing_report, show, show_pairing, write_json
from qamx.trained_policy import load_experiment


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
