"""DamagedCheckpoint checkpoints, full disks and failed saves, in this process."""

import contextlib
import errno
import os
import shutil
import subprocess

import numpy as np
import pytest
from toy import leaves, make_plan

from qamx._utils import files
from qamx.errors import ExitCode, RunError
from qamx.training import checkpoint
from qamx.training.logs import Logs
from qamx.training.loop import Runner
from qamx.training.seed_group import SeedRun

pytestmark = pytest.mark.usefixtures("shared_trainers")


def start(directory, **changes):
    directory.mkdir(exist_ok=True)
    return Runner([SeedRun(make_plan(**changes), directory, Logs(directory))])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    runner = start(directory)
    assert runner.run() == ExitCode.DONE
    return directory, leaves(runner)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def remove(path):
    path.unlink()


def largest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


FILES = {
    "arrays": lambda run: largest(run / "checkpoints" / "80" / "arrays"),
    "position": lambda run: run / "checkpoints" / "80" / "position.json",
    "manifest": lambda run: run / "checkpoints" / "80" / "manifest.json",
    "replay": lambda run: run / "replay" / "000000030-000000040.npz",
}


SHORT = {("arrays", flip), ("replay", truncate), ("manifest", remove)}
CASES = [
    pytest.param(file, damage, marks=() if (file, damage) in SHORT else pytest.mark.faults)
    for file in FILES
    for damage in (flip, truncate, remove)
]


@pytest.mark.parametrize(("file", "damage"), CASES)
def test_a_damaged_checkpoint_is_put_aside_for_the_one_before(
    whole, tmp_path, capsys, file, damage
):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    path = FILES[file](tmp_path)
    damage(path)
    runner = start(tmp_path)
    said = capsys.readouterr().err
    assert path.name in said
    assert "step 80 is now" in said
    assert (tmp_path / "checkpoints/quarantine/80").is_dir()
    assert runner._step == 70
    assert runner.run() == ExitCode.DONE
    for name, value in whole[1].items():
        np.testing.assert_array_equal(leaves(runner)[name], value, err_msg=name)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole[0] / "metrics.jsonl").read_bytes()


def test_every_flipped_bit_in_a_checkpoint_is_found(whole, tmp_path):
    draw = np.random.default_rng(0)
    shutil.copytree(whole[0] / "checkpoints", tmp_path, dirs_exist_ok=True)
    checkpoints = checkpoint.Checkpoints(tmp_path)
    files = [p for p in (tmp_path / "80").rglob("*") if p.is_file() and p.stat().st_size]
    for _ in range(100):
        path = files[draw.integers(len(files))]
        intact = path.read_bytes()
        data = bytearray(intact)
        data[draw.integers(len(data))] ^= 1 << draw.integers(8)
        path.write_bytes(data)
        with pytest.raises(checkpoint.DamagedCheckpoint):
            checkpoints.read(80)
        path.write_bytes(intact)
    assert checkpoints.read(80).step == 80


def test_a_run_whose_checkpoints_are_all_damaged_never_starts_over(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    for step in (70, 80):
        flip(largest(tmp_path / "checkpoints" / str(step)))
    for _ in range(2):
        with pytest.raises(RunError, match="no checkpoint is what was saved"):
            start(tmp_path)
    assert {p.name for p in (tmp_path / "checkpoints/quarantine").iterdir()} == {"70", "80"}
    assert (tmp_path / "metrics.jsonl").read_bytes() == (whole[0] / "metrics.jsonl").read_bytes()


def test_a_schema_that_does_not_fit_its_arrays_is_damage(whole, tmp_path):
    shutil.copytree(whole[0] / "checkpoints", tmp_path, dirs_exist_ok=True)
    schema = checkpoint.verify(tmp_path / "80")
    name = next(iter(schema))
    (tmp_path / "80" / "manifest.json").unlink()
    checkpoint.write_manifest(tmp_path / "80", {**schema, name: [[7], "float64"]})
    with pytest.raises(checkpoint.DamagedCheckpoint, match=r"float64\[7\] was saved"):
        checkpoint.Checkpoints(tmp_path).read(80)


@pytest.mark.parametrize("part", ["rows", "manifest"])
def test_a_failed_save_stops_the_run_by_the_next_step(whole, tmp_path, monkeypatch, part):
    owner, name = {
        "rows": (files, "fsync"),
        "manifest": (checkpoint, "write_manifest"),
    }[part]
    runner = start(tmp_path)
    (run,) = runner._group.runs
    save = run.save

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    def save_on_a_full_disk(step, *arguments):
        if step == 60:
            run.checkpoints.wait()
            monkeypatch.setattr(owner, name, full)
        save(step, *arguments)

    monkeypatch.setattr(run, "save", save_on_a_full_disk)
    with pytest.raises(RunError, match=r"step 60 was not saved.*disk is full.*MiB free.*step 50"):
        runner.run()
    assert runner._step <= 70
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"40", "50"}
    monkeypatch.undo()
    again = start(tmp_path)
    assert again.run() == ExitCode.DONE
    for key, value in whole[1].items():
        np.testing.assert_array_equal(leaves(again)[key], value, err_msg=key)


def fill_up(path):
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"0" * 4096)


@pytest.mark.faults
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    """On a real file system without room, where mounting one is allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk])
    assert mounted.returncode == 0, "this test mounts a tmpfs and must run as root"
    try:
        runner = start(disk, every=10)
        filler = disk / "filler"
        events = runner._finish_step

        def fill(*arguments):
            if runner._step == 41:
                fill_up(filler)
            events(*arguments)

        monkeypatch.setattr(runner, "_finish_step", fill)
        with pytest.raises(RunError, match="disk is full"):
            runner.run()
        filler.unlink()
        assert checkpoint.Checkpoints(disk / "checkpoints").newest() is not None
        assert start(disk).run() == ExitCode.DONE
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
