"""Backups, targets, entropy and schedules against numbers worked out by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qamx._types import Batch
from qamx.nn import EnsembleCritic, Linear, TanhNormal, Temperature
from qamx.rl import (
    Backup,
    EntropyTarget,
    Fixed,
    TemporalDifference,
    WithTarget,
    frozen,
    pessimistic_value,
    td_loss,
    trainable,
)
from qamx.schedules import Constant, Offline, Online, Schedule, is_due, next_due
from qamx.schedules import Linear as LinearSchedule


def batch(**changes):
    values = {
        "observations": jnp.zeros((2, 3)),
        "actions": jnp.zeros((2, 4)),
        "rewards": jnp.array([-1.0, -2.0]),
        "masks": jnp.array([1.0, 0.0]),
        "valid": jnp.array([1.0, 1.0]),
        "next_observations": jnp.ones((2, 3)),
    }
    return Batch(**(values | changes))


def test_pessimistic_value_uses_the_population_deviation():
    values = jnp.array([[1.0, 0.0], [3.0, 0.0]])
    np.testing.assert_allclose(pessimistic_value(values, 0.5), [2.0 - 0.5 * 1.0, 0.0])


def test_pessimism_has_a_gradient_where_the_critics_agree():
    gradient = jax.grad(lambda v: jnp.sum(pessimistic_value(v, 0.5)))(jnp.ones((2, 3)))
    np.testing.assert_allclose(gradient, 0.5)


def test_backup_by_hand():
    target = Backup(0.9, 2, 0.5).target(batch(), jnp.array([[1.0, 5.0], [3.0, 5.0]]))
    np.testing.assert_allclose(target, [-1.0 + 0.81 * 1.5, -2.0], rtol=1e-6)


def test_td_loss_counts_dropped_rows_in_the_mean():
    values = jnp.array([[1.0, 7.0], [2.0, 7.0]])
    loss = td_loss(values, jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]))
    assert float(loss) == pytest.approx((1.0 + 4.0) / 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((1.5, 1), "discount"), ((0.9, 0), "horizon"), ((0.9, 1, -0.1), "pessimism")],
)
def test_a_backup_refuses_bad_numbers(arguments, said):
    with pytest.raises(ValueError, match=said):
        Backup(*arguments)


def test_the_critic_sees_no_gradient_through_its_target():
    critic = WithTarget(EnsembleCritic(3, 4, (8,), ensemble_size=2, key=jax.random.key(0)))
    learner = TemporalDifference(critic, Backup(0.9, 1, 0.5))

    class Still:
        def sample(self, critic, observation, key):
            return jnp.zeros((2, 4))

    grads = jax.grad(lambda c: c.loss(batch(), Still(), jax.random.key(0))[0])(learner)
    online, target = grads.critic.online, grads.critic.target
    assert any(jnp.any(leaf != 0) for leaf in jax.tree.leaves(online))
    assert not any(jnp.any(leaf != 0) for leaf in jax.tree.leaves(target))


def test_targets_follow_at_their_rate():
    pair = WithTarget(Linear(2, 1, key=jax.random.key(0)), rate=0.25)
    pair = eqx.tree_at(lambda p: p.online.bias, pair, jnp.array([4.0]))
    pair = pair.advance().advance()
    np.testing.assert_allclose(pair.target.bias, [4.0 * (1 - 0.75**2)])
    with pytest.raises(ValueError, match="target rate"):
        WithTarget(pair.online, rate=0.0)


def test_only_parts_outside_fixed_are_trained():
    pair = WithTarget(Linear(2, 1, key=jax.random.key(0)))
    trained, rest = eqx.partition(pair, trainable(pair))
    assert len(jax.tree.leaves(trained)) == 2
    assert trained.online.kernel is not None
    assert rest.target.kernel is not None
    assert not jax.tree.leaves(eqx.filter(Fixed(jnp.ones(2)), trainable(Fixed(jnp.ones(2)))))


def test_frozen_parts_get_no_gradient():
    assert float(jax.grad(lambda x: frozen({"x": x})["x"] ** 2)(3.0)) == 0.0
    assert float(jax.grad(lambda x: frozen({"x": jnp.asarray(x)})["x"] ** 2 + x)(3.0)) == 1.0


def test_squashed_normal_density_integrates_to_one():
    law = TanhNormal(jnp.array([0.3]), jnp.array([-0.5]))
    noise = jnp.linspace(-8, 8, 20001)[:, None]
    samples, log_prob = jax.vmap(law.sample_and_log_prob)(noise)
    # p(u) du, over u = tanh(m + s z).
    assert float(jnp.trapezoid(jnp.exp(log_prob), samples[:, 0])) == pytest.approx(1.0, abs=1e-3)
    assert np.isfinite(law.sample_and_log_prob(jnp.array([40.0]))[1])


def test_entropy_target_by_hand():
    target = EntropyTarget(Temperature(0.5), -2.0)
    policy_term, temperature_loss, entropy = target.losses(jnp.array([1.0, 3.0]))
    assert float(entropy) == pytest.approx(-2.0)
    assert float(policy_term) == pytest.approx(0.5 * 2.0)
    assert float(temperature_loss) == pytest.approx(0.0)
    # Too little entropy (H < H*) must raise the temperature: the gradient is negative.
    slope = jax.grad(lambda t: t.losses(jnp.array([4.0]))[1])(target)
    assert float(slope.temperature.log_value) < 0


def test_inverse_temperature_schedules():
    assert float(Constant(3.0).advance(jnp.zeros(())).value()) == 3.0
    schedule = LinearSchedule(0.0, 4.0, 4)
    values = []
    for _ in range(6):
        values.append(float(schedule.value()))
        schedule = schedule.advance(jnp.zeros(()))
    assert values == [0.0, 1.0, 2.0, 3.0, 4.0, 4.0]
    with pytest.raises(ValueError, match="positive"):
        Constant(0.0)
    with pytest.raises(ValueError, match="at least 1"):
        LinearSchedule(0.0, 1.0, 0)


def test_phases_and_intervals():
    schedule = Schedule((Offline(100), Online(50, 10, 1)))
    assert (schedule.steps, schedule.online_steps, schedule.start(1)) == (150, 50, 100)
    assert next_due(95, (40, 30), 100) == 100
    assert next_due(90, (40, 30), 200) == 120
    assert is_due(80, 40, 100)
    assert is_due(100, 30, 100)
    assert not is_due(85, 40, 100)
