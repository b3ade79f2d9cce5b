"""The status of runs: what their folders, their processes' ends and Slurm say."""

import json
from pathlib import Path

import pytest
from fake_runs import complete_run, fake_run

from qamx.cli import main
from qamx.tools.sweep import status
from qamx.tools.sweep.jobs import PlanEntry, SweepFolder, progress_of, steps_of
from qamx.training.guards import locked
from qamx.training.logs import write_rate


def shown(directory, capsys):
    """The runs that `qamx status --json` has, by name."""
    assert main(["status", str(directory), "--json"]) == 0
    return {run["run"]: run for run in json.loads(capsys.readouterr().out)}


def plan(directory, **entries):
    """A sweep's plan with a process for each run, of 1,000 steps."""
    folder = SweepFolder(directory)
    folder.plan({name: PlanEntry(name, 1000, "kind", job) for name, job in entries.items()})
    for name in entries:
        folder.write_specs(name, [])
    return folder


# How far a run is


def test_a_run_is_complete_with_its_last_evaluation_and_checkpoint(tmp_path):
    whole = progress_of(complete_run(tmp_path / "whole"))
    unsaved = progress_of(fake_run(tmp_path / "a", saved={900: 1.0}, evaluated={1000: 1.0}))
    unplayed = progress_of(fake_run(tmp_path / "b", saved={1000: 1.0}, evaluated={900: 1.0}))
    assert [one.complete(1000) for one in (whole, unsaved, unplayed)] == [True, False, False]
    assert not whole.complete(2000)


def test_the_last_step_is_the_sum_of_the_phases():
    assert steps_of({"kind": "x", "offline_steps": 7, "online_steps": 5, "online_warmup": 3}) == 12
    assert steps_of({"cloning_steps": 2, "updates_per_step": 9}) == 2


def test_the_rate_is_of_what_was_written_since_the_last_start(tmp_path):
    run = fake_run(
        tmp_path / "run", saved={400: 110.0, 600: 150.0}, logged={700: 170.0}, starts=(0.0, 100.0)
    )
    assert progress_of(run).rate == pytest.approx(300 / 60)


@pytest.mark.parametrize(
    ("files", "rate"),
    [
        ({"saved": {400: 100.0}}, 4.0),  # since the start, for want of two marks
        ({"saved": {400: 100.0, 500: 250.0}, "starts": (0.0, 200.0)}, 2.0),
        ({"saved": {400: 100.0}, "starts": (0.0, 50.0)}, None),  # where it went on is unknown
        ({"saved": {400: 100.0}, "starts": (0.0, 200.0)}, None),  # nothing yet
        ({}, None),
    ],
)
def test_a_rate_needs_two_known_points(tmp_path, files, rate):
    assert progress_of(fake_run(tmp_path / "run", **files)).rate == rate


def test_a_checkpoint_that_is_removed_meanwhile_is_left_out(tmp_path, monkeypatch):
    run, glob = fake_run(tmp_path / "run", saved={400: 100.0}), Path.glob
    gone = run / "checkpoints" / "300" / "manifest.json"
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: [gone, *glob(folder, pattern)])
    assert progress_of(run).saved == 400


def test_a_run_at_work_is_at_its_last_row_and_else_where_it_goes_on(tmp_path):
    run = fake_run(tmp_path / "run", saved={400: 100.0}, logged={500: 120.0})
    assert progress_of(run).step == 400
    with locked(run):
        assert (progress_of(run).working, progress_of(run).step) == (True, 500)
    assert not progress_of(run).working


def test_looking_at_a_lock_does_not_refuse_the_run_that_takes_it(tmp_path, capsys):
    run = fake_run(tmp_path / "run")
    with locked(run):
        assert shown(tmp_path, capsys)["run"]["state"] == "running"
    with locked(run):
        pass


# States


def test_each_state(tmp_path, capsys):
    folder = plan(tmp_path, new=None, going=None, stopped=None, broken=None, done=None, killed=None)
    complete_run(tmp_path / "done", success=0.25)
    for name in ("going", "stopped", "broken", "killed"):
        fake_run(tmp_path / name, saved={500: 100.0}, evaluated={500: 0.5})
    folder.record_exit_code("stopped", 75)
    folder.record_exit_code("broken", 1)
    folder.record_exit_code("killed", -9)
    folder.log_path("broken").parent.mkdir()
    folder.log_path("broken").write_text("".join(f"line {n}\n" for n in range(9)))
    write_rate(tmp_path / "done", 7.0)
    with locked(tmp_path / "going"):
        found = shown(tmp_path, capsys)
        write_rate(tmp_path / "going", 50.0)  # what the run's own bar shows
        going = shown(tmp_path, capsys)["going"]
    assert (going["rate"], going["left"]) == (50.0, 10.0)
    assert found["done"]["rate"] is None
    assert {name: run["state"] for name, run in found.items()} == {
        "new": "queued",
        "going": "running",
        "stopped": "stopped",
        "broken": "failed",
        "killed": "failed",
        "done": "complete",
    }
    assert found["broken"]["lines"] == [f"line {n}" for n in range(4, 9)]
    assert (found["going"]["rate"], found["going"]["left"]) == (5.0, 100.0)
    assert found["done"]["success"] == 0.25
    assert (found["new"]["step"], found["new"]["total"]) == (0, 1000)


@pytest.mark.parametrize(
    ("word", "state"), [("PENDING", "queued"), ("RUNNING", "running"), (None, "failed")]
)
def test_slurm_s_word_is_asked_for_where_a_job_is_recorded(
    tmp_path, capsys, monkeypatch, word, state
):
    plan(tmp_path, run="7_1").record_exit_code("run", 1)
    fake_run(tmp_path / "run", saved={500: 100.0})
    monkeypatch.setattr(status, "active_jobs", lambda: {"7_1": word} if word else {})
    found = shown(tmp_path, capsys)["run"]
    assert (found["state"], found["step"]) == (state, 500)
    assert found["job"] == (f"7_1 {word}" if word else "7_1")


def test_slurm_is_not_asked_without_a_job(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(status, "active_jobs", lambda: pytest.fail("asked"))
    complete_run(tmp_path / "run")
    assert shown(tmp_path, capsys)["run"]["state"] == "complete"


def test_a_diverged_run_says_why(tmp_path, capsys):
    fake_run(tmp_path / "member", saved={500: 1.0})
    (tmp_path / "member" / "diverged.json").write_text('{"why": "critic/loss not finite"}')
    for name, step in (("alone", 600), ("recovered", 300)):
        run = fake_run(tmp_path / name, saved={500: 1.0}, logged={500: 2.0})
        evidence = run / "nonfinite" / f"step-{step}" / "report.json"
        evidence.parent.mkdir(parents=True)
        evidence.write_text("{}")
    found = shown(tmp_path, capsys)
    assert {name: run["state"] for name, run in found.items()} == {
        "member": "diverged",
        "alone": "diverged",
        "recovered": "stopped",  # rows of later steps were finite
    }
    assert found["member"]["why"] == "critic/loss not finite"
    assert "step-600" in found["alone"]["why"]


def test_the_table_is_plain_where_it_is_piped_and_shows_failures(tmp_path, capsys):
    folder = plan(tmp_path, run=None)
    fake_run(tmp_path / "run", saved={500: 1.0})
    folder.record_exit_code("run", 2)
    folder.log_path("run").parent.mkdir()
    folder.log_path("run").write_text("agent.discount: found 2\n")
    assert main(["status", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["run", "failed", "500", "1,000"]
    assert lines[-3:] == [
        f"run: the end of {folder.log_path('run')}:",
        "    agent.discount: found 2",
        "1 failed",
    ]


def test_runs_are_found_in_suites_beside_each_other_and_by_themselves(tmp_path, capsys):
    complete_run(tmp_path / "one" / "a")
    complete_run(tmp_path / "two" / "b")
    complete_run(tmp_path / "c")
    assert set(shown(tmp_path, capsys)) == {"a", "b", "c"}
    assert set(shown(tmp_path / "c", capsys)) == {"c"}


def test_a_folder_without_runs_is_the_user_s_error(tmp_path, capsys):
    assert main(["status", str(tmp_path / "none")]) == 2
    assert "no runs here" in capsys.readouterr().err


def test_a_spoilt_plan_is_named(tmp_path, capsys):
    plan(tmp_path, run=None)
    (tmp_path / "_sweep" / "plan.json").write_text('{"run": 3}')
    assert main(["status", str(tmp_path)]) == 2
    assert "plan.json: cannot be read" in capsys.readouterr().err
