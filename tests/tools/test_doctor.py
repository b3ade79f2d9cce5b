"""Doctor and verify-resume: their verdicts, also when there is something to find."""

import subprocess

import numpy as np
import pytest
from short_run import QUICKSTART, SIZES, maze_data

from qamx._utils import processes
from qamx.cli import main
from qamx.tools import doctor as clinic
from qamx.tools import verify_resume
from qamx.tools.doctor import Diagnosis

TINY = (
    *SIZES,
    "evaluation.episodes=1",
    "evaluation.behaviour=false",
)


@pytest.mark.faults
def test_a_killed_run_is_verified_to_resume(tmp_path, capsys):
    given = [*TINY, *maze_data(tmp_path)]
    assert main(["verify-resume", str(QUICKSTART), "--kills", "2", "--set", *given]) == 0
    said = capsys.readouterr().out
    assert "kill 1 of 2: offline" in said
    assert "kill 2 of 2: online" in said
    assert "compared bitwise" in said
    assert said.count(" equal\n") == 4
    assert said.endswith("resumes exactly: survived 2 of 2 kills\n")


def test_verify_resume_needs_a_kill(capsys):
    assert main(["verify-resume", str(QUICKSTART), "--kills", "0"]) == 2
    assert "--kills: found 0; write a positive integer" in capsys.readouterr().err


def test_one_bit_is_a_difference():
    one = {"a": np.zeros(3, np.float32), "b": np.ones(2, np.float32)}
    other = {"a": one["a"], "b": np.nextafter(one["b"], np.float32(2))}
    assert verify_resume._compare_arrays("x", one, one, 0.0).fault == ""
    assert verify_resume._compare_arrays("x", one, other, 0.0).fault == "1 differ, the first b"
    assert verify_resume._compare_arrays("x", one, other, 1e-3).fault == ""
    far = {"a": one["a"], "b": one["b"] + 1}
    assert verify_resume._compare_arrays("x", one, far, 1e-3).fault == "1 differ, the first b"


def test_a_row_that_differs_is_named(tmp_path):
    runs = tmp_path / "one", tmp_path / "other"
    for run, loss in zip(runs, (1.0, 2.0), strict=True):
        run.mkdir()
        row = '{"step": 3, "phase": "offline", "critic/loss": %s}\n'
        (run / "metrics.jsonl").write_text(row % loss)
    said = verify_resume._compare_rows("metrics", runs, exact=True).fault
    assert said == "differ from step 3 on: critic/loss"
    assert (
        verify_resume._compare_rows("metrics", runs, exact=False).fault == "differ from step 3 on"
    )


@pytest.mark.parametrize(
    ("verdict", "status", "count"),
    [("ok", 0, "problems: 0, warnings: 0"), ("problem", 1, "problems: 1, warnings: 0")],
)
def test_the_doctor_s_exit_status(monkeypatch, capsys, verdict, status, count):
    monkeypatch.setattr(clinic, "CHECKS", (lambda: Diagnosis("x", verdict, "found", "do this"),))
    assert main(["doctor"]) == status
    said = capsys.readouterr().out
    assert count in said
    assert "do this" in said


def test_a_probe_that_hangs_or_fails_is_reported(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1000)
    monkeypatch.setattr(processes, "SECONDS", 0.5)
    assert processes.probe("import time; time.sleep(60)") == (False, "no answer within 0 s")
    monkeypatch.setattr(processes, "SECONDS", 60.0)
    assert processes.probe("raise OSError('no device')") == (False, "OSError: no device")
    assert processes.probe("print('fine')") == (True, "fine")


def test_a_busy_machine_is_not_taken_for_a_broken_installation(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (20.0, 10.0, 5.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    waited = []

    def hangs(command, seconds, **variables):
        waited.append(seconds)
        raise subprocess.TimeoutExpired(command, seconds)

    monkeypatch.setattr(processes, "output_of", hangs)
    for found in (clinic.environment(), clinic.device()):
        assert (found.verdict, found.remedy) == ("warning", clinic.TRY_AGAIN)
        assert found.found == "slow: no answer within 200 s (load 20, 2 cores)"
    assert waited == [200.0, 200.0]
    monkeypatch.setattr("os.getloadavg", lambda: (1.0, 1.0, 1.0))
    assert clinic.environment().verdict == "problem"


def test_rendering_without_its_backend_is_a_warning(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    found = clinic.rendering()
    assert found.verdict == "warning"
    assert "training works without" in found.remedy


def test_an_environment_that_works_is_said_so():
    assert clinic.environment() == Diagnosis("environment", "ok", "cube-single-play: 10 steps")


def test_the_data_folder_is_looked_at(monkeypatch, tmp_path):
    monkeypatch.setenv("QAMX_DATA", str(tmp_path))
    assert clinic.data().remedy.startswith("make or fetch one: qamx data generate NAME")
    for name in ("scene-play-v0.npz", "scene-play-v0-val.npz"):
        (tmp_path / name).touch()
    assert clinic.data() == Diagnosis("data", "ok", f"{tmp_path}: 1 sets: scene-play-v0")
    monkeypatch.setenv("QAMX_DATA", str(tmp_path / "none"))
    assert clinic.data().verdict == "warning"


def test_wandb_that_cannot_be_reached_is_a_warning(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.invalid")
    found = clinic.wandb()
    assert found.verdict == "warning"
    assert "k" * 40 not in str(found)
