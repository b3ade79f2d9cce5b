"""What of JAX a run does not take, said in one line."""

import os
import re
import subprocess
import sys

import jax
import pytest

from qamx._utils.backend import (
    REFUSED,
    _cut_back,
    check_device,
    check_jax,
    reserve_devices,
    use_device,
)
from qamx.errors import UserError
from qamx.tools import doctor as clinic

OTHERS = {
    "jax_enable_x64": True,
    "jax_default_matmul_precision": "bfloat16",
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_no_execution": True,
}


@pytest.fixture
def setting():
    before = {}

    def change(name, value):
        before.setdefault(name, getattr(jax.config, name))
        jax.config.update(name, value)

    yield change
    for name, value in before.items():
        jax.config.update(name, getattr(value, "value", value))


def test_a_run_takes_jax_as_it_comes():
    check_jax()


@pytest.mark.parametrize("switch", REFUSED, ids=lambda switch: switch.name)
def test_a_switch_that_changes_numbers_is_named_with_its_remedy(switch, setting, monkeypatch):
    value = OTHERS.get(switch.name, "disallow")
    setting(switch.name, value)
    monkeypatch.delenv(switch.name.upper(), raising=False)
    with pytest.raises(UserError, match=rf"^{switch.name}: found {value!r}, and .*; write jax\."):
        check_jax()
    monkeypatch.setenv(switch.name.upper(), "1")
    with pytest.raises(UserError, match=rf"^{switch.name.upper()}: found .*; unset it$"):
        check_jax()


@pytest.mark.parametrize(
    ("variable", "found", "failing", "error", "said"),
    [
        (
            "JAX_PLATFORMS",
            "cuda",
            "cuda",
            AssertionError(),
            r'^JAX_PLATFORMS: found "cuda", and JAX has no such device here; write '
            r"JAX_PLATFORMS=cpu, or unset it; an NVIDIA GPU takes its driver and pip install",
        ),
        (
            "JAX_PLATFORMS",
            "tpu,cpu",
            "tpu",
            RuntimeError("no\n libtpu (set JAX_PLATFORMS='')"),
            r'^JAX_PLATFORMS: found "tpu,cpu", and JAX has no such device here \(no libtpu\); ',
        ),
        (
            "JAX_PLATFORM_NAME",
            "cuda",
            None,
            RuntimeError("Unknown"),
            r'^JAX_PLATFORM_NAME: found "cuda", and .* \(Unknown\); write JAX_PLATFORM_NAME=cpu',
        ),
    ],
)
def test_a_device_that_is_not_there_is_one_line(
    variable, found, failing, error, said, setting, monkeypatch
):
    def devices(backend=None):
        if backend == failing:
            raise error
        return ["device"]

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv(variable, found)
    for platforms in [found] if variable == "JAX_PLATFORMS" else [None, "cpu"]:
        setting("jax_platforms", platforms)
        with pytest.raises(UserError, match=said) as caught:
            check_device()
        assert "\n" not in str(caught.value)


def test_a_platform_that_a_script_asks_for_is_named_as_it_does(setting, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    setting("jax_platforms", "nonsense")
    with pytest.raises(UserError, match=r'^jax_platforms: found "nonsense".*jax.config.update\('):
        check_device()


def test_doctor_and_commands_say_the_same_of_a_missing_device(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "nonsense")
    finding = clinic.device()
    assert finding.verdict == "problem"
    assert finding.found.startswith('JAX_PLATFORMS: found "nonsense", and JAX has no such device')
    assert finding.remedy.startswith("write JAX_PLATFORMS=cpu, or unset it")
    command = [sys.executable, "-m", "qamx", "bench", "--size", "tiny"]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"{finding.found}; {finding.remedy}\n"


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        ("JAX_ENABLE_X64", ""),
        ("JAX_DEFAULT_MATMUL_PRECISION", "banana"),
        ("JAX_TRANSFER_GUARD_HOST_TO_DEVICE", "banana"),
        ("JAX_SERIALIZATION_VERSION", "1.5"),
    ],
)
def test_a_variable_that_jax_cannot_read_is_one_line(variable, found):
    environment = dict(os.environ) | {"JAX_TRANSFER_GUARD": "allow", variable: found}
    command = [sys.executable, "-m", "qamx", "bench", "--size", "tiny"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(
        rf'{variable}: found "{found}", which JAX does not take \(.*\); unset it\n', done.stderr
    )


KEEP = """
import jax
from qamx._utils.backend import keep_programs
keep_programs()
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
print(jax.jit(lambda x: x * 3 + 1)(2.0), sum("cache_hits" in name for name in hits) > 0)
"""


def _keep(home, **changes):
    kept = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    environment = {**kept, "XDG_CACHE_HOME": str(home), **changes}
    done = subprocess.run(
        [sys.executable, "-c", KEEP], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_program_is_compiled_once_for_all_processes(tmp_path):
    assert _keep(tmp_path) == "7.0 False"
    assert _keep(tmp_path) == "7.0 True"
    (folder,) = (tmp_path / "qamx" / "programs").iterdir()
    assert any(folder.iterdir())


def test_a_damaged_program_is_compiled_again(tmp_path):
    _keep(tmp_path)
    for file in tmp_path.rglob("*-cache"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert _keep(tmp_path) == "7.0 False"


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path):
    (tmp_path / "qamx").write_text("a file")
    assert _keep(tmp_path) == "7.0 False"


def test_a_folder_that_was_given_to_jax_is_used(tmp_path):
    given = tmp_path / "given"
    _keep(tmp_path, JAX_COMPILATION_CACHE_DIR=str(given))
    assert given.is_dir()
    assert not (tmp_path / "qamx").exists()


def test_the_oldest_programs_are_deleted_beyond_the_limit(tmp_path):
    for age in range(4):
        file = tmp_path / f"{age}-cache"
        file.write_bytes(bytes(10))
        os.utime(file, (1_000_000 - age, 1_000_000 - age))
    _cut_back(tmp_path, 25)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0-cache", "1-cache"]


@pytest.mark.parametrize(
    ("seeds", "cores", "devices"), [(4, 2, 2), (3, 2, 3), (12, 8, 12), (2, 16, 2), (12, 4, 4)]
)
def test_cores_become_devices_of_equally_many_seeds(seeds, cores, devices, monkeypatch):
    made = []
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr("qamx._utils.backend.usable_cores", lambda: cores)
    monkeypatch.setattr(jax.config, "update", lambda name, count: made.append((name, count)))
    reserve_devices(seeds)
    assert made == [("jax_num_cpu_devices", devices)]


@pytest.fixture
def switches(monkeypatch):
    """What is set of JAX, which itself stays as it is."""
    found = {}
    monkeypatch.setattr(jax.config, "update", found.__setitem__)
    return found


@pytest.mark.parametrize(
    ("text", "platforms", "numbers"),
    [("cpu", "cpu", "all"), ("gpu", "", "all"), ("gpu:1", "", "1"), ("gpu:0,2", "", "0,2")],
)
def test_a_device_is_chosen_by_kind_and_number(switches, monkeypatch, text, platforms, numbers):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    use_device(text)
    assert switches == {
        "jax_platforms": platforms,
        "jax_cuda_visible_devices": numbers,
        "jax_rocm_visible_devices": numbers,
    }


@pytest.mark.parametrize("text", ["tpu", "gpu:", "gpu:a", "cuda", "gpu:1,", ""])
def test_another_text_is_no_device(switches, text):
    with pytest.raises(UserError, match=f'--device: found "{text}"; write cpu, gpu, or'):
        use_device(text)
    assert not switches


def test_a_gpu_that_is_not_there_is_one_line(switches):
    with pytest.raises(UserError, match=r"^--device gpu:7: JAX finds cpu only; name a GPU that"):
        use_device("gpu:7")
