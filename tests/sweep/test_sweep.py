"""Sweeps: how a suite's runs are packed, carried out, stopped and submitted."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fake_runs import CUBE, complete_run, fake_run

# Here and not in a test: it closes what handlers of logs write to, which may be pytest's.
from submitit import DebugExecutor
from submitit.slurm.slurm import _make_sbatch_string

from qamx._utils.machine import visible_gpus
from qamx.cli import main
from qamx.config import ConfigError, load_suite
from qamx.errors import ExitCode, UserError
from qamx.tools.sweep import local, slurm, sweep
from qamx.tools.sweep.jobs import PlanEntry, RunSpec, SweepFolder, pack, scheduled_runs
from qamx.tools.sweep.local import Pool, worker_env
from qamx.tools.sweep.slurm import ClusterSettings, load_cluster
from qamx.tools.sweep.sweep import cost_of, explain_costs, measured_rates
from qamx.training.guards import StopRequest, locked

FAULTS = Path(__file__).parents[1] / "faults"
CORNER = f'[[group]]\nexperiments = ["{FAULTS / "corner.toml"}"]\n'

RUNS = f"""{CUBE}[schedule]
kind = "offline"
offline_steps = 1000
[checkpoint]
every = 100
"""


@pytest.fixture
def suite(tmp_path):
    """A suite of one experiment of 1,000 steps on four seeds."""
    (tmp_path / "cube.toml").write_text(RUNS)
    file = tmp_path / "suite.toml"
    file.write_text('[suite]\nseeds = [1, 2, 3, 4]\n[[group]]\nexperiments = ["cube.toml"]\n')
    return file


def packed(file, directory, seeds):
    """The seeds of each process."""
    processes = pack(scheduled_runs(load_suite(file).runs(), directory), seeds)
    return [[run.run.seed for run in process.runs] for process in processes]


def run_of(directory, seed):
    return directory / f"cube-task2-seed{seed}"


# What shares a process


def test_seeds_of_one_task_share_a_process(suite, tmp_path):
    assert packed(suite, tmp_path, 1) == [[1], [2], [3], [4]]
    assert packed(suite, tmp_path, 3) == [[1, 2, 3], [4]]
    text = suite.read_text().replace("seeds = [1, 2, 3, 4]", "seeds = [1, 2]\ntasks = [1, 3]")
    suite.write_text(text)
    assert packed(suite, tmp_path, 4) == [[1, 2], [1, 2]]


def test_a_group_goes_on_as_the_group_that_it_was(suite, tmp_path):
    for seed, step in ((1, 500), (2, 500), (3, 400), (4, 400)):  # a kill between two saves
        fake_run(run_of(tmp_path, seed), saved={step: 1.0})
    assert packed(suite, tmp_path, 4) == [[1, 2, 3, 4]]


def test_runs_that_cannot_have_been_a_group_go_on_apart(suite, tmp_path):
    complete_run(run_of(tmp_path, 2))
    fake_run(run_of(tmp_path, 3), saved={400: 1.0})
    assert packed(suite, tmp_path, 4) == [[1, 4], [3], [2]]


def test_a_diverged_member_does_not_part_its_group(suite, tmp_path):
    for seed, step in ((1, 900), (2, 900), (3, 200), (4, 900)):
        fake_run(run_of(tmp_path, seed), saved={step: 1.0})
    (run_of(tmp_path, 3) / "diverged.json").write_text('{"why": "critic/loss"}')
    assert packed(suite, tmp_path, 4) == [[1, 2, 3, 4]]


def test_a_dry_run_shows_what_is_left_and_starts_nothing(suite, tmp_path, capsys):
    complete_run(run_of(tmp_path, 1))
    fake_run(run_of(tmp_path, 2), saved={500: 1.0})
    (fake_run(run_of(tmp_path, 3)) / "diverged.json").write_text('{"why": "critic/loss"}')
    before = sorted(tmp_path.rglob("*"))
    assert main(["sweep", str(suite), "--out", str(tmp_path), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = "4 runs: 1 complete, 1 left diverged, 1 to continue, 1 to start"
    assert lines[0] == f"{suite}: {counts}"
    assert [line for line in lines if "steps left" in line] == [
        # 300 steps a second, the median of the two that have run
        "  cube-task2-seed2 (seed 2): 500 steps left, 0.00046 GPU hours",
        "  cube-task2-seed4 (seed 4): 1,000 steps left, 0.00093 GPU hours",
    ]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_is_a_summary_and_shows_a_batch_script(suite, tmp_path, capsys):
    suite.write_text(suite.read_text().replace("[1, 2, 3, 4]", "[1, 2, 3, 4, 5]"))
    (tmp_path / "cluster.toml").write_text('gpus = 1\ntime = "12:00:00"\n')
    cluster = ["--on", "slurm", "--cluster", str(tmp_path / "cluster.toml")]
    command = ["sweep", str(suite), "--out", str(tmp_path / "out"), *cluster, "--dry-run"]
    assert main(command) == 0
    short = capsys.readouterr().out
    assert "by method\n  method  runs  GPU hours\n  qam     5     0.01\n" in short
    assert "... and 2 more jobs (--verbose lists them)\n" in short
    assert short.count("\njob ") == 3
    assert "#SBATCH --time=720\n" in short
    assert not (tmp_path / "out").exists()
    assert main([*command, "--verbose"]) == 0
    assert capsys.readouterr().out.count("\njob ") == 5


# What it costs


def test_hours_are_the_paper_s_scaled_by_steps_or_those_measured_here(suite, tmp_path):
    suite.write_text(suite.read_text().replace("[1, 2, 3, 4]", "[1, 2, 3]"))
    processes = pack(scheduled_runs(load_suite(suite).runs(), tmp_path), 3)
    stated = cost_of(processes[0], measured_rates(processes))
    assert stated.hours == pytest.approx(3 * 1000 / 1_500_000 * 3)
    assert "authors' 3 h per 1.5M steps (A5000), scaled; not measured" in explain_costs([stated])
    for seed in (1, 2, 3):
        fake_run(run_of(tmp_path, seed), saved={100: 50.0, 200: 100.0})
    processes = pack(scheduled_runs(load_suite(suite).runs(), tmp_path), 3)
    measured = cost_of(processes[0], measured_rates(processes))
    assert measured.hours == pytest.approx(800 / 2.0 / 3600)
    assert explain_costs([measured]) == "Estimate: rates measured here"


# Cluster files


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('gpu = "a100"', 'gpu: unknown key; did you mean "gpus"?'),
        ("gpus = -1", "gpus: found -1; write an integer of at least 0"),
        ('cpus = "8"', 'cpus: found "8" (a string); write a positive integer'),
        (
            'time = "12h"',
            'time: found "12h"; write hours, minutes and seconds, e.g. "24:00:00", with days '
            'before them, if any, e.g. "2-00:00:00"',
        ),
        ("time = 60", 'time: found 60 (an integer); write hours, minutes and seconds, e.g. "24:'),
        (
            'time = "00:01:00"\ngrace = 60',
            'grace: found 60, which leaves nothing of the time "00:01:00"; write fewer seconds',
        ),
        ('setup = "module"', 'setup: found "module" (a string); write a list of lines'),
        ("partition = [", "line 1, column 14"),
    ],
)
def test_a_mistake_in_a_cluster_file_is_one_line(tmp_path, text, said):
    file = tmp_path / "cluster.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_cluster(file)
    assert str(caught.value).startswith(f"{file}: {said}")


def test_a_cluster_file_becomes_a_batch_script(tmp_path):
    file = tmp_path / "cluster.toml"
    file.write_text(
        'partition = "gpu"\ngpus = 2\ncpus = 16\nmemory_gb = 1.5\ntime = "1-02:00:30"\ngrace = 90\n'
        'jobs_at_once = 5\nsetup = ["module load cuda"]\noptions = { exclude = "node[1-2]" }\n'
    )
    parameters = slurm._parameters("qamx-mine", load_cluster(file))
    lines = _make_sbatch_string("python", tmp_path, map_count=9, **parameters).splitlines()
    split = [line.removeprefix("#SBATCH --").partition("=") for line in lines]
    options = {name: value for name, _, value in split}
    expected = {
        "partition": "gpu",
        "gpus-per-node": "2",
        "cpus-per-task": "16",
        "mem": "1536M",
        "time": "1561",
        "signal": "USR2@90",
        "array": "0-8%5",
        "requeue": "",
        "job-name": "qamx-mine",
        "exclude": "'node[1-2]'",
    }
    assert {key: options[key] for key in expected} == expected
    assert "wckey" not in options
    assert "module load cuda" in lines
    assert any(line.startswith("srun ") and "--cpus-per-task=16" in line for line in lines)


def test_the_page_names_every_key_of_a_cluster_file():
    page = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    assert [key for key in ClusterSettings.model_fields if f"`{key}`" not in page] == []


# A pool of processes


def test_places_are_dealt_over_the_gpus_with_their_share_of_memory():
    assert worker_env(0, 4, []) == {}
    assert worker_env(1, 2, ["3", "5"]) == {"CUDA_VISIBLE_DEVICES": "5"}
    shared = {"CUDA_VISIBLE_DEVICES": "3", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.450"}
    assert worker_env(2, 4, ["3", "5"]) == shared


def test_gpus_are_those_that_were_granted(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-7")
    assert visible_gpus() == ["2", "GPU-7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def orders(directory, count):
    """A sweep's folder with processes whose experiment cannot be read."""
    folder = SweepFolder(directory)
    names = [f"p{number}" for number in range(count)]
    for name in names:
        folder.write_specs(name, [RunSpec("none.toml", (), 1, str(directory / name))])
    return folder, names


def test_a_process_that_fails_is_noted_and_the_others_go_on(tmp_path, capsys):
    folder, names = orders(tmp_path, 2)
    assert Pool(folder, 2, [], StopRequest()).run(names) == ExitCode.FAILED
    said = capsys.readouterr().out.splitlines()
    assert [folder.exit_code_of(name) for name in names] == [2, 2]
    assert "none.toml: " in folder.log_path("p0").read_text()
    assert sorted(said)[0].startswith("[1/2] p")


def test_a_stop_before_the_first_start_starts_nothing(tmp_path):
    folder, names = orders(tmp_path, 2)
    stop = StopRequest()
    stop.make()
    assert Pool(folder, 1, [], stop).run(names) == ExitCode.INTERRUPTED
    assert not folder.log_path("p0").exists()


def test_a_stop_before_a_process_can_hear_it_is_a_stop(tmp_path, monkeypatch):
    folder, names = orders(tmp_path, 1)
    stop = StopRequest()

    class Deaf:
        """A process in which Python has not come up yet."""

        code = None

        def __init__(self, *_, **__):
            stop.make()

        def poll(self):
            return self.code

        def send_signal(self, number):
            self.code = -number

    monkeypatch.setattr(local.subprocess, "Popen", Deaf)
    assert Pool(folder, 1, [], stop).run(names) == ExitCode.INTERRUPTED
    assert folder.exit_code_of(names[0]) == ExitCode.INTERRUPTED


# Whole sweeps of the corner problem, in processes of their own


@pytest.fixture(autouse=True, scope="module")
def surrounded():
    """What the processes of a sweep need to find, and compile once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FAULTS)
        for name, value in importlib.import_module("processes").environment().items():
            patch.setenv(name, value)
        yield


def corner(tmp_path, head=""):
    file = tmp_path / "corner_suite.toml"
    file.write_text(f"{head}{CORNER}")
    return file


def outcome(folder):
    return {
        (run.name, name): (run / name).read_bytes()
        for run in sorted(folder.glob("corner-*"))
        for name in ("metrics.jsonl", "evaluations.jsonl")
    }


def submitted(file, out, jobs):
    """A sweep's one process, in a job that submitit runs in this process; the job's result."""
    plan = sweep._gather(load_suite(file), out, None)
    plan.plan()
    (process,) = plan.waiting
    (job,) = DebugExecutor(jobs).submit_array([slurm.SweepJob(out, (process.name,), 1)])
    if error := job.exception():  # `result` would open a debugger
        raise error
    return job.result()


ALONE = ""
TOGETHER = "[suite]\nseeds = [1, 2]\nseeds_per_process = 2\n"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(ALONE, id="alone"),
        pytest.param(TOGETHER, id="together", marks=pytest.mark.faults),
    ],
)
def test_an_interrupted_sweep_continues_and_ends_as_a_whole_one(
    tmp_path, monkeypatch, capsys, head
):
    file, out = corner(tmp_path, head), tmp_path / "interrupted"
    handler = signal.getsignal(signal.SIGTERM)
    assert submitted(file, tmp_path / "whole", tmp_path / "jobs") == ExitCode.DONE
    assert signal.getsignal(signal.SIGTERM) == handler

    sweep = ["sweep", str(file), "--out", str(out)]
    monkeypatch.setenv("QAMX_FAULT", "SIGTERM@60")  # the process gets the signal at step 60
    assert main(sweep) == ExitCode.INTERRUPTED
    capsys.readouterr()
    assert main(["status", str(out), "--json"]) == 0
    stopped = json.loads(capsys.readouterr().out)
    assert {(run["state"], run["step"]) for run in stopped} == {("stopped", 60)}

    monkeypatch.setenv("QAMX_FAULT", "")
    assert main(sweep) == ExitCode.DONE
    assert outcome(out) == outcome(tmp_path / "whole")
    assert len(outcome(out)) == 2 * len(stopped)
    # A process's log has what its runs print.
    assert "done: " in "".join(log.read_text() for log in out.glob("_sweep/logs/*.log"))
    assert main(sweep) == ExitCode.DONE
    assert f"{len(stopped)} complete" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.faults
def test_a_stop_of_the_sweep_stops_its_processes_with_their_state_saved(tmp_path):
    out = tmp_path / "out"
    long = ["--set", "schedule.online_steps=100_000"]
    words = ["sweep", str(corner(tmp_path)), "--out", str(out), *long]
    with subprocess.Popen(
        [sys.executable, "-m", "qamx", *words], stdout=subprocess.PIPE, text=True
    ) as process:
        watch = threading.Timer(300, process.kill)
        watch.start()
        while not list(out.glob("corner-*/checkpoints/*/manifest.json")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
        watch.cancel()
    assert process.returncode == ExitCode.INTERRUPTED
    assert said.splitlines()[-1] == "stopped; all state is saved. The same command continues."
    assert "stopped; all state is saved" in next(out.glob("_sweep/logs/*.log")).read_text()


def test_one_sweep_at_a_time_in_a_folder(suite, tmp_path, capsys):
    folder = SweepFolder(tmp_path / "out")
    folder.plan({})
    with locked(folder.own):
        assert main(["sweep", str(suite), "--out", str(folder.directory)]) == 2
    assert "_sweep: another process works here (pid " in capsys.readouterr().err


# Submission


def test_a_job_whose_process_fails_fails(tmp_path):
    from qamx.errors import RunError

    _, names = orders(tmp_path, 1)
    with pytest.raises(RunError, match="a run failed; qamx status"):
        slurm.SweepJob(tmp_path, tuple(names), 1)()


def test_a_job_that_comes_back_leaves_out_what_is_done(tmp_path):
    folder, names = orders(tmp_path, 2)
    for name in names:
        folder.record_exit_code(name, 0)
    assert slurm.SweepJob(tmp_path, tuple(names), 1)() == ExitCode.DONE
    assert not folder.log_path(names[0]).exists()


@pytest.mark.parametrize(("number", "requeued"), [("SIGTERM", 0), ("SIGUSR1", 1), ("SIGUSR2", 1)])
def test_a_warning_is_passed_on_to_submitit_once_all_is_saved(
    tmp_path, monkeypatch, number, requeued
):
    calls = []

    def stopped(self, processes):
        os.kill(os.getpid(), getattr(signal, number))
        assert calls == []  # submitit would have ended the process at once
        return ExitCode.INTERRUPTED

    monkeypatch.setattr(Pool, "run", stopped)
    before = signal.signal(signal.SIGUSR2, lambda *_: calls.append("requeued"))
    try:
        with pytest.raises(SystemExit) as ended:
            slurm.SweepJob(tmp_path, ("p",), 1)()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert ended.value.code == ExitCode.INTERRUPTED
    assert len(calls) == requeued


def test_many_jobs_are_several_arrays_and_each_process_knows_its_job(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "LONGEST_ARRAY", 2)

    class Sent:
        def __init__(self, number):
            self.job_id = number

    class Executor:
        arrays = 0

        def submit_array(self, fns):
            self.arrays += 1
            return [Sent(f"{self.arrays}_{index}") for index, _ in enumerate(fns)]

    jobs = [slurm.SweepJob(tmp_path, (f"a{n}", f"b{n}"), 2) for n in range(3)]
    numbers = slurm.submit(jobs, Executor())
    assert numbers["a0"] == numbers["b0"] == "1_0"
    assert (numbers["a1"], numbers["b2"]) == ("1_1", "2_0")


SBATCH = """#!/bin/sh
env > "$0.environment"
for word in "$@"; do file=$word; done
cp "$file" "$0.script"
echo "Submitted batch job 7"
"""

INHERITED = {
    "SLURM_JOB_ID": "3",
    "SLURM_CPU_BIND": "quiet,mask_cpu:0x1",
    "SLURM_CPU_BIND_LIST": "0x1",
    "SLURM_CPUS_PER_TASK": "1",
    "SLURM_MEM_PER_CPU": "100",
    "SLURM_MEM_PER_NODE": "4000",
    "SLURM_TRES_PER_TASK": "cpu=1",
    "SLURM_NTASKS": "8",
    "SLURM_HINT": "nomultithread",
    "SLURM_EXPORT_ENV": "NONE",
    "SLURMD_NODENAME": "node1",
    "SRUN_DEBUG": "3",
    "SBATCH_CPU_BIND": "quiet",
    "SBATCH_MEM_PER_CPU": "100",
    "SBATCH_PARTITION": "debug",
    "CUDA_VISIBLE_DEVICES": "3",
    "GPU_DEVICE_ORDINAL": "3",
}
REACHED = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_CLUSTERS": "big", "SBATCH_ACCOUNT": "mine"}


@pytest.mark.parametrize(
    ("variables", "file", "arrive"),
    [
        ({**INHERITED, **REACHED}, 'partition = "gpu"', REACHED),
        (INHERITED, "", {"SBATCH_PARTITION": "debug"}),
        (
            {"SBATCH_PARTITION": "debug", "SBATCH_ACCOUNT": "mine", "SBATCH_QOS": "low"},
            'qos = "high"\noptions = { account = "theirs" }',
            {"SBATCH_PARTITION": "debug"},
        ),
        ({"CUDA_VISIBLE_DEVICES": "0"}, "", {"CUDA_VISIBLE_DEVICES": "0"}),
        ({"SBATCH_TIMELIMIT": "1", "SBATCH_GPUS": "8"}, "", {}),
    ],
    ids=["inside a job", "partition left open", "named in the file", "outside a job", "limits"],
)
@pytest.mark.parametrize("count", [1, 2])
def test_a_job_has_what_the_cluster_file_grants_and_not_what_the_submitter_has(
    tmp_path, monkeypatch, variables, file, arrive, count
):
    stub = tmp_path / "bin" / "sbatch"
    stub.parent.mkdir()
    for program in (stub, stub.with_name("srun")):
        program.write_text(SBATCH)
        program.chmod(0o755)
    for name in list(os.environ):
        if name.startswith(slurm.OF_A_JOB) or name in slurm.GRANTED:
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "cluster.toml").write_text(f"{file}\n")
    cluster = load_cluster(tmp_path / "cluster.toml")
    executor = slurm.make_executor(tmp_path, "name", cluster)
    before = dict(os.environ)
    numbers = slurm.submit(
        [slurm.SweepJob(tmp_path, (f"p{index}",), 1) for index in range(count)], executor, cluster
    )
    assert set(numbers.values()) == ({"7"} if count == 1 else {"7_0", "7_1"})
    assert dict(os.environ) == before
    lines = (tmp_path / "bin" / "sbatch.environment").read_text().splitlines()
    seen = dict(line.partition("=")[::2] for line in lines)
    names = {n for n in seen if n.startswith(slurm.OF_A_JOB) or n in slurm.GRANTED}
    assert {name: seen[name] for name in names} == arrive
    assert f"#SBATCH --cpus-per-task={cluster.cpus}" in (
        (tmp_path / "bin" / "sbatch.script").read_text()
    )


def test_what_is_in_the_queue_is_not_submitted_again(suite, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    name = "cube-task2-seed3"
    SweepFolder(out).plan({name: PlanEntry(name, 1000, "kind", job="7_0")})
    monkeypatch.setattr(slurm, "active_jobs", lambda: {"7_0": "PENDING"})
    assert main(["sweep", str(suite), "--out", str(out), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "4 runs: 1 in Slurm's queue, 3 to start" in said
    assert f"{name} (" not in said


def test_a_failed_submission_forgets_nothing(suite, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "cluster.toml").write_text("gpus = 0\n")
    with pytest.raises(UserError, match="no sbatch here"):
        sweep.sweep(
            suite,
            overrides=(),
            out=tmp_path / "out",
            on="slurm",
            cluster_file=tmp_path / "cluster.toml",
            jobs=None,
            dry=False,
            verbose=False,
            selected=None,
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--jobs", "0"], "--jobs: found 0; write a positive integer, e.g. 4"),
        (["--on", "slurm", "--jobs", "2"], "--jobs: is for --on local; on Slurm write jobs_at_"),
        (["--on", "slurm"], "--on slurm: needs --cluster FILE, the Slurm resources of a job"),
        (["--cluster", "none.toml"], "none.toml: "),
        (["--set", "agent.flow_step=3"], '--set: agent.flow_step: unknown key; did you mean "flow'),
        (["--select", "x.toml"], 'suite.kind: selects nothing; write kind = "tuning" in [suite]'),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(suite, options, said, capsys):
    assert main(["sweep", str(suite), *options]) == 2
    assert said in capsys.readouterr().err.splitlines()[0]
