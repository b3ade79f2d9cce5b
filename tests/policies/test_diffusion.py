"""The diffusion policy against a law that is known in closed form."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qamx.policies import CriticGuidedDiffusion, VariancePreserving, clipped_step, posterior_step

SPREAD = 0.2


class GaussianNoise(eqx.Module):
    """E[z | x_k] for x_k = sqrt(abar) a + sqrt(1 - abar) z with a ~ N(0, 0.2^2 I)."""

    schedule: VariancePreserving

    def __call__(self, observation, x, step):
        bar = self.schedule.alpha_bars[step.astype(int)][:, None]
        return jnp.sqrt(1 - bar) * x / (bar * SPREAD**2 + 1 - bar)


@pytest.mark.parametrize("step", [clipped_step, posterior_step])
def test_the_reverse_process_samples_the_data(step):
    schedule = VariancePreserving(100)
    predictor: Any = GaussianNoise(schedule)
    no_critic: Any = None  # the critic has its say in training alone
    policy = CriticGuidedDiffusion(predictor, schedule, step, 1.0, 2)
    sample = jax.jit(lambda key: policy.sample(no_critic, jnp.zeros((20_000, 1)), key))
    actions = np.asarray(sample(jax.random.key(0)))
    # The deviation of an empirical standard deviation of 40,000 draws is 0.35%; N is finite.
    assert actions.std() == pytest.approx(SPREAD, rel=0.06)
    assert abs(actions.mean()) < 0.01


def test_the_schedule_by_hand():
    schedule = VariancePreserving(10)
    exponents = [0.1 / 10 + 0.5 * 9.9 * (2 * k - 1) / 100 for k in range(1, 11)]
    np.testing.assert_allclose(schedule.alphas[1:], np.exp(-np.array(exponents)), rtol=1e-6)
    np.testing.assert_allclose(schedule.alpha_bars[-1], np.exp(-sum(exponents)), rtol=1e-5)
