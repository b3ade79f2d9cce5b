"""The study of the exact-tilt problem: its distance, its laws, and one point of it."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qamx.policies import VariancePreserving
from studies import guided, tempered
from studies.distance import Sample, energy_distance
from studies.mixture import MixtureVelocity
from studies.noised import ExactNoise, MeanValue, NoisedMixture, SoftMaximum
from studies.problem import BASE, LINEAR, QUADRATIC, divergence, draw, tilted
from studies.tilt import measure
from studies.training import Settings


def test_energy_distance_of_two_point_masses():
    # Without spread it is sqrt(2 |x - y|).
    x, y = Sample(jnp.zeros((256, 2))), Sample(jnp.tile(jnp.array([3.0, 4.0]), (512, 1)))
    assert energy_distance(x, y) == pytest.approx(np.sqrt(10.0), rel=1e-5)
    assert energy_distance(x, x) == 0.0


def test_energy_distance_of_shifted_normals():
    # In one dimension X - Y ~ N(m, 2), whose mean size is known.
    m, n = 1.5, 4096
    keys = jax.random.split(jax.random.key(0))
    x, y = jax.random.normal(keys[0], (n, 1)), m + jax.random.normal(keys[1], (n, 1))
    phi = 0.5 * (1.0 + math.erf(m / 2.0))
    apart = 2.0 / np.sqrt(np.pi) * np.exp(-(m**2) / 4.0) + m * (2.0 * phi - 1.0)
    exact = np.sqrt(2.0 * apart - 4.0 / np.sqrt(np.pi))
    assert energy_distance(Sample(x), Sample(y)) == pytest.approx(exact, rel=0.03)


def test_divergence_of_the_tilt_by_monte_carlo():
    beta = 1.0
    x = draw(tilted(beta), jax.random.key(0), 100_000)
    ratio = tilted(beta).log_density(np.asarray(x)) - BASE.log_density(np.asarray(x))
    assert divergence(beta) == pytest.approx(ratio.mean(), abs=4.0 * ratio.std() / 300.0)


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_values_at_noised_actions_by_importance_sampling(beta):
    # Given x_t, actions of the behaviour weigh as the noise (x_t - t a) / (1 - t) does.
    x, t = jnp.array([0.1, -0.2]), 0.6
    actions = draw(BASE, jax.random.key(1), 200_000)
    weights = jax.nn.softmax(-0.5 * jnp.sum(((x - t * actions) / (1.0 - t)) ** 2, axis=-1))
    q = actions @ LINEAR + 0.5 * jnp.sum(actions @ QUADRATIC * actions, axis=-1)
    point = jnp.concatenate([x, jnp.array([t])])[None]
    base = NoisedMixture(BASE)
    mean = MeanValue(base, *guided.q_arrays())(jnp.zeros((1, 1)), point)
    assert float(mean[0, 0]) == pytest.approx(float(weights @ q), abs=0.01)
    # The soft maximum is known up to a constant: compare its difference between two points.
    soft = SoftMaximum(base, NoisedMixture(tilted(beta)), beta)
    other = point.at[0, 0].add(-0.4)
    others = jax.nn.softmax(
        -0.5 * jnp.sum(((other[0, :2] - t * actions) / (1.0 - t)) ** 2, axis=-1)
    )
    change = jnp.log(weights @ jnp.exp(beta * q)) - jnp.log(others @ jnp.exp(beta * q))
    found = beta * (soft(jnp.zeros((1, 1)), point) - soft(jnp.zeros((1, 1)), other))
    assert float(found[0, 0]) == pytest.approx(float(change), abs=0.01)


def test_exact_noise_is_the_mean_of_the_noise():
    schedule, step = VariancePreserving(10), 4
    bar = schedule.alpha_bars[step]
    x = jnp.array([[0.2, 0.1]])
    actions = draw(BASE, jax.random.key(2), 200_000)
    noise = (x - jnp.sqrt(bar) * actions) / jnp.sqrt(1.0 - bar)
    weights = jax.nn.softmax(-0.5 * jnp.sum(noise**2, axis=-1))
    predictor = ExactNoise(NoisedMixture(BASE), schedule, *guided.q_arrays())
    found = predictor(jnp.zeros((1, 1)), x, jnp.full(1, float(step)))
    np.testing.assert_allclose(found[0], weights @ noise, atol=0.02)


def test_a_point_of_the_study():
    """Few updates of QAM come nearer to the tilted law than the behaviour and DAC's minimiser."""
    key = jax.random.key(0)
    target = Sample(draw(tilted(1.0), key, 1024))
    settings = Settings(150, 2e-2, 128)
    qam = tempered.qam("family", MixtureVelocity(BASE), 20, settings)
    qam = dataclasses.replace(qam, runs=tempered.runs((1.0,)))
    dac = dataclasses.replace(guided.dac_minimiser(50), runs=tempered.runs((1.0,)))
    found = {
        variant.method: measure(variant, [target], jax.random.key(1))["runs"][0]["distances"][0]
        for variant in (qam, dac)
    }
    behaviour = energy_distance(Sample(draw(BASE, jax.random.key(2), 1024)), target)
    assert found["qam"] < 0.5 * min(behaviour, found["dac"])
