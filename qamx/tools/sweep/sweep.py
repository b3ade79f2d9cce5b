"""`qamx sweep`: the runs of a suite, what they cost, and the best settings of a tuning suite."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from qamx._utils.machine import visible_gpus
from qamx._utils.terminal import print_table, print_text
from qamx.config import Suite, load_suite
from qamx.errors import ExitCode, UserError
from qamx.tools.sweep import slurm
from qamx.tools.sweep.jobs import Process, ScheduledRun, Sweep, SweepFolder, scheduled_runs
from qamx.tools.sweep.local import Pool
from qamx.tools.sweep.slurm import ClusterSettings, load_cluster
from qamx.training.guards import StopRequest, locked

PAPER_HOURS, PAPER_STEPS = 3.0, 1_500_000
"""One run of the paper's authors on an RTX A5000: a million updates offline, then half a million
steps online. Source: Li and Levine (2026), arXiv 2601.14234."""


@dataclass(frozen=True)
class Cost:
    """GPU hours of a process, measured here or scaled from the paper's."""

    hours: float
    measured: bool


def measured_rates(processes: Iterable[Process]) -> dict[str, float]:
    """The median steps a second of each kind of process that has run here."""
    kinds: dict[str, list[float]] = {}
    for process in processes:
        rates = [run.progress.rate for run in process.runs if run.progress.rate]
        if rates:
            kinds.setdefault(process.kind, []).append(median(rates))
    return {kind: median(rates) for kind, rates in kinds.items()}


def cost_of(process: Process, rates: Mapping[str, float]) -> Cost:
    """The remaining GPU hours of a process.

    Without a measured rate of its kind, the paper's hours are scaled by the remaining steps, as
    if its seeds were trained one after the other.
    """
    if (rate := rates.get(process.kind)) is not None:
        return Cost(process.left / rate / 3600, measured=True)
    steps = sum(run.left for run in process.runs)
    return Cost(steps * PAPER_HOURS / PAPER_STEPS, measured=False)


def show_hours(hours: float) -> str:
    """Hours as text, whole from ten on."""
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def explain_costs(costs: Sequence[Cost]) -> str:
    """The sources of the processes' hours, with the number of processes where they differ."""
    measured = sum(cost.measured for cost in costs)
    paper = f"authors' {PAPER_HOURS:g} h per {PAPER_STEPS / 1e6:g}M steps (A5000), scaled"
    parts = {"rates measured here": measured, f"{paper}; not measured": len(costs) - measured}
    sources = [
        source + (f" ({count:,} of {len(costs):,} processes)" if count < len(costs) else "")
        for source, count in parts.items()
        if count
    ]
    return f"Estimate: {'; '.join(sources)}"


def sweep(
    file: Path,
    *,
    overrides: Sequence[str],
    out: Path | None,
    on: str,
    cluster_file: Path | None,
    jobs: int | None,
    dry: bool,
    verbose: bool,
    selected: Path | None,
) -> int:
    """Runs, submits or prints the runs of a suite; returns an exit code.

    **Arguments:** as on the command line.

    **Raises:** `UserError` for a mistake in a file or an argument.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs: found {jobs}; write a positive integer, e.g. 4")
    cluster = None if cluster_file is None else load_cluster(cluster_file)
    if on == "slurm" and jobs is not None:
        raise UserError(
            "--jobs: is for --on local; on Slurm write jobs_at_once, gpus and processes_per_gpu "
            "into the cluster file"
        )
    if on == "slurm" and cluster is None:
        raise UserError(
            "--on slurm: needs --cluster FILE, the Slurm resources of a job; qamx sweep --help"
        )
    suite = load_suite(file, overrides)
    directory = out or Path("runs") / suite.file.stem
    if suite.search is not None:
        suite.runs()  # every mistake before the first trial
        return _search(suite, directory, overrides, cluster, jobs, on, dry, selected)
    plan = _gather(suite, directory, cluster)
    if selected is not None:
        return select_best(plan.suite, plan.runs, selected)
    if dry:
        return _show(plan, cluster, on, verbose)
    print(_summary(plan), flush=True)
    plan.plan()
    if on == "slurm" and cluster is not None:
        return _submit(plan, cluster)
    return _run_here(plan, cluster, jobs)


def _gather(suite: Suite, directory: Path, cluster: ClusterSettings | None) -> Sweep:
    folder = SweepFolder(directory)
    entries = folder.entries()
    active = slurm.active_jobs() if any(entry.job for entry in entries.values()) else {}
    queued = frozenset(name for name, entry in entries.items() if entry.job in active)
    runs = scheduled_runs(suite.runs(), directory)
    return Sweep.packed(suite, folder, runs, _seeds_together(suite, cluster), queued)


def _seeds_together(suite: Suite, cluster: ClusterSettings | None) -> int:
    return (cluster and cluster.seeds_per_process) or suite.seeds_per_process or 1


def _search(
    suite: Suite,
    directory: Path,
    overrides: Sequence[str],
    cluster: ClusterSettings | None,
    jobs: int | None,
    on: str,
    dry: bool,
    selected: Path | None,
) -> int:
    """Runs, submits or shows the trials of a search, or selects the best; returns an exit code."""
    from qamx.tools.sweep import search

    folder, together = SweepFolder(directory), _seeds_together(suite, cluster)
    if selected is not None:
        return select_best(suite, search.complete_runs(suite, folder), selected)
    if dry:
        trial, left = search.preview(suite, folder, together)
        costs = [cost_of(process, {}) for process in trial.processes]
        hours = left * sum(cost.hours for cost in costs)
        print(
            f"{left:,} trials of {len(trial.runs):,} runs each, "
            f"at most {show_hours(hours)} GPU hours"
        )
        print_text(explain_costs(costs))
        return ExitCode.DONE
    gpus = visible_gpus()
    width = cluster.processes if cluster and on == "slurm" else _width(gpus, cluster, jobs)
    job = search.SearchJob(
        directory.resolve(), suite.file.resolve(), tuple(overrides), width, together
    )
    if on == "slurm" and cluster is not None:
        executor = slurm.make_executor(job.directory, f"qamx-{suite.file.stem}", cluster)
        return search.submit_jobs(suite, job, executor, cluster)
    stop = StopRequest()
    with stop.listening():
        code = job.work(stop)
    search.print_trials(str(directory), search.trial_statuses(folder))
    _explain_end(code, directory)
    return code


def _run_here(sweep: Sweep, cluster: ClusterSettings | None, jobs: int | None) -> int:
    gpus = visible_gpus()
    width, stop = _width(gpus, cluster, jobs), StopRequest()
    # A second sweep here would start the same processes.
    with locked(sweep.folder.own), stop.listening():
        names = [process.name for process in sweep.waiting]
        code = Pool(sweep.folder, width, gpus, stop).run(names)
    _explain_end(code, sweep.folder.directory)
    if code == ExitCode.DONE and any(run.progress.diverged for run in sweep.runs):
        return ExitCode.FAILED
    return code


def _width(gpus: Sequence[str], cluster: ClusterSettings | None, jobs: int | None) -> int:
    """The number of local processes at a time."""
    return jobs or max(len(gpus), 1) * (1 if cluster is None else cluster.processes_per_gpu)


def _explain_end(code: int, directory: Path) -> None:
    if code == ExitCode.INTERRUPTED:
        print("stopped; all state is saved. The same command continues.")
    elif code == ExitCode.FAILED:
        print(f"some runs failed; qamx status {directory} shows their last lines")


def _submit(sweep: Sweep, cluster: ClusterSettings) -> int:
    names = [process.name for process in sweep.waiting]
    if not names:
        return ExitCode.DONE
    directory = sweep.folder.directory.resolve()
    width = cluster.processes
    jobs = [
        slurm.SweepJob(directory, tuple(names[first : first + width]), width)
        for first in range(0, len(names), width)
    ]
    executor = slurm.make_executor(directory, _job_name(sweep), cluster)
    for name in names:
        sweep.folder.clear_exit_code(name)
    numbers = slurm.submit(jobs, executor, cluster)
    sweep.folder.submitted(numbers)
    print(f"submitted {', '.join(dict.fromkeys(numbers.values()))}")
    print(f"qamx status {sweep.folder.directory} shows their progress")
    return ExitCode.DONE


def _summary(sweep: Sweep) -> str:
    runs, waiting = sweep.runs, sweep.waiting
    starting = [run for process in waiting for run in process.runs if not run.over]
    parts = {
        "complete": sum(run.complete for run in runs),
        "left diverged": sum(run.over and not run.complete for run in runs),
        "in Slurm's queue": sum(run.run.name in sweep.queued and not run.over for run in runs),
        "at work": sum(run.progress.working and not run.over for run in runs),
        "to continue": sum(run.progress.saved > 0 for run in starting),
        "to start": sum(run.progress.saved == 0 for run in starting),
    }
    counted = ", ".join(f"{count:,} {state}" for state, count in parts.items() if count)
    return f"{sweep.suite.file}: {len(runs):,} runs: {counted}"


SHOWN_JOBS = 3
"""Jobs that a dry run lists without --verbose."""


def _show(sweep: Sweep, cluster: ClusterSettings | None, on: str, verbose: bool) -> int:
    """Prints the jobs and their estimated cost: a summary, and the first jobs or all of them."""
    waiting, rates = sweep.waiting, measured_rates(sweep.processes)
    costs = [cost_of(process, rates) for process in waiting]
    print(_summary(sweep))
    if not waiting:
        return ExitCode.DONE
    slurm_cluster = cluster if on == "slurm" else None
    width = slurm_cluster.processes if slurm_cluster else 1
    sharing = 1 if cluster is None else cluster.processes_per_gpu
    hours = [cost.hours / (sharing if cost.measured else 1) for cost in costs]
    jobs = -(-len(waiting) // width)
    print(f"{len(waiting):,} processes in {jobs:,} jobs, about {show_hours(sum(hours))} GPU hours")
    print_text(explain_costs(costs))
    for title in ("method", "environment"):
        print_table(f"by {title}", (title, "runs", "GPU hours"), _totals(title, waiting, hours))
    known = list(zip(waiting, costs, strict=True))
    for number, first in enumerate(range(0, len(known), width), start=1):
        if number > SHOWN_JOBS and not verbose:
            print(f"... and {jobs - SHOWN_JOBS:,} more jobs (--verbose lists them)")
            break
        print(f"job {number}:")
        for process, cost in known[first : first + width]:
            seeds = ", ".join(str(run.run.seed) for run in process.runs)
            about = f"{process.left:,} steps left, {show_hours(cost.hours)} GPU hours"
            noun = "seed" if len(process.runs) == 1 else "seeds"
            print(f"  {process.name} ({noun} {seeds}): {about}")
    if slurm_cluster:
        script = slurm.batch_script(sweep.folder.directory, _job_name(sweep), slurm_cluster)
        print(f"sbatch script of a job:\n{script}")
    return ExitCode.DONE


def _job_name(sweep: Sweep) -> str:
    return f"qamx-{sweep.suite.file.stem}"


def _totals(
    title: str, processes: Sequence[Process], hours: Sequence[float]
) -> list[tuple[str, str, str]]:
    """Runs and GPU hours by method or environment."""
    runs, cost = Counter[str](), defaultdict[str, float](float)
    for process, each in zip(processes, hours, strict=True):
        experiment = process.runs[0].experiment
        name = experiment.agent.method if title == "method" else experiment.environment.id
        runs[name] += len(process.runs)
        cost[name] += each
    return [(name, f"{count:,}", show_hours(cost[name])) for name, count in runs.items()]


@dataclass(frozen=True)
class Candidate:
    """A setting of an experiment, and its mean success over the tuning tasks.

    **Arguments:** `choice` are the suite's overrides, `diverged` is the number of diverged runs,
    which count as no success.
    """

    file: Path
    choice: tuple[str, ...]
    success: float
    diverged: int


def select_best(suite: Suite, runs: Sequence[ScheduledRun], file: Path) -> int:
    """Writes the suite of the best setting of each experiment, on fresh seeds.

    The best has the highest success at the end of its runs, as the mean over the tuning tasks of
    the mean over the seeds; of equal ones the first in the suite.

    **Raises:** `UserError` if the suite is none for tuning, or runs are not complete.
    """
    if suite.selected is None:
        raise UserError(
            f'{suite.file}: suite.kind: selects nothing; write kind = "tuning" in [suite]'
        )
    unfinished = [run for run in runs if not run.over]
    if unfinished:
        raise UserError(
            f"{len(unfinished):,} of {len(runs):,} runs are not complete, such as "
            f"{unfinished[0].run.name}; qamx sweep {suite.file} continues them"
        )
    candidates = list(_candidates(runs))
    best = [max(each, key=lambda candidate: candidate.success) for each in candidates]
    _write(suite, best, file)
    for chosen, each in zip(best, candidates, strict=True):
        choice = " ".join(chosen.choice) or "as the file has it"
        lost = f", {chosen.diverged} diverged" if chosen.diverged else ""
        found = f"success {chosen.success:.1%}{lost}, best of {len(each)}"
        print(f"{chosen.file.stem}: {choice}: {found}")
    print(f"wrote {file}")
    return ExitCode.DONE


def _candidates(runs: Sequence[ScheduledRun]) -> Iterator[list[Candidate]]:
    """The candidates of each experiment."""
    groups: dict[Path, dict[tuple[str, ...], list[ScheduledRun]]] = {}
    for run in runs:
        groups.setdefault(run.run.file, {}).setdefault(run.run.choice, []).append(run)
    for file, choices in groups.items():
        yield [_candidate(file, choice, group) for choice, group in choices.items()]


def _candidate(file: Path, choice: tuple[str, ...], runs: Sequence[ScheduledRun]) -> Candidate:
    tasks: dict[str, list[float]] = {}
    for run in runs:
        success = (run.progress.success or 0.0) if run.complete else 0.0
        tasks.setdefault(run.experiment.environment.label, []).append(success)
    means = [fmean(tasks[task]) for task in sorted(tasks)]
    return Candidate(file, choice, fmean(means), sum(not run.complete for run in runs))


def _write(suite: Suite, best: Sequence[Candidate], file: Path) -> None:
    import tomli_w

    assert suite.selected is not None
    shared = suite.selected.model_dump(mode="json", exclude_defaults=True)
    groups = [
        {
            "experiments": [Path(os.path.relpath(candidate.file, file.parent)).as_posix()],
            "set": list(candidate.choice),
        }
        for candidate in best
    ]
    head = f"# The best settings of {suite.file.name} by mean success over its tuning tasks.\n\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(head + tomli_w.dumps({"suite": shared, "group": groups}), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})") from error
