"""The precision of matrix products."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from toy import RandomWalks, make_parts, make_plan

from qamx import QAM, build
from qamx._utils.backend import compiling_for
from qamx.agents import create_state
from qamx.config import load
from qamx.data.replay import Replay
from qamx.nn import MLP, FourierFeatures, matmul_precision, product
from qamx.rl import trainable
from qamx.schedules import Constant
from qamx.training.state import Trainer

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.toml"


@pytest.fixture(scope="module")
def slopes():
    """By precision (None: outside any context): the loss of a batch, and its gradient."""
    parts = make_parts(2, 2, (16, 16))
    agent = QAM(parts, inverse_temperature=Constant(1.0), key=jax.random.key(0))
    plan = make_plan()
    batch = plan.sampling.draw(Replay.create(RandomWalks().load(0), 0), jax.random.key(1))
    trained, rest = eqx.partition(agent, trainable(agent))

    def slope(trained):
        return jax.value_and_grad(
            lambda trained: eqx.combine(trained, rest).loss(batch, jax.random.key(2))[0]
        )(trained)

    def evaluate(precision, platform="cpu"):
        with matmul_precision(precision), compiling_for(platform):
            loss, gradient = jax.jit(lambda trained: slope(trained))(trained)
        return float(loss), np.asarray(ravel_pytree(gradient)[0])

    loss, gradient = jax.jit(slope)(trained)
    plain = float(loss), np.asarray(ravel_pytree(gradient)[0])
    found = {name: evaluate(name) for name in ("tf32", "float32", "bfloat16")}
    return {None: plain, "bfloat16 on a GPU": evaluate("bfloat16", "cuda"), **found}


@pytest.mark.parametrize("precision", ["tf32", "float32"])
def test_on_a_cpu_single_precision_changes_no_bit(slopes, precision):
    assert slopes[precision][0] == slopes[None][0]
    np.testing.assert_array_equal(slopes[precision][1], slopes[None][1])


@pytest.mark.parametrize("precision", ["bfloat16", "bfloat16 on a GPU"])
def test_bfloat16_keeps_loss_and_direction(slopes, precision):
    (loss, gradient), (exact, truth) = slopes[precision], slopes["float32"]
    assert loss != exact
    assert loss == pytest.approx(exact, rel=3e-2)
    norms = np.linalg.norm(gradient) * np.linalg.norm(truth)
    assert gradient @ truth / norms > 0.99


def test_products_round_their_inputs_and_nothing_else():
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = jax.random.normal(keys[0], (3, 4, 32)), jax.random.normal(keys[1], (32, 8))
    slope = jax.random.normal(keys[2], (3, 4, 8))
    with matmul_precision("bfloat16"):
        out, pullback = jax.vjp(product, x, kernel)
        x_slope, kernel_slope = pullback(slope)
    x, kernel, slope = (
        np.asarray(array.astype(jnp.bfloat16), np.float64) for array in (x, kernel, slope)
    )
    assert {out.dtype, x_slope.dtype, kernel_slope.dtype} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(out, x @ kernel, atol=1e-5)
    np.testing.assert_allclose(x_slope, slope @ kernel.T, atol=1e-5)
    np.testing.assert_allclose(kernel_slope, np.einsum("abi,abo->io", x, slope), atol=1e-5)


def test_a_gpu_keeps_hidden_layers_in_bfloat16_and_outputs_in_single_precision():
    network = MLP(3, (8, 8), 2, layer_norm=True, key=jax.random.key(0))
    trained, rest = eqx.partition(network, eqx.is_inexact_array)

    def out(trained, x):
        return eqx.combine(trained, rest)(x)

    with matmul_precision("bfloat16"), compiling_for("cuda"):
        hidden = network.trunk(jnp.ones((4, 3)))
        found, pullback = jax.vjp(out, trained, jnp.ones((4, 3)))
        slopes = jax.tree.leaves(pullback(jnp.ones_like(found)))
    assert hidden.dtype == jnp.bfloat16
    assert {found.dtype, *(slope.dtype for slope in slopes)} == {jnp.dtype(jnp.float32)}


def test_time_features_stay_in_single_precision():
    features, steps = FourierFeatures(8, key=jax.random.key(0)), jnp.arange(10.0)
    plain = eqx.filter_jit(features)(steps)
    with matmul_precision("bfloat16"):
        np.testing.assert_array_equal(eqx.filter_jit(features)(steps), plain)


def test_trainers_compile_in_their_precision():
    plan = make_plan()
    replay = Replay.create(RandomWalks().load(0), 0)
    state = create_state(
        plan.make_agent(2, 2, jax.random.key(0)), plan.optimiser, jax.random.key(1)
    )

    def text(precision):
        trainer = Trainer(state, plan.optimiser, plan.sampling, precision=precision)
        training = trainer.begin(state, replay, jax.random.key(2))
        with matmul_precision(precision):
            lowered = str(trainer._run.trace(training, replay, np.int32(1)).jaxpr)
        trained = trainer.run(training, replay, 1)
        kept = jax.tree.leaves(eqx.filter(trained, eqx.is_inexact_array))
        assert {leaf.dtype for leaf in kept} == {jnp.dtype(jnp.float32)}
        return lowered

    assert "bf16" in text("bfloat16")
    assert "bf16" not in text("tf32")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("compute.precision=bfloat16", ("bfloat16", None)),
        ("compute.updates_per_dispatch=7", ("tf32", 7)),
        ("compute.updates_per_dispatch=auto", ("tf32", None)),
    ],
)
def test_an_experiment_names_the_precision_and_the_portion(monkeypatch, change, expected):
    monkeypatch.setattr("qamx.data.ogbench.dataset.find_files", lambda *_, **__: ())
    plan = build(load(QUICKSTART, [change]))
    assert (plan.precision, plan.updates_per_dispatch) == expected
