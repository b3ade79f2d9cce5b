"""The benchmark: what it counts, and that it needs neither simulators nor checkpoints."""

import json
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
from qamx.tools.bench_measure import host_windows

ROOT = Path(__file__).parents[2]

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
        env={"PATH": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "over a host loop" in done.stdout
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
        ("--device gpu", "--device gpu: JAX finds cpu only; install JAX for this"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(capsys, arguments, words):
    assert main(["bench", *arguments.split()]) == 2
    assert words in capsys.readouterr().err
