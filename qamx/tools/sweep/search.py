"""The trials of a suite with `[search]`: drawn by Optuna, trained in processes, stopped early."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

import filelock
import numpy as np

from qamx._utils.files import read_json_lines
from qamx._utils.machine import visible_gpus
from qamx._utils.terminal import print_table
from qamx.config import Suite, load_suite
from qamx.config.messages import ConfigError
from qamx.config.search import ChoiceSettings, Parameter, SearchSettings
from qamx.config.suite import to_toml
from qamx.errors import ExitCode, UserError, install_extra
from qamx.tools.sweep.jobs import ScheduledRun, Sweep, SweepFolder, scheduled_runs
from qamx.tools.sweep.local import POLL_SECONDS, Pool
from qamx.tools.sweep.slurm import ClusterSettings, active_jobs, run_in_job, submit
from qamx.training.guards import StopRequest, is_locked, locked

try:
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, TrialState
except ModuleNotFoundError as error:
    raise UserError(f"a search needs Optuna: {install_extra('search')}") from error

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

STUDY = "search"

_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "invalid"}


def open_study(folder: SweepFolder, *, create: bool = True) -> optuna.Study:
    """The study in a sweep's folder; an empty one in memory if there is none and none is to be.

    **Raises:** `UserError` if its journal cannot be read.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder.journal
    if not create and not path.exists():
        return optuna.create_study(direction="maximize")
    folder.own.mkdir(parents=True, exist_ok=True)
    # The operating system frees this lock at a kill; Optuna's own would be waited for.
    lock = cast(Any, filelock.FileLock(f"{path}.lock"))
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
        return optuna.create_study(
            storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True
        )
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); restore it, or name another folder with --out"
        ) from error


def _check_definition(study: optuna.Study, search: SearchSettings, directory: Path) -> None:
    """Records what a new study draws, or compares it with what the study has drawn.

    **Raises:** `UserError` for other parameters, another sampler or another seed.
    """
    mine = {key: str(parameter) for key, parameter in search.searched.items()}
    mine |= {"search.sampler": search.sampler, "search.seed": str(search.seed)}
    theirs = study.user_attrs.get("definition", mine)
    if different := sorted(key for key in mine | theirs if mine.get(key) != theirs.get(key)):
        lines = [f"  {key}: {theirs.get(key)} there, {mine.get(key)} here" for key in different]
        raise UserError(
            f"{directory} holds another search:\n"
            + "\n".join(lines)
            + "\nname another directory with --out"
        )
    study.set_user_attr("definition", mine)
    study.set_user_attr("trials", search.trials)


def _set_sampler(study: optuna.Study, search: SearchSettings) -> None:
    """A sampler for the next trial, seeded by its number: resumed searches draw the same."""
    sequence = np.random.SeedSequence((search.seed, len(study.get_trials(deepcopy=False))))
    seed = int(sequence.generate_state(1)[0])
    if search.sampler == "random":
        study.sampler = optuna.samplers.RandomSampler(seed)
    else:
        startup = search.startup_trials
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=startup, seed=seed)


def _draw(trial: optuna.Trial, key: str, parameter: Parameter) -> Any:
    """A trial's value of a key, drawn when it is first asked for."""
    if isinstance(parameter, ChoiceSettings):
        texts = [to_toml(value) for value in parameter.values]  # Optuna has no lists
        return parameter.values[texts.index(trial.suggest_categorical(key, texts))]
    if parameter.whole:
        return trial.suggest_int(key, int(parameter.low), int(parameter.high), log=parameter.log)
    return trial.suggest_float(key, parameter.low, parameter.high, log=parameter.log)


def _values(trial: optuna.Trial, search: SearchSettings) -> dict[str, Any]:
    return {key: _draw(trial, key, parameter) for key, parameter in search.searched.items()}


def _text(values: Mapping[str, Any]) -> str:
    """Drawn values as on the command line, numbers shortened."""
    short = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in values.items()}
    return " ".join(f"{key}={value}" for key, value in short.items())


@dataclass
class SearchTrial:
    """A trial that this process works on, with its runs and their processes.

    **Arguments:** `waiting` are the processes to start, `started` those that have been,
    `reported` the steps that Optuna knows.
    """

    trial: optuna.Trial
    sweep: Sweep
    held: ExitStack
    waiting: list[str]
    reported: set[int]
    started: set[str] = field(default_factory=set)
    pruned: bool = False

    def __str__(self) -> str:
        return f"trial {self.trial.number}"


class Searcher:
    """Takes trials of a search until none is left; several may share a folder.

    A trial belongs to the process that holds its lock. One whose process has ended is resumed
    before another is drawn.

    **Arguments:** `width` is the number of processes at a time, `together` that of seeds in one.
    """

    def __init__(
        self,
        suite: Suite,
        directory: Path,
        width: int,
        together: int,
        gpus: Sequence[str],
        stop: StopRequest,
    ):
        assert suite.search is not None
        self._suite, self._search, self._stop = suite, suite.search, stop
        self._folder, self._together = SweepFolder(directory), together
        self._pool = Pool(self._folder, width, gpus, stop)
        self._study = open_study(self._folder)
        _check_definition(self._study, self._search, directory)
        self._study.pruner = _pruner(suite, self._search)
        self._active: list[SearchTrial] = []
        self._seen: set[int] = set()
        self._failed = False

    def run(self) -> ExitCode:
        """Works until every trial has ended; `INTERRUPTED` after a stop, `FAILED` after a failure.

        After a failure no further trial is begun.
        """
        stopping = False
        try:
            while True:
                if self._stop.made and not stopping:
                    stopping = True
                    self._pool.stop()
                self._fill()
                if not self._active:
                    break
                time.sleep(POLL_SECONDS)
                codes = dict(self._pool.reap())
                for active in list(self._active):
                    self._advance(active, codes)
        finally:
            self._pool.kill()
            for active in self._active:
                active.held.close()
        if self._stop.made:
            return ExitCode.INTERRUPTED
        return ExitCode.FAILED if self._failed else ExitCode.DONE

    def _fill(self) -> None:
        """Starts processes while there is room."""
        while self._pool.free and not self._stop.made:
            waiting = next((active for active in self._active if active.waiting), None)
            if waiting is None and not self._failed:
                waiting = self._next()
            if waiting is None:
                return
            if waiting.waiting:
                process = waiting.waiting.pop(0)
                waiting.started.add(process)
                self._pool.start(process)

    def _next(self) -> SearchTrial | None:
        """A trial that nobody works on, or a new one; None if there is neither."""
        with filelock.FileLock(self._folder.own / "search.lock"):
            for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                trial = optuna.Trial(self._study, frozen._trial_id)
                if frozen.number not in self._seen and (active := self._open(trial)) is not None:
                    return active
            while len(self._study.get_trials(deepcopy=False)) < self._search.trials:
                _set_sampler(self._study, self._search)
                if (active := self._open(self._study.ask())) is not None:
                    return active
        return None

    def _open(self, trial: optuna.Trial) -> SearchTrial | None:
        """The runs of a trial; None if another process works on it, or its setting is invalid."""
        lock = self._folder.own / "trials" / str(trial.number)
        lock.mkdir(parents=True, exist_ok=True)
        if is_locked(lock):
            return None
        values = _values(trial, self._search)
        try:
            sweep = _sweep_of(self._suite, self._folder, trial.number, values, self._together)
        except ConfigError as error:  # values that are valid apart
            self._study.tell(trial, state=TrialState.FAIL)
            print(f"trial {trial.number}: invalid: {error}", flush=True)
            return None
        trial.set_user_attr("runs", [run.run.name for run in sweep.runs])
        sweep.plan()
        held = ExitStack()
        held.enter_context(locked(lock))
        waiting = [process.name for process in sweep.waiting]
        reported = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        active = SearchTrial(trial, sweep, held, waiting, set(reported))
        self._seen.add(trial.number)
        self._active.append(active)
        print(f"{active}: {_text(trial.params)}", flush=True)
        return active

    def _advance(self, active: SearchTrial, codes: Mapping[str, int]) -> None:
        """Reports new evaluations, and ends the trial if it is to be."""
        mine = {name: code for name, code in codes.items() if name in active.started}
        active.started -= mine.keys()
        if mine or not active.started:
            active.sweep = active.sweep.refreshed()
        sweep = active.sweep
        if not active.pruned:
            self._report(active, sweep.runs)
            for process in sweep.processes:
                ended = mine.get(process.name, ExitCode.INTERRUPTED) != ExitCode.INTERRUPTED
                self._failed |= ended and not all(run.over for run in process.runs)
        if active.started or (active.waiting and not self._stop.made):
            return
        if not active.pruned and all(run.over for run in sweep.runs):
            success = _success(sweep.runs, lambda run: run.complete * (run.progress.success or 0.0))
            self._study.tell(active.trial, success)
            print(f"{active}: success {success:.1%}", flush=True)
        elif not (active.pruned or self._failed or self._stop.made):
            # Processes of a search that was killed go on by themselves, and may end early.
            active.waiting = [process.name for process in sweep.waiting]
            return
        active.held.close()
        self._active.remove(active)

    def _report(self, active: SearchTrial, runs: Sequence[ScheduledRun]) -> None:
        """Tells Optuna the evaluations that all runs have reached, and stops the trial if it says.

        The last evaluation ends the trial anyway.
        """
        last = max(run.total for run in runs)
        for step, success in sorted(successes(runs).items()):
            if step in active.reported or not 0 < step < last:
                continue
            active.trial.report(success, step)
            active.reported.add(step)
            if active.trial.should_prune():
                self._study.tell(active.trial, state=TrialState.PRUNED)
                active.pruned, active.waiting = True, []
                self._pool.stop(active.started)
                print(f"{active}: pruned at step {step:,}, success {success:.1%}", flush=True)
                return


def _pruner(suite: Suite, search: SearchSettings) -> optuna.pruners.BasePruner:
    if search.pruner == "none":
        return optuna.pruners.NopPruner()
    first = {key: parameter.ends[0] for key, parameter in search.searched.items()}
    every = suite.trial_runs("first", first)[0].load().evaluation.every
    steps, factor = search.min_steps or every, search.reduction_factor
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=steps, reduction_factor=factor)


def _sweep_of(
    suite: Suite, folder: SweepFolder, number: int, values: Mapping[str, Any], together: int
) -> Sweep:
    """The runs of a trial, packed into processes."""
    runs = scheduled_runs(suite.trial_runs(f"trial{number}", values), folder.directory)
    return Sweep.packed(suite, folder, runs, together)


def successes(runs: Sequence[ScheduledRun]) -> dict[int, float]:
    """Success by step, at the evaluations that all runs have reached.

    Runs that have diverged do not succeed.
    """
    rows = {
        run.run.name: {row["step"]: row["success"] for row in _evaluations(run)} for run in runs
    }
    alive = [run.run.name for run in runs if not run.progress.diverged]
    if not alive:
        return {}
    steps = set.intersection(*(set(rows[name]) for name in alive))

    def at(step: int) -> Callable[[ScheduledRun], float]:
        return lambda run: rows[run.run.name][step] if run.run.name in alive else 0.0

    return {step: _success(runs, at(step)) for step in steps}


def _evaluations(run: ScheduledRun) -> list[dict[str, Any]]:
    return read_json_lines(run.directory / "evaluations.jsonl")


def _success(runs: Sequence[ScheduledRun], of: Callable[[ScheduledRun], float]) -> float:
    """The mean over the tasks of the mean over the seeds."""
    tasks: dict[str, list[float]] = {}
    for run in runs:
        tasks.setdefault(run.experiment.environment.label, []).append(of(run))
    return fmean(fmean(values) for values in tasks.values())


@dataclass(frozen=True)
class SearchJob:
    """A process, or a Slurm job, that takes trials of a search, `width` processes at a time.

    **Arguments:** `together` is the number of seeds in a process.
    """

    directory: Path
    file: Path
    overrides: tuple[str, ...]
    width: int
    together: int
    name: str = "search"

    @property
    def processes(self) -> tuple[str, ...]:
        """The name under which its job number is returned."""
        return (self.name,)

    def work(self, stop: StopRequest) -> ExitCode:
        """Takes trials until all have ended, or a stop."""
        suite, gpus = load_suite(self.file, self.overrides), visible_gpus()
        return Searcher(suite, self.directory, self.width, self.together, gpus, stop).run()

    def __call__(self) -> int:
        """The same in a Slurm job.

        **Raises:** as `run_in_job`.
        """
        return run_in_job(self.directory, self.work)

    def checkpoint(self) -> "DelayedSubmission":
        """The job to requeue, for submitit."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit_jobs(suite: Suite, job: SearchJob, executor: Any, cluster: ClusterSettings) -> ExitCode:
    """Submits as many jobs as the trials that are left keep busy, less those that are active."""
    assert suite.search is not None
    folder = SweepFolder(job.directory)
    study = open_study(folder)
    _check_definition(study, suite.search, job.directory)
    ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    runs = (suite.search.trials - ended) * len(suite) // suite.search.trials
    known = study.user_attrs.get("jobs", [])
    active = sorted(active_jobs().keys() & set(known)) if known else []
    wanted = min(-(-runs // (job.width * job.together)), cluster.jobs_at_once) - len(active)
    if wanted < 1:
        print(f"{job.directory}: {ended:,} trials have ended, {len(active):,} jobs are active")
        return ExitCode.DONE
    jobs = [replace(job, name=f"search-{number}") for number in range(wanted)]
    numbers = sorted(submit(jobs, executor, cluster).values())
    study.set_user_attr("jobs", [*active, *numbers])
    print(f"submitted {', '.join(numbers)}; qamx status {job.directory} shows the trials")
    return ExitCode.DONE


# Shown and selected


@dataclass(frozen=True)
class TrialStatus:
    """A trial of a search: its state, last step, success there, and setting."""

    number: int
    state: str
    step: int | None
    success: float | None
    setting: str
    runs: tuple[str, ...]


def trial_statuses(folder: SweepFolder, study: optuna.Study | None = None) -> list[TrialStatus]:
    """The trials of the search in a sweep's folder, none without a search."""
    return [_status(folder, trial) for trial in (study or open_study(folder, create=False)).trials]


def _status(folder: SweepFolder, trial: FrozenTrial) -> TrialStatus:
    alive = is_locked(folder.own / "trials" / str(trial.number))
    reported = trial.intermediate_values
    success = trial.value if trial.value is not None else reported.get(trial.last_step or 0)
    return TrialStatus(
        number=trial.number,
        state=_STATES.get(trial.state, "running" if alive else "stopped"),
        step=None if trial.state is TrialState.COMPLETE else trial.last_step,
        success=success,
        setting=_text(trial.params),
        runs=tuple(trial.user_attrs.get("runs", ())),
    )


def print_trials(title: str, trials: Sequence[TrialStatus]) -> None:
    """Prints a table of trials, the best one starred."""
    complete = [t for t in trials if t.state == "complete" and t.success is not None]
    best = max(complete, key=lambda t: t.success or 0.0, default=None)
    rows = [
        (
            f"{t.number}{' *' if t is best else ''}",
            t.state,
            "" if t.step is None else f"{t.step:,}",
            "" if t.success is None else f"{t.success:.1%}",
            t.setting,
        )
        for t in trials
    ]
    print_table(title, ("trial", "state", "step", "success", "setting"), rows)


def preview(suite: Suite, folder: SweepFolder, together: int) -> tuple[Sweep, int]:
    """Prints the trials so far and those that are drawn next, and changes nothing.

    Returns the runs of one trial, and the number of trials that are left.
    """
    search = suite.search
    assert search is not None
    known = open_study(folder, create=False)
    if "definition" in known.user_attrs:
        copy = optuna.create_study(direction="maximize")
        copy.set_user_attr("definition", known.user_attrs["definition"])
        _check_definition(copy, search, folder.directory)
    shown = trial_statuses(folder, known)
    study = optuna.create_study(direction="maximize")
    study.add_trials(known.get_trials(deepcopy=False))
    left = search.trials - len(shown) + sum(t.state in ("running", "stopped") for t in shown)
    # Later draws of `tpe` depend on the results of these.
    ahead = search.trials if search.sampler == "random" else search.startup_trials
    ahead = min(search.trials, max(ahead, len(shown) + 1))
    while len(study.trials) < ahead:
        _set_sampler(study, search)
        trial = study.ask()
        _values(trial, search)
        setting = _text(trial.params)
        shown.append(TrialStatus(trial.number, "to start", None, None, setting, ()))
    counts = ", ".join(f"{n:,} {state}" for state, n in Counter(t.state for t in shown).items())
    print_trials(f"{suite.file}: {search.trials:,} trials by {search.sampler}: {counts}", shown)
    first = {key: parameter.ends[0] for key, parameter in search.searched.items()}
    return _sweep_of(suite, folder, search.trials, first, together), left


def complete_runs(suite: Suite, folder: SweepFolder) -> list[ScheduledRun]:
    """The runs of all complete trials of a finished search.

    **Raises:** `UserError` if a trial is left, or none is complete.
    """
    assert suite.search is not None
    study = open_study(folder, create=False)
    trials = study.get_trials(deepcopy=False)
    ended = sum(trial.state.is_finished() for trial in trials)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if ended < suite.search.trials or not complete:
        raise UserError(
            f"{ended:,} of {suite.search.trials:,} trials have ended, {len(complete):,} of them "
            f"complete; qamx sweep {suite.file} continues them"
        )
    runs: list[ScheduledRun] = []
    for frozen in complete:
        values = _values(optuna.Trial(study, frozen._trial_id), suite.search)
        runs += _sweep_of(suite, folder, frozen.number, values, 1).runs
    return runs
