"""What qamx takes of a machine: the GPUs it may use, the processors, and what draws."""

import ast
import importlib
import os
import subprocess
import sys

import pytest

from qamx._utils import machine, processes
from qamx._utils.machine import usable_cores, visible_gpus
from qamx.errors import UserError
from qamx.evaluation import replay
from qamx.tools import doctor
from qamx.tools.sweep.local import worker_env

A, B = "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77", "GPU-5f00aa11-0000-1111-2222-333344445555"
TWO = f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})\nGPU 1: Tesla T4 (rev: 2) (UUID: {B})\n"
PARTS = (
    f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})\n"
    "  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)\n"
    "  MIG 1g.5gb+me   Device  1: (UUID: MIG-0c757cd7-e942-5726-a0b8-0e8fb7067135)\n"
    f"GPU 1: NVIDIA A100-SXM4-40GB (UUID: {B})\n"
)
OLD_PARTS = f"GPU 0: A100-SXM4-40GB (UUID: {A})\n  MIG 3g.20gb Device 0: (UUID: MIG-{A}/1/0)\n"


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Puts an nvidia-smi that is a shell script, or none, into an otherwise empty path."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(script, mode=0o755):
        (tmp_path / "nvidia-smi").write_text(script)
        (tmp_path / "nvidia-smi").chmod(mode)

    return write


def says(output, code=0):
    lines = f"<<'X'\n{output}\nX"
    return f'#!/bin/sh\nwhile IFS= read -r line; do echo "$line"; done {lines}\nexit {code}\n'


@pytest.mark.parametrize(
    ("output", "names"),
    [
        (TWO, ["0", "1"]),
        (f"\n{TWO}\n\n", ["0", "1"]),
        (
            f"WARNING: infoROM is corrupted at gpu 0000:65:00.0\n{TWO}WARNING: GPU 7: old\n",
            ["0", "1"],
        ),
        (TWO.replace("\n", "\r\n"), ["0", "1"]),
        ("No devices found.\n", []),
        ("", []),
        (
            PARTS,
            [
                *(
                    f"MIG-{x}"
                    for x in (
                        "c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
                        "0c757cd7-e942-5726-a0b8-0e8fb7067135",
                    )
                ),
                B,
            ],
        ),
        (OLD_PARTS, [f"MIG-{A}/1/0"]),
    ],
    ids=["two", "blanks", "warnings", "crlf", "no-device", "silent", "parts", "old-parts"],
)
def test_gpus_are_what_nvidia_smi_lists(nvidia_smi, output, names):
    nvidia_smi(says(output))
    assert machine.find_gpus() == (names, "")
    dealt = [worker_env(place, len(names), visible_gpus()) for place in range(len(names))]
    assert dealt == [{"CUDA_VISIBLE_DEVICES": name} for name in names]


@pytest.mark.parametrize(
    ("script", "mode", "said"),
    [
        (
            says("NVIDIA-SMI has failed: no driver.\n", 9),
            0o755,
            "nvidia-smi: exit status 9: NVIDIA-SMI has failed: no driver; see that the dr",
        ),
        (
            says(f"{TWO}Unable to determine the device handle for GPU2: Unknown Error\n", 255),
            0o755,
            f"nvidia-smi: exit status 255: {TWO.splitlines()[0]}; see that the driver works",
        ),
        ("#!/bin/sh\nexit 3\n", 0o755, "nvidia-smi: exit status 3; see that the driver works"),
        (
            "#!/bin/sh\nwhile :; do :; done\n",
            0o755,
            "nvidia-smi: no answer within 0.5 s; see that the driver works",
        ),
        (says(TWO), 0o644, "nvidia-smi: cannot be run (Permission denied)"),
        ("no program", 0o755, "nvidia-smi: cannot be run (Exec format error)"),
        (None, 0, ""),
    ],
    ids=["no-driver", "lost-gpu", "mute", "hangs", "not-executable", "no-program", "absent"],
)
def test_an_nvidia_smi_that_does_not_answer_lists_no_gpu(
    nvidia_smi, monkeypatch, caplog, script, mode, said
):
    monkeypatch.setattr(machine, "SECONDS", 0.5)
    if script is not None:
        nvidia_smi(script, mode)
    assert visible_gpus() == []
    assert [message[: len(said)] for message in caplog.messages] == ([said] if said else [])
    monkeypatch.setattr(doctor, "probe", lambda code: (True, "cpu: 1 x cpu"))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    found = doctor.device()
    assert (found.verdict, said in found.found) == ("warning" if said else "ok", True)
    # What a scheduler granted is used all the same: a container may come without nvidia-smi.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-7")
    assert visible_gpus() == ["2", "GPU-7"]


UNKNOWN = "no GPU of this machine"


@pytest.mark.parametrize(
    ("value", "output", "names", "said"),
    [
        ("0,1", TWO, ["0", "1"], ""),
        ("1", TWO, ["1"], ""),
        (" 1 , 0 ", TWO, ["1", "0"], ""),
        ("01,+0", TWO, ["1", "0"], ""),
        ("1st", TWO, ["1"], ""),
        (f"{B},{A}", TWO, [B, A], ""),
        (f"0,{B}", TWO, ["0", B], ""),
        ("GPU-5f,GPU-5d5ba", TWO, ["GPU-5f", "GPU-5d5ba"], ""),
        ("GPU-5F00AA11", TWO, ["GPU-5F00AA11"], ""),
        (
            "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",
            PARTS,
            ["MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"],
            "",
        ),
        (f"MIG-{A}/1/0", PARTS, [f"MIG-{A}/1/0"], ""),
        ("", TWO, [], ""),
        (" ", TWO, [], ""),
        ("-1", TWO, [], ""),
        ("NoDevFiles", TWO, [], ""),
        ("none", TWO, [], ""),
        ("GPU-", TWO, [], ""),
        ("0,-1", TWO, ["0"], ""),
        ("0,1,", TWO, ["0", "1"], ""),
        ("0,-1,1", TWO, ["0"], "found 0,-1,1; CUDA reads it up to -1"),
        ("0,,1", TWO, ["0"], "found 0,,1; CUDA reads it up to an empty entry"),
        ("-1,0", TWO, [], "found -1,0; CUDA reads it up to -1"),
        ("0,7,1", TWO, ["0"], f"reads it up to 7, {UNKNOWN}; used: 0"),
        ("2", TWO, [], f"reads it up to 2, {UNKNOWN}; used: none"),
        ("GPU-5", TWO, [], f"reads it up to GPU-5, {UNKNOWN}"),
        ("GPU-77", TWO, [], f"reads it up to GPU-77, {UNKNOWN}"),
        ("0,0", TWO, [], "found 0,0, which names 0 twice: CUDA shows none; write each once"),
        ("0,1, 0 ", TWO, [], "which names 0 twice"),
        (f"0,{A}", TWO, [], f"which names {A} twice"),
        ("MIG-1,MIG-1", PARTS, [], "which names MIG-1 twice"),
    ],
)
def test_gpus_are_those_that_cuda_shows(
    nvidia_smi, monkeypatch, caplog, value, output, names, said
):
    nvidia_smi(says(output))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == names
    assert said in "".join(caplog.messages)
    assert bool(said) == bool(caplog.messages)


@pytest.mark.parametrize(
    ("platforms", "said", "verdict"),
    [
        (None, "cpu: 1 x cpu", "warning"),
        ("cpu", "cpu: 1 x cpu", "ok"),
        (None, "gpu: 2 x NVIDIA A100-SXM4-40GB", "ok"),
    ],
)
def test_the_doctor_names_gpus_that_jax_leaves_unused(
    nvidia_smi, monkeypatch, platforms, said, verdict
):
    nvidia_smi(says(TWO))
    monkeypatch.setattr(doctor, "probe", lambda code: (True, said))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    if platforms:
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
    found = doctor.device()
    assert found.verdict == verdict
    assert ("NVIDIA GPUs are there: 0, 1" in found.found) == (verdict == "warning")


# Processors


V2 = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({f"{V2}/cpu.max": "200000 100000\n"}, 2),
        ({f"{V2}/cpu.max": "150000 100000\n"}, 2),
        ({f"{V2}/cpu.max": "5000 100000\n"}, 1),
        ({f"{V2}/cpu.max": "3200000 100000\n"}, 8),
        ({f"{V2}/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/cpu.max": "300000 100000\n"}, 3),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                f"{V2}/a/b/cpu.max": "max 100000\n",
                f"{V2}/a/cpu.max": "400000 100000\n",
            },
            4,
        ),
        ({"proc/self/cgroup": "0::/docker/77\n", f"{V2}/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/../x\n", f"{V2}/cpu.max": "200000 100000\n"}, 2),
        (
            {
                "proc/self/cgroup": "5:memory:/m\n4:cpu,cpuacct:/docker/77\n0::/\n",
                f"{V2}/cpu,cpuacct/docker/77/cpu.cfs_quota_us": "250000\n",
                f"{V2}/cpu,cpuacct/docker/77/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "2:cpuacct:/\n1:cpu:/docker/77\n",
                f"{V2}/cpu/cpu.cfs_quota_us": "100000\n",
                f"{V2}/cpu/cpu.cfs_period_us": "50000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                f"{V2}/cpu/cpu.cfs_quota_us": "-1\n",
                f"{V2}/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        ({f"{V2}/cpu.max": "many\n"}, 8),
        ({f"{V2}/cpu.max": ""}, 8),
        ({f"{V2}/cpu.max": "200000\n"}, 8),
        ({f"{V2}/cpu.max": "200000 0\n"}, 8),
        ({f"{V2}/cpu.max": "0 100000\n"}, 8),
        ({f"{V2}/cpu.max": "-5 100000\n"}, 8),
        ({f"{V2}/cpu.max/a": "a folder"}, 8),
        ({"proc/self/cgroup": "nothing\n\n:::\n0:", f"{V2}/cpu.max": "200000 100000\n"}, 2),
    ],
)
def test_a_quota_limits_the_cores(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores


def test_a_scheduler_s_grant_limits_the_cores_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    (tmp_path / V2).mkdir(parents=True)
    (tmp_path / V2 / "cpu.max").write_text("400000 100000\n")
    assert usable_cores(tmp_path) == 1


# What draws


@pytest.fixture
def clean_machine(monkeypatch):
    """A machine without variables on which so many backends draw, as MuJoCo reads them."""
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(replay, "_TRIED", set())
    monkeypatch.setattr(sys, "platform", "linux")

    def prepare(draws, **variables):
        def probe(code, **changes):
            seen = {**os.environ, **changes}
            wanted = seen.get("MUJOCO_GL", "") or "glfw"
            agree = seen.get("PYOPENGL_PLATFORM") in (None, "", wanted) or wanted == "glfw"
            works = wanted in draws and agree
            return works, "an image was drawn" if works else "no context"

        monkeypatch.setattr(processes, "probe", probe)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return prepare


OSMESA = {"PYOPENGL_PLATFORM": "osmesa"}
BOTH = ["egl", "osmesa"]


@pytest.mark.parametrize(
    ("draws", "variables", "chosen"),
    [
        (["egl"], {}, "egl"),
        (["osmesa"], {}, "osmesa"),
        (BOTH, {"MUJOCO_GL": "osmesa"}, "osmesa"),
        (BOTH, {"MUJOCO_GL": " EGL "}, "egl"),
        (["egl"], {"MUJOCO_GL": ""}, "egl"),
        (["egl"], {"MUJOCO_GL": " "}, "egl"),
        (BOTH, OSMESA, "osmesa"),
        (["egl"], {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl"}, "egl"),
        (["glfw"], {"MUJOCO_GL": "glfw"}, "glfw"),
        (["glfw", *BOTH], {"DISPLAY": ":0"}, None),
        (["egl"], {"DISPLAY": "localhost:10.0"}, "egl"),
    ],
)
def test_what_draws_is_chosen(clean_machine, draws, variables, chosen):
    clean_machine(draws, **variables)
    assert replay.choose_backend(required=True) == ""
    assert os.environ.get("MUJOCO_GL") == chosen
    assert doctor.rendering().verdict == "ok"


@pytest.mark.parametrize(
    ("draws", "variables", "said"),
    [
        *(
            (
                ["egl"],
                {"MUJOCO_GL": value},
                f"MUJOCO_GL={value} does not draw here (no context); egl does: unset MUJOCO_GL, or "
                "write MUJOCO_GL=egl",
            )
            for value in ("glfw", "osmesa", "OSMesa", "disabled", "nonsense")
        ),
        (
            ["osmesa"],
            {"MUJOCO_GL": "egl"},
            "MUJOCO_GL=egl does not draw here (no context); osmesa does: unset MUJOCO_GL, or write "
            "MUJOCO_GL=osmesa",
        ),
        (
            ["egl"],
            {"MUJOCO_GL": "egl", **OSMESA},
            "MUJOCO_GL=egl, PYOPENGL_PLATFORM=osmesa does not draw here (no context); egl does: "
            "unset PYOPENGL_PLATFORM",
        ),
        (
            ["egl"],
            OSMESA,
            "PYOPENGL_PLATFORM=osmesa does not draw here (no context); egl does: unset "
            "PYOPENGL_PLATFORM",
        ),
        (
            ["egl"],
            {"MUJOCO_GL": "glfw", **OSMESA},
            "MUJOCO_GL=glfw, PYOPENGL_PLATFORM=osmesa does not draw here (no context); egl does: "
            "unset MUJOCO_GL and PYOPENGL_PLATFORM",
        ),
        (
            [],
            {"MUJOCO_GL": "glfw"},
            "MUJOCO_GL=glfw does not draw here (no context), nor does anything else (egl: no "
            "context; osmesa: no context); install EGL (Debian: apt-get install libegl1 libgl1)",
        ),
        ([], {}, "nothing draws here (egl: no context; osmesa: no context); install EGL"),
        ([], {"DISPLAY": ":0"}, "the display does not draw here (no context), nor does anything"),
    ],
)
def test_what_does_not_draw_is_named_with_what_does(clean_machine, draws, variables, said):
    clean_machine(draws, **variables)
    before = dict(os.environ)
    with pytest.raises(UserError) as caught:
        replay.choose_backend(required=True)
    assert str(caught.value).startswith(said)
    assert replay.choose_backend(required=False) == str(caught.value)
    assert dict(os.environ) == before
    found = doctor.rendering()
    assert found.verdict == "warning"
    assert f"{found.found}; {found.remedy}".replace(
        "training works without; for videos: ", ""
    ).startswith(said)


@pytest.mark.parametrize(
    "variables", [{"MUJOCO_GL": "nonsense"}, {"MUJOCO_GL": "EGL"}, {"MUJOCO_GL": "egl", **OSMESA}]
)
def test_acting_does_not_depend_on_what_draws(variables):
    code = (
        "from qamx.envs import OGBenchEnvironment\n"
        "OGBenchEnvironment('cube-single-play', 1).reset(0)\n"
        f"import os; assert os.environ['MUJOCO_GL'] == {variables['MUJOCO_GL']!r}"
    )
    environment = {**os.environ, **variables}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize("code", [processes.DEVICE, processes.ENVIRONMENT], ids=["device", "env"])
def test_the_imports_of_a_check_are_modules_and_names_of_the_package(code):
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        module = importlib.import_module(str(node.module))
        assert all(hasattr(module, alias.name) for alias in node.names)
