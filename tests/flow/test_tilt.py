"""QAM's claim: the trained flow samples pi_b(a) exp(tau Q(a)), normalised.

The base flow is exact, the tilt of a Gaussian mixture by a linear or quadratic Q is a Gaussian
mixture again, and the samples' weights, means and covariances are compared with it.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qamx.flow import Integrator, sample_ode
from qamx.policies import AdjointMatchedFlow, BehaviourFlow, TargetBehaviourFlow
from qamx.rl import WithTarget
from qamx.schedules import Constant
from studies.mixture import MixtureVelocity, QuadraticCritic
from studies.problem import BASE, LINEAR, QUADRATIC

pytestmark = pytest.mark.usefixtures("optimised")

TAU = 3.0
TILTS = {
    "linear": (np.array([-0.6, -0.3]), np.zeros((2, 2))),
    "quadratic": (np.array([-0.4, 0.0]), np.array([[2.0, -1.0], [-1.0, -4.0]])),
    "the study's": (LINEAR, QUADRATIC),
}
STEPS, BATCH, UPDATES = 60, 256, 600


def train(linear, quadratic) -> MixtureVelocity:
    """The velocity after training by the policy's own adjoint-matching loss, from the base."""
    exact = MixtureVelocity(BASE)
    base = TargetBehaviourFlow(WithTarget(BehaviourFlow(exact, Integrator(STEPS), 2), 0.005))
    policy = AdjointMatchedFlow(base, exact, Constant(TAU))
    critic = QuadraticCritic(jnp.asarray(linear, jnp.float32), jnp.asarray(quadratic, jnp.float32))
    observation = jnp.zeros((BATCH, 1))
    optimiser: Any = optax.adam(optax.cosine_decay_schedule(2e-2, UPDATES))

    def loss(velocity, key):
        learner = eqx.tree_at(lambda p: p.velocity, policy, velocity)
        return learner.matching_loss(critic, observation, key)[0]

    def step(carry, key):
        velocity, state = carry
        steps, state = optimiser.update(jax.grad(loss)(velocity, key), state)
        return (eqx.apply_updates(velocity, steps), state), None

    keys = jax.random.split(jax.random.key(2), UPDATES)
    (velocity, _), _ = jax.jit(lambda start: jax.lax.scan(step, start, keys))(
        (exact, optimiser.init(exact))
    )
    return velocity


@pytest.mark.parametrize("tilt", TILTS)
def test_trained_flow_samples_the_tilted_mixture(tilt):
    linear, quadratic = TILTS[tilt]
    target = BASE.tilted(TAU * linear, TAU * quadratic)
    # The tilt is worth testing: it moves weight between modes.
    assert np.abs(target.weights - BASE.weights).max() > 0.2
    velocity, n = train(linear, quadratic), 20_000
    noise = jax.random.normal(jax.random.key(3), (n, 2))
    samples = np.asarray(
        eqx.filter_jit(sample_ode)(velocity, jnp.zeros((n, 1)), noise, Integrator(STEPS))
    )
    labels = target.nearest(samples)
    weights = np.bincount(labels, minlength=3) / n
    np.testing.assert_allclose(weights, target.weights, atol=0.03)
    for i in range(3):
        part, spread = samples[labels == i], np.sqrt(np.diag(target.covariances[i]))
        # Means to a fifth of a standard deviation, covariances to 15% of the largest entry.
        np.testing.assert_array_less(np.abs(part.mean(0) - target.means[i]), 0.2 * spread)
        size = np.abs(target.covariances[i]).max()
        np.testing.assert_allclose(np.cov(part.T), target.covariances[i], atol=0.15 * size)
