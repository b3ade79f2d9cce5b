"""The agents: who learns from what, and that composition is free."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qamx import QAM, QAMFQL, Backup, Batch, Integrator, Networks, Parts, QAMEdit
from qamx.agents import Agent, adam, create_state, update
from qamx.policies import BehaviourFlow
from qamx.schedules import Constant, Linear

OBS, ACT, HORIZON = 5, 2, 3
PARTS = Parts(
    Networks(OBS, ACT * HORIZON, (16, 16), (16, 16), ensemble_size=2),
    Backup(0.99, HORIZON, 0.5),
    Integrator(4),
)
KEY = jax.random.key(0)
TAU = Constant(2.0)
AGENTS = {
    "qam": QAM(PARTS, inverse_temperature=TAU, key=KEY),
    "qam_fql": QAMFQL(PARTS, inverse_temperature=TAU, distill_weight=3.0, key=KEY),
    "qam_edit": QAMEdit(PARTS, inverse_temperature=TAU, edit_scale=0.2, key=KEY),
}


def with_temperature(tau) -> QAM:
    return eqx.tree_at(lambda a: a.policy.inverse_temperature, AGENTS["qam"], tau)


def make_batch(size=16, **changes):
    keys = jax.random.split(jax.random.key(1), 4)
    values = {
        "observations": jax.random.normal(keys[0], (size, OBS)),
        "actions": jax.random.uniform(keys[1], (size, ACT * HORIZON), minval=-1, maxval=1),
        "rewards": jax.random.normal(keys[2], (size,)),
        "masks": jnp.ones(size),
        "valid": jnp.ones(size),
        "next_observations": jax.random.normal(keys[3], (size, OBS)),
    }
    return Batch(**(values | changes))


@pytest.mark.parametrize("name", AGENTS)
def test_an_update_changes_what_it_should(name):
    agent, optimiser = AGENTS[name], adam(3e-4, 1.0)
    state = create_state(agent, optimiser, KEY)
    after, _ = eqx.filter_jit(update)(state, make_batch(), optimiser)
    assert int(after.updates) == 1
    moved = jax.tree.map(
        lambda a, b: bool(jnp.any(a != b)),
        eqx.filter(state.agent, eqx.is_inexact_array),
        eqx.filter(after.agent, eqx.is_inexact_array),
    )
    # Every kernel is trained; targets follow.
    kernels = [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree.leaves_with_path(moved)
        if "kernel" in jax.tree_util.keystr(path)
    ]
    assert kernels
    assert all(leaf for _, leaf in kernels), [path for path, leaf in kernels if not leaf]


@pytest.mark.parametrize("name", AGENTS)
def test_actions_are_chunks_inside_the_box_and_depend_on_the_key(name):
    agent = AGENTS[name]
    observation = make_batch().observations
    one, two = agent.act(observation, KEY), agent.act(observation, jax.random.key(9))
    assert one.shape == (16, ACT * HORIZON)
    assert float(jnp.abs(one).max()) <= 1.0
    np.testing.assert_array_equal(one, agent.act(observation, KEY))
    assert float(jnp.abs(one - two).max()) > 1e-3
    assert agent.act_as_behaviour(observation, KEY).shape == one.shape


@eqx.filter_jit
def gradients(agent, batch):
    return eqx.filter_grad(lambda a: a.loss(batch, KEY)[0])(agent)


def largest(tree):
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    return max(float(jnp.abs(leaf).max()) for leaf in leaves)


@pytest.mark.parametrize("name", AGENTS)
def test_dropped_sequences_teach_neither_critic_nor_behaviour(name):
    flow = (lambda p: p) if name == "qam" else (lambda p: p.base)
    grads = gradients(AGENTS[name], make_batch(valid=jnp.zeros(16)))
    assert largest(grads.critic) == 0.0
    assert largest(flow(grads.policy).base) == 0.0
    assert largest(flow(grads.policy).velocity) > 0.0


@pytest.mark.parametrize("name", AGENTS)
def test_policy_losses_do_not_reach_the_critic(name):
    agent, batch = AGENTS[name], make_batch()

    @eqx.filter_jit
    def critic_alone(agent):
        critic_key, _ = jax.random.split(KEY)
        return eqx.filter_grad(lambda c: c.loss(batch, agent.policy, critic_key)[0])(agent.critic)

    alone, together = critic_alone(agent), gradients(agent, batch).critic
    assert largest(alone) > 0.0
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_adjoint_matched_flow_teaches_no_behaviour():
    agent, batch = AGENTS["qam"], make_batch()
    critic = agent.critic.target
    grads = eqx.filter_jit(
        eqx.filter_grad(lambda p: p.matching_loss(critic, batch.observations, KEY)[0])
    )(agent.policy)
    assert largest(grads.base) == 0.0
    assert largest(grads.velocity) > 0.0


def test_the_boundary_grows_with_the_inverse_temperature():
    observation = make_batch().observations

    @eqx.filter_jit
    def boundary(agent):
        policy, critic = agent.policy, agent.critic.target
        return policy.matching_loss(critic, observation, KEY)[1].boundary_mean

    one, ten = (float(boundary(with_temperature(Constant(tau)))) for tau in (1.0, 10.0))
    assert ten == pytest.approx(10 * one, rel=1e-4)


def test_temperature_schedules_advance_with_updates():
    optimiser = adam()
    state = create_state(with_temperature(Linear(0.0, 4.0, 4)), optimiser, KEY)
    step = eqx.filter_jit(update)
    for _ in range(3):
        state, _ = step(state, make_batch(), optimiser)
    assert float(state.agent.policy.inverse_temperature.value()) == pytest.approx(3.0)


def test_any_critic_learning_goes_with_any_policy():
    keys = jax.random.split(KEY)
    policy = PARTS.one_step(PARTS.behaviour_flow(keys[0]), 10.0, keys[1])
    agent = Agent(PARTS.temporal_difference(KEY), PARTS.edit(policy, 0.1, 0.5, KEY))
    state = create_state(agent, adam(), KEY)
    state, metrics = eqx.filter_jit(update)(state, make_batch(), adam())
    assert [type(record).__name__ for record in metrics] == [
        "UpdateMetrics",
        "CriticMetrics",
        "BehaviourFlowMetrics",
        "OneStepMetrics",
        "EditMetrics",
    ]
    assert isinstance(agent.policy.behaviour, BehaviourFlow)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PARTS.one_step(PARTS.behaviour_flow(KEY), 0.0, KEY), "distillation weight"),
        (lambda: PARTS.edit(PARTS.behaviour_flow(KEY), 0.0, 0.5, KEY), "edit scale"),
    ],
)
def test_a_feature_that_is_off_is_a_part_that_is_absent(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_gradients_are_clipped_over_all_networks_together():
    gradient = {"critic": jnp.array([3.0]), "policy": jnp.array([4.0])}
    optimiser = adam(1.0, 1.0)
    _, state = optimiser.update(gradient, optimiser.init(gradient), gradient)
    # After one step Adam's first moment is a tenth of the gradient that it saw.
    first_moment = [float(leaf[0]) for leaf in jax.tree.leaves(state) if leaf.shape][:2]
    np.testing.assert_allclose(first_moment, [0.1 * 3 / 5, 0.1 * 4 / 5], rtol=1e-6)
