"""The passport: what it holds and what it never holds, and what two of them tell apart."""

import hashlib
import json
import shutil

import jax
import numpy as np
import pytest
from short_run import OFFLINE, QUICKSTART, SIZES, maze_data

from qamx._utils import files
from qamx.cli import main
from qamx.provenance import read

KEY, TOKEN = "0123456789abcdef0123456789abcdef01234567", "hf_never_to_be_written_down"
SMALL = (
    *SIZES,
    *OFFLINE,
    "schedule.offline_steps=20",
    "evaluation.every=20",
    "evaluation.episodes=1",
    "evaluation.behaviour=false",
    "checkpoint.every=10",
    "logging.every=5",
)


def run(out, folder, *changes):
    given = [*SMALL, *maze_data(folder), *changes]
    return main(["run", str(QUICKSTART), "--out", str(out), "--set", *given])


@pytest.fixture(scope="module", autouse=True)
def without_flags():
    """No flags of XLA in the environment, as a user has it."""
    jax.devices()  # XLA has read them: it compiles as for other tests
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XLA_FLAGS", raising=False)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A run that had credentials in its environment and logged to wandb offline."""
    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "WANDB_TOKEN"):
            patch.setenv(name, KEY)
        patch.setenv("HF_TOKEN", TOKEN)
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        assert run(out, folder, "logging.wandb=offline") == 0
    return out


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy", symlinks=True)


def test_a_passport_says_what_the_numbers_depend_on(finished, folder):
    passport = read(finished)
    data = folder / "pointmaze-medium-navigate-v0.npz"
    assert passport["config"]["agent"]["batch_size"] == 16
    (file,) = passport["data"]
    assert file["sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert passport["seeds"]["run"] == 10001
    assert "last step" in passport["success"]
    (start,) = passport["starts"]
    assert start["versions"]["numpy"] == np.__version__
    assert all(start["versions"][name] for name in ("jax", "equinox", "ogbench", "mujoco"))
    assert start["device"]["backend"] == "cpu"
    assert start["flags"]["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert start["jax"]["jax_enable_x64"] is False
    assert start["changes"] == {}


def test_no_file_of_a_run_holds_a_credential(finished):
    files = [path for path in finished.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    for path in files:
        written = path.read_bytes()
        assert KEY.encode() not in written, path
        assert TOKEN.encode() not in written, path


def test_a_continuation_adds_a_start_and_what_it_changes(copy, folder):
    assert run(copy, folder, "logging.every=4") == 0
    passport = read(copy)
    changes = [start["changes"] for start in passport["starts"]]
    assert changes == [{}, {"logging.wandb": "disabled", "logging.every": 4}]
    assert passport["config"]["logging"]["every"] == 5


def test_other_data_on_a_continuation_is_refused_with_both_hashes(copy, folder, capsys):
    path = folder / "pointmaze-medium-navigate-v0.npz"
    original = path.read_bytes()
    changed = bytearray(original)
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    try:
        assert run(copy, folder) == 2
    finally:
        path.write_bytes(original)
    said = capsys.readouterr().err
    assert hashlib.sha256(original).hexdigest() in said
    assert hashlib.sha256(changed).hexdigest() in said
    assert "--out" in said


def test_another_switch_of_jax_on_a_continuation_is_refused(copy, folder, capsys):
    def change(passport):
        passport["starts"][-1]["jax"]["jax_threefry_partitionable"] = False

    edit(copy / "passport.json", change)
    assert run(copy, folder) == 2
    said = capsys.readouterr().err
    assert said.startswith("JAX_THREEFRY_PARTITIONABLE: found True, and False when the run was")
    assert said.endswith("set it as then, or start a run in a new folder with --out\n")
    assert main(["eval", str(copy), "--workers", "0"]) == 0
    said = capsys.readouterr().err
    assert "warning: JAX_THREEFRY_PARTITIONABLE: found True, and False when" in said


def test_a_run_in_float64_is_not_gone_on_with(copy, folder, capsys):
    def change(passport):
        passport["starts"][-1]["jax"]["jax_enable_x64"] = True

    edit(copy / "passport.json", change)
    assert run(copy, folder) == 2
    said = capsys.readouterr().err
    assert "JAX_ENABLE_X64: found False, and True when" in said
    assert "set it as then" not in said


def test_another_flag_on_a_continuation_is_named(copy, folder, capsys):
    def change(passport):
        passport["starts"][-1]["flags"]["XLA_FLAGS"] = "--xla_cpu_enable_fast_math=true"
        passport["starts"][-1]["jax"]["jax_disable_jit"] = True

    edit(copy / "passport.json", change)
    assert run(copy, folder) == 0
    said = capsys.readouterr().err
    assert "warning: XLA_FLAGS: found None, and '--xla_cpu_enable_fast_math=true' when" in said
    assert "warning: JAX_DISABLE_JIT: found False, and True when the run was last" in said


def test_a_damaged_passport_is_one_message(copy, folder, capsys):
    (copy / "passport.json").write_text("{")
    assert run(copy, folder) == 2
    assert "passport.json: cannot be read" in capsys.readouterr().err


def test_a_hash_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "CACHED_FROM", 1)
    file, read_files = tmp_path / "data", []
    file.write_bytes(b"one")
    whole = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: read_files.append(path) or whole(path))
    first = files.cached_sha256([file])
    assert first == files.cached_sha256([file]) == [hashlib.sha256(b"one").hexdigest()]
    assert len(read_files) == 1
    file.write_bytes(b"other")
    assert files.cached_sha256([file]) == [hashlib.sha256(b"other").hexdigest()]
    assert len(read_files) == 2


def test_a_run_does_not_differ_from_its_copy(finished, copy, capsys):
    assert main(["diff", str(finished), str(copy)]) == 0
    assert capsys.readouterr().out.endswith("the runs are equal\n")


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_diff_names_what_was_given_and_where_the_numbers_part(finished, copy, capsys):
    def change(passport):
        passport["config"]["agent"]["discount"] = 0.5
        passport["data"][0]["sha256"] = "f" * 64
        passport["starts"][0]["versions"]["jax"] = "0.0.1"
        passport["starts"][0]["device"]["kind"] = "H100"
        passport["starts"][0]["flags"]["XLA_FLAGS"] = "--xla_x"

    edit(copy / "passport.json", change)
    rows = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    rows[1]["critic/loss"] = 7.5
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["diff", str(finished), str(copy)]) == 1
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "config agent.discount 0.99 0.5" in lines
    assert any(line.startswith("data pointmaze-medium-navigate-v0.npz SHA") for line in lines)
    assert any(line.startswith("versions jax ") and line.endswith(" 0.0.1") for line in lines)
    assert "device kind cpu H100" in lines
    assert "flags XLA_FLAGS - --xla_x" in lines
    (parted,) = (line for line in lines if line.startswith("metrics.jsonl"))
    assert "step 10 (offline): critic/loss" in parted
    assert parted.endswith(" 7.5")


def test_diff_of_no_run_is_the_user_s_error(finished, tmp_path, capsys):
    assert main(["diff", str(finished), str(tmp_path)]) == 2
    assert "passport.json: missing; name the folder of a run" in capsys.readouterr().err
