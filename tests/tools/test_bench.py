"""The benchmark: what it counts, and that it needs neither simulators nor checkpoints."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import RandomWalks

from qamx._utils.flops import Product, count, flops
from qamx.cli import main
from qamx.data.transitions import windows
from qamx.tools import bench_gpu
from qamx.tools.bench_measure import host_windows
from qamx.tools.bench_program import Kernel, KernelCost, read_launches, read_program, size

ROOT = Path(__file__).parents[2]
COMPILED = Path(__file__).parent / "gpu_program"
"""Texts of XLA for an H100. An update takes x (16, 8) three times through tanh(x w) and keeps the
three results; it adds their sum, and the product of the last with 16 of 100 rows, to w (8, 8)."""
TARGET = (ROOT / "qamx/tools/h100.txtpb").read_text()

WITHOUT_OPTIONAL = """
import sys
for name in ("mujoco", "ogbench", "gymnasium", "orbax", "wandb", "matplotlib", "tomli_w"):
    sys.modules[name] = None
from qamx.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_counts_are_of_the_products_that_are_needed_loops_in_full():
    def function(x, kernel, wide):
        _ = x @ wide  # not needed
        tripled, _ = jax.lax.scan(lambda y, _: (y @ kernel, None), x, length=3)
        return tripled, jax.vmap(lambda y: y @ wide)(x[:, None])

    found = count(function, jnp.ones((4, 2)), jnp.ones((2, 2)), jnp.ones((2, 5)))
    assert found == Counter({Product(1, 4, 2, 2): 3, Product(1, 4, 2, 5): 1})
    assert flops(found) == 3 * 2 * 4 * 2 * 2 + 2 * 4 * 2 * 5


def test_batches_on_the_host_are_those_on_the_device():
    data, starts = RandomWalks().load(0), np.arange(100)
    theirs = windows(data, jnp.asarray(starts), 4, 0.9)
    for one, other in zip(
        jax.tree.leaves(host_windows(data, starts, 4, 0.9)), jax.tree.leaves(theirs), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_it_runs_without_simulators_and_checkpoints(tmp_path):
    command = "bench --device cpu --method rebrac --size tiny --seeds 2 --updates 2 --rounds 1"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_OPTIONAL, *command.split(), "--json", tmp_path / "b.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": ""} | {k: v for k, v in os.environ.items() if k.startswith(("JAX_", "XLA_"))},
    )
    assert done.returncode == 0, done.stderr
    assert "speed-up over a host loop" in done.stdout
    report = json.loads((tmp_path / "b.json").read_text())
    (figures,) = report["methods"]
    assert (report["backend"], report["size"], figures["method"]) == ("cpu", "tiny", "rebrac")
    assert figures["over_floor"] == pytest.approx(figures["update_ms"] / figures["floor_ms"])
    speed = figures["gflop"] / figures["update_ms"] * 1e3
    assert figures["gflop_per_second"] == pytest.approx(speed)
    (together,) = figures["together"]
    assert together["seeds"] == 2
    assert together["updates_per_second"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--method qan", 'unknown method "qan"; did you mean'),
        ("--seeds 0", "--seeds: found 0; write a positive integer"),
        ("--json none/b.json", "--json none/b.json: its folder does not exist"),
        ("--device gpu", "--device gpu: JAX finds cpu only; name a GPU"),
        ("--for h100 --device cpu", "--for h100: nothing runs there; leave --device or --for out"),
        ("--for h100 --updates 2", "--for h100: nothing runs there; leave --updates or --for out"),
        ("--for none.txtpb", "--for none.txtpb: No such file or directory; write h100, or a file"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(capsys, arguments, words):
    assert main(["bench", *arguments.split()]) == 2
    assert words in capsys.readouterr().err


def compiled_program():
    return read_program((COMPILED / "program.txt").read_text())


def launches_of(program):
    sequence, metadata = (COMPILED / f"thunk_{kind}.txt" for kind in ("sequence", "metadata"))
    return read_launches(sequence.read_text(), metadata.read_text(), program)


def test_kernels_of_an_update_are_counted_inner_loops_in_full():
    launches = launches_of(compiled_program())
    # The loop's condition, two copies and zeros, three times (condition, product, tanh, copy into
    # the results, counter); in the graph rows, product, sum, w, counter. The copies before the loop
    # over updates are no part of an update.
    assert sum(kernel.times for kernel in launches.kernels) == 1 + 3 + 3 * 5 + 5
    assert (launches.graphs, launches.alone) == (1, 1 + 3 + 3 * 5)
    assert launches.kernels[0] == Kernel("wrapped_compare", 1, False)
    assert Kernel("wrapped_tanh", 3, False) in launches.kernels
    assert Kernel("input_reduce_fusion", 1, True) in launches.kernels
    assert not {"copy.20", "copy.21"} & {kernel.name for kernel in launches.kernels}


@pytest.mark.parametrize(
    ("name", "cost"),
    [
        ("custom-call.1", KernelCost(4 * (16 * 8 + 8 * 8 + 16 * 8), 2 * 16 * 8 * 8, 1)),
        ("custom-call.3", KernelCost(4 * (16 * 8 + 16 * 8 + 8 * 8), 2 * 8 * 8 * 16, 1)),
        ("wrapped_tanh", KernelCost(4 * 2 * 16 * 8)),
        ("input_reduce_fusion", KernelCost(4 * (3 * 16 * 8 + 1))),
        ("loop_add_fusion.1", KernelCost(4 * (16 * 8 + 1 + 16 * 8))),  # 16 of 100 rows, their place
        (
            "loop_dynamic_update_slice_fusion",
            KernelCost(4 * (16 * 8 + 1 + 16 * 8)),
        ),  # one of 3 parts
        ("a thunk without an instruction", KernelCost()),
    ],
)
def test_bytes_and_flop_of_a_kernel_are_those_of_its_shapes(name, cost):
    assert compiled_program().cost(name) == cost


def test_products_inside_fusions_count():
    text = """
%fused (a: f32[4,8], b: f32[8,2]) -> f32[4,2] {
  %a = f32[4,8]{1,0} parameter(0)
  %b = f32[8,2]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,2]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (x: f32[4,8], y: f32[8,2]) -> f32[4,2] {
  %x = f32[4,8]{1,0} parameter(0)
  %y = f32[8,2]{1,0} parameter(1)
  ROOT %gemm = f32[4,2]{1,0} fusion(%x, %y), kind=kCustom, calls=%fused
}
"""
    assert read_program(text).cost("gemm") == KernelCost(4 * (32 + 16 + 8), 2 * 4 * 2 * 8, 1)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("pred[]", 1),
        ("bf16[3,5]{1,0}", 30),
        ("(f32[2,2]{1,0}, /*index=1*/s8[8]{0})", 24),
        ("s4[3]{0:E(4)}", 2),
        ("f8e4m3fn[7]{0}", 7),
        ("()", 0),
    ],
)
def test_bytes_of_a_shape(shape, expected):
    assert size(shape) == expected


def test_the_model_takes_the_longest_of_bytes_flop_and_launch(tmp_path):
    chip = bench_gpu.Chip.read("h100")
    assert chip.bandwidth == 3_352_320_000_000
    assert bench_gpu.model_seconds(KernelCost(1, 1, 1), chip) == 2.5e-6
    assert bench_gpu.model_seconds(KernelCost(3_352_320_000, 0, 0), chip) == pytest.approx(1e-3)
    assert bench_gpu.model_seconds(KernelCost(1, 8 * 10**12, 1), chip) == pytest.approx(2e-2)
    other = tmp_path / "other.txtpb"
    other.write_text("".join(row for row in TARGET.splitlines(True) if "bandwidth" not in row))
    assert bench_gpu.Chip.read(str(other)).bandwidth == 3.35e12


def test_without_the_plugin_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(bench_gpu, "entry_points", lambda group: ())
    assert main(["bench", "--for", "h100"]) == 2
    error = capsys.readouterr().err
    assert f"--for h100: found JAX {jax.__version__} without its CUDA plugin" in error
    assert 'pip install -e ".[cuda12]"' in error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\xff\xfe", "it is not a text"),
        (b"cores = 132", "found no threads_per_block_limit; write a GpuTargetConfig"),
        (TARGET.replace("    major: 9\n", "").encode(), "found no cuda_compute_capability"),
        (TARGET.replace('"CUDA"', '"ROCM"').encode(), 'found no platform_name: "CUDA"'),
    ],
)
def test_a_bad_target_file_is_one_message(tmp_path, capsys, text, words):
    file = tmp_path / "chip.txtpb"
    file.write_bytes(text)
    assert main(["bench", "--for", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--for {file}: " in line
    assert words in line
