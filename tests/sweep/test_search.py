"""Searches: what is drawn, compared, stopped and resumed."""

import importlib
import json
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_runs import CUBE, fake_run
from optuna.trial import TrialState

from qamx.cli import main
from qamx.config import ConfigError, load_suite
from qamx.errors import ExitCode
from qamx.tools.sweep import search, slurm
from qamx.tools.sweep.jobs import SweepFolder, read_specs
from qamx.training.guards import locked

# Here and not in a test: it closes what handlers of logs write to, which may be pytest's.
importlib.import_module("submitit")

RUNS = f"""{CUBE}[schedule]
kind = "offline"
offline_steps = 1000
[evaluation]
every = 250
"""

SEARCH = """
[suite]
seeds = [1, 2]
[search]
trials = 6
seed = 3
{more}
[search.parameters]
agent.inverse_temperature = {{ low = 0.1, high = 100.0, log = true }}
agent.flow_steps = {{ low = 1, high = 10 }}
agent.actor_hidden = [[16], [32, 32]]
[[group]]
experiments = ["cube.toml"]
"""

STEPS = 250
BEST = 10.0
"""The inverse temperature at which the trainer of these tests succeeds most."""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "cube.toml").write_text(RUNS)

    def write(more="", text=SEARCH):
        file = tmp_path / "suite.toml"
        file.write_text(text.format(more=more))
        return file

    return write


def success(temperature):
    return max(0.0, 1 - abs(np.log10(temperature / BEST)) / 2)


class Trainer:
    """Stands for the pool: each run is evaluated every 250 steps, and succeeds as it is drawn.

    `faults` are raised, or are exit codes, after the first evaluation of a start, by its number.
    """

    starts: list[str]
    faults: dict

    def __init__(self, folder, width, gpus, stop):
        self._folder, self._width = folder, width
        self._running, self._stopped, self._faults = {}, set(), {}

    @property
    def free(self):
        return len(self._running) < self._width

    def start(self, process):
        self.starts.append(process)
        self._faults[process] = self.faults.get(len(self.starts))
        run, *_ = read_specs(self._folder.specs_path(process))
        saved = Path(run.directory, "checkpoints").glob("*")
        self._running[process] = max((int(path.name) for path in saved), default=0)

    def reap(self):
        for process in list(self._running):
            if process in self._stopped:
                yield self._end(process, ExitCode.INTERRUPTED)
                continue
            step = self._running[process] = self._running[process] + STEPS
            for run in read_specs(self._folder.specs_path(process)):
                self._write(run, step)
            if (fault := self._faults[process]) is KeyboardInterrupt:
                raise fault
            if isinstance(fault, signal.Signals):
                signal.raise_signal(fault)
                continue
            if fault is not None or step == 1000:
                yield self._end(process, fault or 0)

    def _end(self, process, code):
        del self._running[process]
        return process, code

    def _write(self, run, step):
        values = dict(text.split("=", 1) for text in run.overrides)
        temperature = float(values["agent.inverse_temperature"])
        curve = {s: success(temperature) * s / 1000 for s in range(STEPS, step + 1, STEPS)}
        fake_run(Path(run.directory), saved={step: 1.0}, evaluated=curve)

    def stop(self, processes=None):
        self._stopped |= {p for p in self._running if processes is None or p in processes}

    def kill(self):
        self._running.clear()


@pytest.fixture(autouse=True)
def trainer(monkeypatch, request):
    if request.node.get_closest_marker("faults"):
        return
    Trainer.starts, Trainer.faults = [], {}
    monkeypatch.setattr(search, "Pool", Trainer)
    monkeypatch.setattr(search, "POLL_SECONDS", 0.0)


def run(file, out, *options):
    return main(["sweep", str(file), "--out", str(out), *options])


def trials(out):
    """Number, state, setting, and success of each trial."""
    study = search.open_study(SweepFolder(out), create=False)
    return [(t.number, t.state, t.params, t.value) for t in study.get_trials()]


def temperatures(out):
    return [setting["agent.inverse_temperature"] for _, _, setting, _ in trials(out)]


ALL = 'pruner = "none"\nstartup_trials = 3'


def test_a_search_draws_in_the_ranges_and_finds_what_succeeds(write, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(write(ALL), out, "--jobs", "2") == ExitCode.DONE
    found = trials(out)
    assert [trial[:2] for trial in found] == [(n, TrialState.COMPLETE) for n in range(6)]
    for _, _, setting, value in found:
        assert 0.1 <= setting["agent.inverse_temperature"] <= 100
        assert setting["agent.flow_steps"] in range(1, 11)
        assert setting["agent.actor_hidden"] in ("[16]", "[32, 32]")
        assert value == pytest.approx(success(setting["agent.inverse_temperature"]))
    assert len(set(Trainer.starts)) == len(Trainer.starts) == 6 * 2
    best = max(found, key=lambda trial: trial[-1] or 0.0)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if " * " in line] == [str(best[0])]


def halved(values, steps, factor):
    """The last steps of trials that come one after the other, by asynchronous successive halving.

    Source: Li et al. (2020), *A system for massively parallel hyperparameter tuning*, Algorithm 2.
    """
    rungs = {}
    for value in values:
        for step in steps:
            rung = rungs.setdefault(step, [])
            rung.append(value)
            if value < sorted(rung, reverse=True)[max(len(rung) // factor, 1) - 1]:
                yield step
                break
        else:
            yield None


def test_trials_that_are_behind_are_stopped(write, tmp_path, capsys):
    out = tmp_path / "out"
    text = SEARCH.replace("[1, 2]", "[1]").replace("trials = 6", "trials = 9")
    assert run(write('sampler = "random"\nreduction_factor = 2', text), out) == ExitCode.DONE
    study = search.open_study(SweepFolder(out), create=False)
    ends = [t.last_step if t.state is TrialState.PRUNED else None for t in study.get_trials()]
    expected = list(halved(map(success, temperatures(out)), (250, 500), 2))
    assert ends == expected
    assert {*ends} == {None, 250}
    capsys.readouterr()
    assert main(["status", str(out), "--json"]) == 0
    states = {run["run"]: run["state"] for run in json.loads(capsys.readouterr().out)}
    for number, end in enumerate(ends):
        assert states[f"cube-trial{number}-task2-seed1"] == (
            "complete" if end is None else "pruned"
        )


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("pruner", ["none", "successive_halving"])
def test_a_killed_search_ends_as_a_whole_one(write, tmp_path, sampler, pruner):
    file = write(f'sampler = "{sampler}"\npruner = "{pruner}"\nstartup_trials = 3')
    assert run(file, tmp_path / "whole", "--jobs", "1") == ExitCode.DONE
    Trainer.starts, Trainer.faults = [], {2: KeyboardInterrupt, 5: KeyboardInterrupt}
    for code in (130, 130, ExitCode.DONE):
        assert run(file, tmp_path / "killed", "--jobs", "1") == code
    assert trials(tmp_path / "killed") == trials(tmp_path / "whole")


def test_a_stopped_search_saves_and_continues(write, tmp_path, capsys):
    file, out = write(ALL), tmp_path / "out"
    assert run(file, tmp_path / "whole") == ExitCode.DONE
    Trainer.starts, Trainer.faults = [], {3: signal.SIGTERM}
    assert run(file, out) == ExitCode.INTERRUPTED
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "stopped; all state is saved. The same command continues."
    assert said[-2].split()[:2] == ["1", "stopped"]
    assert run(file, out) == ExitCode.DONE
    assert trials(out) == trials(tmp_path / "whole")


def test_a_diverged_run_counts_as_no_success_and_is_no_failure(write, tmp_path):
    out, text = tmp_path / "out", SEARCH.replace("trials = 6", "trials = 2")
    write_run = Trainer._write

    def diverge(self, run, step):
        write_run(self, run, step)
        if "trial1-" in run.directory and run.seed == 2:
            Path(run.directory, "diverged.json").write_text('{"why": "critic/loss"}')

    Trainer.faults = {4: 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_write", diverge)
        assert run(write(ALL, text), out, "--jobs", "1") == ExitCode.DONE
    _, state, setting, value = trials(out)[1]
    assert state is TrialState.COMPLETE
    assert value == pytest.approx(success(setting["agent.inverse_temperature"]) / 2)


def test_a_failed_run_stops_the_drawing_and_is_retried(write, tmp_path, capsys):
    file, out = write(ALL), tmp_path / "out"
    Trainer.faults = {3: 1}
    assert run(file, out, "--jobs", "1") == ExitCode.FAILED
    assert [state for _, state, *_ in trials(out)] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert f"qamx status {out} shows their last lines" in capsys.readouterr().out
    first = trials(out)[1][2]
    assert run(file, out) == ExitCode.DONE
    assert trials(out)[1][2] == first
    assert [state for _, state, *_ in trials(out)] == [TrialState.COMPLETE] * 6


def test_a_trial_that_another_process_works_on_is_left_alone(write, tmp_path):
    file, out = write(ALL), tmp_path / "out"
    Trainer.faults = {1: KeyboardInterrupt}
    assert run(file, out) == 130
    with locked(SweepFolder(out).own / "trials" / "0"):
        assert run(file, out) == ExitCode.DONE
    assert [state for _, state, *_ in trials(out)].count(TrialState.COMPLETE) == 5
    assert trials(out)[0][1] is TrialState.RUNNING
    assert not any("trial0" in name for name in Trainer.starts[1:])


def test_a_setting_that_is_invalid_as_a_whole_is_a_trial_and_not_the_end(write, tmp_path, capsys):
    out = tmp_path / "out"
    made = search._sweep_of

    def refused(suite, folder, number, values, together):
        if number == 2:
            raise ConfigError([])
        return made(suite, folder, number, values, together)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_sweep_of", refused)
        assert run(write(ALL), out) == ExitCode.DONE
    states = [state for _, state, *_ in trials(out)]
    assert states == [TrialState.FAIL if n == 2 else TrialState.COMPLETE for n in range(6)]
    assert "trial 2: invalid: " in capsys.readouterr().out


def test_a_dry_run_shows_the_trials_to_come_and_changes_nothing(write, tmp_path, capsys):
    file, out = write('sampler = "random"\npruner = "none"'), tmp_path / "out"
    before = sorted(tmp_path.rglob("*"))
    assert run(file, out, "--dry-run") == 0
    assert sorted(tmp_path.rglob("*")) == before
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"{file}: 6 trials by random: 6 to start"
    assert shown[-2].startswith("6 trials of 2 runs each, at most 0.024 GPU hours")
    assert run(file, out) == ExitCode.DONE
    for line, (_, _, setting, _) in zip(shown[2:8], trials(out), strict=True):
        assert f"agent.inverse_temperature={setting['agent.inverse_temperature']:.4g} " in line
    capsys.readouterr()
    assert run(file, out, "--dry-run") == 0
    assert "6 trials by random: 6 complete" in capsys.readouterr().out


def test_another_search_in_the_folder_is_refused_and_more_trials_are_not(write, tmp_path, capsys):
    file, out = write(ALL, SEARCH.replace("trials = 6", "trials = 2")), tmp_path / "out"
    assert run(file, out) == ExitCode.DONE
    for dry in ([], ["--dry-run"]):
        assert run(write(ALL, SEARCH.replace("100.0", "50.0")), out, *dry) == 2
        said = capsys.readouterr().err
        assert "agent.inverse_temperature: 0.1 to 100.0, logarithmic there, 0.1 to 50.0" in said
    first = trials(out)
    assert run(write(ALL, SEARCH.replace("trials = 6", "trials = 3")), out) == ExitCode.DONE
    assert (trials(out)[:2], len(trials(out))) == (first, 3)


def test_the_best_trial_is_selected(write, tmp_path, capsys):
    text = SEARCH.replace("[suite]", '[selected]\nseeds = [7]\n[suite]\nkind = "tuning"')
    file, out, tuned = write(ALL, text), tmp_path / "out", tmp_path / "tuned.toml"
    assert run(file, out, "--select", str(tuned)) == 2
    assert "0 of 6 trials have ended" in capsys.readouterr().err
    assert run(file, out) == ExitCode.DONE
    assert run(file, out, "--select", str(tuned)) == 0
    (selected,) = load_suite(tuned).runs()
    chosen = selected.load()
    assert chosen.seed == 7
    best = max(map(success, temperatures(out)))
    assert success(chosen.to_dict()["agent"]["inverse_temperature"]) == best


def test_jobs_of_a_cluster_share_the_trials(write, tmp_path, capsys, monkeypatch):
    file, out = write(ALL), tmp_path / "out"
    sent = []

    class Sent:
        def __init__(self, number):
            self.job_id = number

    class Executor:
        def submit_array(self, jobs):
            sent.extend(jobs)
            return [Sent(f"7_{index}") for index, _ in enumerate(jobs)]

    monkeypatch.setattr(slurm, "make_executor", lambda *_: Executor())
    active = {}
    monkeypatch.setattr(search, "active_jobs", lambda: active)
    (tmp_path / "cluster.toml").write_text("gpus = 0\nprocesses_per_gpu = 3\njobs_at_once = 3\n")
    on = ("--on", "slurm", "--cluster", str(tmp_path / "cluster.toml"))
    assert run(file, out, *on) == 0
    assert len(sent) == 3  # of the four that six trials of two runs would keep busy
    active |= {"7_1": "RUNNING", "7_2": "PENDING"}
    assert run(file, out, *on) == 0
    assert len(sent) == 4
    active.clear()
    assert [pickle.loads(pickle.dumps(job))() for job in sent[:2]] == [0, 0]
    assert [state for _, state, *_ in trials(out)] == [TrialState.COMPLETE] * 6
    assert run(file, out, *on) == 0
    assert "6 trials have ended" in capsys.readouterr().out.splitlines()[-1]
    assert len(sent) == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("trials = 6", "", "search.trials: missing; write a positive integer, e.g. 30"),
        ("seed = 3", 'sampler = "tp"', 'search.sampler: found "tp"; did you mean "tpe"?'),
        (
            "low = 0.1",
            "low = 0.0",
            "search.parameters.agent.inverse_temperature.log: found true with",
        ),
        (
            "low = 1,",
            "low = 10,",
            "search.parameters.agent.flow_steps.high: found 10; write a number",
        ),
        ("low = 1,", "", "search.parameters.agent.flow_steps.low: missing; write"),
        ("[[16], [32, 32]]", "3", "search.parameters.agent.actor_hidden: found 3; write a list of"),
        (
            "flow_steps",
            "flow_step",
            'search.parameters: agent.flow_step: unknown key; did you mean "f',
        ),
        ("high = 10 ", "high = 0.5 ", "search.parameters.agent.flow_steps.high: found 0.5; write"),
        ("low = 1,", "low = 0,", "search.parameters: agent.flow_steps: found 0; write a positive"),
        ('["cube.toml"]', '["cube.toml", "qam.toml"]', "search: found 2 experiments and variants"),
    ],
)
def test_a_mistake_is_one_line_before_the_first_run(write, tmp_path, capsys, old, new, said):
    (tmp_path / "qam.toml").write_text(RUNS)
    assert old in SEARCH
    file = write(text=SEARCH.replace(old, new))
    for command in (["check", str(file)], ["sweep", str(file), "--out", str(tmp_path / "out")]):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{file}: {said}")
    assert not (tmp_path / "out").exists()


def test_a_searched_key_is_not_overridden(write, capsys):
    assert main(["sweep", str(write()), "--set", "agent.flow_steps=3"]) == 2
    assert "--set: agent.flow_steps: searched by" in capsys.readouterr().err


def test_without_optuna_the_message_says_what_to_install(write, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "qamx.tools.sweep.search")
    monkeypatch.delattr("qamx.tools.sweep.search")
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", str(write())]) == 2
    assert 'pip install -e ".[search]"' in capsys.readouterr().err


FAULTS = Path(__file__).parents[1] / "faults"
CORNER = f"""
[search]
trials = 3
startup_trials = 1
pruner = "none"
[search.parameters]
agent.edit_scale = {{ low = 0.1, high = 0.5 }}
[[group]]
experiments = ["{FAULTS / "corner.toml"}"]
"""


@pytest.mark.faults
def test_a_search_that_is_killed_at_work_loses_and_repeats_no_trial(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FAULTS)
    for name, value in importlib.import_module("processes").environment().items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "suite.toml"
    file.write_text(CORNER)
    assert run(file, tmp_path / "whole", "--jobs", "1") == ExitCode.DONE
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "qamx", "sweep", str(file), "--out", str(out), "--jobs", "1"]
    with subprocess.Popen(command) as process:
        while not list(out.glob("corner-trial1-*/checkpoints/*/manifest.json")):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    assert run(file, out, "--jobs", "1") == ExitCode.DONE
    assert trials(out) == trials(tmp_path / "whole")
    logs = [path.read_bytes() for path in sorted(out.glob("corner-*/metrics.jsonl"))]
    assert logs == [p.read_bytes() for p in sorted((tmp_path / "whole").glob("*/metrics.jsonl"))]
