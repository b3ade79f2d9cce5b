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
    Clock,
    EntropyTarget,
    Fixed,
    TemporalDifference,
    WithTarget,
    expectile_loss,
    frozen,
    linex,
    pessimistic_value,
    td_loss,
    trainable,
)
from qamx.schedules import (
    Constant,
    LinearSchedule,
    Offline,
    Online,
    Schedule,
    TrustRegion,
    is_due,
    next_due,
)


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


def test_expectiles_by_hand():
    errors = jnp.array([2.0, -2.0])
    np.testing.assert_allclose(expectile_loss(errors, 0.9), [0.9 * 4, 0.1 * 4], rtol=1e-6)
    # The 0.9 expectile of a fair coin on 0 and 1 is 0.9.
    slope = jax.grad(lambda v: jnp.mean(expectile_loss(jnp.array([0.0, 1.0]) - v, 0.9)))(0.9)
    assert float(slope) == pytest.approx(0.0, abs=1e-6)


def test_linex_is_least_at_the_soft_maximum():
    clean, tau = jnp.array([[0.0, 1.0]]), 2.0
    soft = jnp.log(jnp.mean(jnp.exp(tau * clean))) / tau
    slope = jax.grad(lambda q: jnp.mean(linex(jnp.full((1, 2), q), clean, tau)))(soft)
    assert float(slope) == pytest.approx(0.0, abs=1e-5)
    # Beyond an exponent of 5 the loss is the exponent, and its gradient is finite.
    far = jnp.full((1, 1), -100.0)
    assert float(linex(far, jnp.zeros((1, 1)), tau)[0, 0]) == pytest.approx(200.0)
    assert float(jax.grad(lambda q: linex(q, jnp.zeros((1, 1)), tau)[0, 0])(far)[0, 0]) == -tau


def test_a_trust_region_follows_its_budget():
    schedule = TrustRegion(0.5, scale=3.0)
    assert float(schedule.value()) == pytest.approx(1 / 3)
    # An average of 0.1 x min(KL, 2 x 0.5), and a price that falls while it is under the budget.
    after = schedule.advance(jnp.asarray(7.0))
    assert float(after.average.value) == pytest.approx(0.1)
    assert float(after.price.value) == pytest.approx(1.0 + 0.01 * (0.1 - 0.5))
    for _ in range(300):
        after = after.advance(jnp.asarray(7.0))
    assert float(after.price.value) > 2.0
    assert not jax.tree.leaves(eqx.filter(after, trainable(after)))
    with pytest.raises(ValueError, match="budget 0"):
        TrustRegion(0.0, scale=3.0)


def test_a_clocked_target_moves_when_it_is_due():
    pair = WithTarget(Linear(2, 1, key=jax.random.key(0)), 0.5, Clock(2))
    pair = eqx.tree_at(lambda p: p.online.bias, pair, jnp.array([4.0]))
    seen = []
    for _ in range(4):
        pair = pair.advance()
        seen.append(float(pair.target.bias[0]))
    np.testing.assert_allclose(seen, [2.0, 2.0, 3.0, 3.0])
    with pytest.raises(ValueError, match="at least 1"):
        Clock(0)


def test_the_density_of_an_action_is_that_of_its_sample():
    law = TanhNormal(jnp.array([[0.3, -1.0]]), jnp.array([[-0.5, 0.2]]))
    action, log_prob = law.sample_and_log_prob(jnp.array([[0.7, -0.4]]))
    np.testing.assert_allclose(law.log_prob(action), log_prob, rtol=1e-4)


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
    critic = WithTarget(EnsembleCritic(3, 4, (8,), ensemble_size=2, key=jax.random.key(0)), 0.005)
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
    pair = WithTarget(Linear(2, 1, key=jax.random.key(0)), 0.005)
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
    assert [schedule.updates_at(step) for step in (100, 110, 111, 150)] == [100, 100, 101, 140]
    rare = Online(50, 10, 0.25)
    assert [rare.updates_after(steps) for steps in (10, 13, 14, 17, 18, 50)] == [0, 0, 1, 1, 2, 10]
    assert next_due(95, (40, 30), 100) == 100
    assert next_due(90, (40, 30), 200) == 120
    assert is_due(80, 40, 100)
    assert is_due(100, 30, 100)
    assert not is_due(85, 40, 100)
