"""What of JAX a run does not take, said in one line."""

import os
import re
import subprocess
import sys

import jax
import pytest

from qamx._utils.backend import REFUSED, check_device, check_jax
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
