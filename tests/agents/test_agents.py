"""The agents: who learns from what, and that composition is free."""

import itertools
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_agent import ACT, HORIZON, KEY, METHODS, OBS, PARTS, agent_of

import qamx
from qamx import Batch, registry
from qamx.agents import Agent, adam, best_of_n, clone, create_state, update
from qamx.policies import AdvantageWeightedFlow, BehaviourFlow, GuidedFlow
from qamx.schedules import Constant, LinearSchedule
from qamx.training.state import flatten

QAM_FAMILY = ("qam", "qam_fql", "qam_edit")


def test_every_registered_method_is_here():
    assert set(METHODS) == set(registry.agents.names())


def with_temperature(tau) -> qamx.QAM:
    return eqx.tree_at(lambda a: a.policy.inverse_temperature, agent_of("qam"), tau)


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


@pytest.mark.parametrize("name", METHODS)
def test_an_update_changes_what_it_should(name):
    agent, optimiser = agent_of(name), adam(3e-4, 1.0)
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


@pytest.mark.parametrize("name", METHODS)
def test_actions_are_chunks_inside_the_box_and_depend_on_the_key(name):
    agent = agent_of(name)
    observation, act = make_batch().observations, eqx.filter_jit(agent.act)
    one, two = act(observation, KEY), act(observation, jax.random.key(9))
    assert one.shape == (16, ACT * HORIZON)
    assert float(jnp.abs(one).max()) <= 1.0
    np.testing.assert_array_equal(one, act(observation, KEY))
    assert float(jnp.abs(one - two).max()) > 1e-3
    assert eqx.filter_eval_shape(agent.act_in_evaluation, observation, KEY).shape == one.shape
    if agent.policy.behaviour is not None:
        assert eqx.filter_eval_shape(agent.act_as_behaviour, observation, KEY).shape == one.shape
    else:
        with pytest.raises(ValueError, match="keeps no clone"):
            agent.act_as_behaviour(observation, KEY)


@eqx.filter_jit
def gradients(agent, batch):
    return eqx.filter_grad(lambda a: a.loss(batch, KEY)[0])(agent)


def largest(tree):
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    return max(float(jnp.abs(leaf).max()) for leaf in leaves)


@pytest.mark.parametrize("name", QAM_FAMILY)
def test_dropped_sequences_teach_neither_critic_nor_behaviour(name):
    flow = (lambda p: p) if name == "qam" else (lambda p: p.base)
    grads = gradients(agent_of(name), make_batch(valid=jnp.zeros(16)))
    assert largest(grads.critic) == 0.0
    assert largest(flow(grads.policy).base) == 0.0
    assert largest(flow(grads.policy).velocity) > 0.0


@pytest.mark.parametrize("name", METHODS)
def test_policy_losses_do_not_reach_the_critic(name):
    agent, batch = agent_of(name), make_batch()

    @eqx.filter_jit
    def critic_gradients(agent):
        critic_key, _ = jax.random.split(KEY)
        alone = eqx.filter_grad(lambda c: c.loss(batch, agent.policy.for_backup(), critic_key)[0])
        return alone(agent.critic), gradients(agent, batch).critic

    alone, together = critic_gradients(agent)
    assert largest(alone) > 0.0
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_cloning_teaches_the_clone_alone_and_everything_starts_from_it(name):
    agent, optimiser = agent_of(name), adam(1e-2)
    before = create_state(agent, optimiser, KEY)
    after, metrics = eqx.filter_jit(clone)(before, make_batch(), optimiser)
    assert float(flatten(metrics)["update/loss"]) > 0.0
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), agent.policy.clone, _clone(after))
    assert any(jax.tree.leaves(moved))
    for one, other in zip(
        jax.tree.leaves(eqx.filter(agent.critic, eqx.is_array)),
        jax.tree.leaves(eqx.filter(after.agent.critic, eqx.is_array)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    # A policy that refines a flow with a target or a second velocity: all are the clone now.
    policy = after.agent.policy
    for refined in ("velocity", "base.velocity", "base.pair.target.velocity"):
        network = policy
        for part in refined.split("."):
            network = getattr(network, part, None)
        if network is not None:
            assert eqx.tree_equal(network, policy.clone)


def _clone(state):
    return state.agent.policy.clone


def test_a_delayed_actor_and_the_targets_move_on_every_second_update():
    optimiser = adam(1e-3)
    states = [create_state(agent_of("rebrac"), optimiser, KEY)]
    step = eqx.filter_jit(update)
    for _ in range(3):
        states.append(step(states[-1], make_batch(), optimiser)[0])

    def moved(where):
        return [
            bool(jnp.any(where(one.agent) != where(other.agent)))
            for one, other in itertools.pairwise(states)
        ]

    assert moved(lambda a: a.policy.actor.online.value.mean.kernel) == [True, False, True]
    assert moved(lambda a: a.policy.actor.target.value.mean.kernel) == [True, False, True]
    assert moved(lambda a: a.critic.target.members.head.kernel) == [True, False, True]
    assert moved(lambda a: a.critic.online.members.head.kernel) == [True, True, True]


def test_the_release_of_rebrac_delays_the_targets_alone():
    optimiser = adam(1e-3)
    agent = qamx.ReBRAC(
        PARTS, bc_weight=0.1, actor_noise=0.0, policy_delay=2, delayed="targets", key=KEY
    )
    one = eqx.filter_jit(update)(create_state(agent, optimiser, KEY), make_batch(), optimiser)[0]
    two = eqx.filter_jit(update)(one, make_batch(), optimiser)[0]
    before, after = one.agent.policy.actor, two.agent.policy.actor
    assert jnp.any(before.online.mean.kernel != after.online.mean.kernel)
    np.testing.assert_array_equal(before.target.mean.kernel, after.target.mean.kernel)


def test_best_of_n_plays_the_draw_that_all_critics_value_most():
    agent = agent_of("fql")
    observation = make_batch(4).observations
    best = best_of_n(agent, 8)
    drawn = agent.policy.sample(agent.critic, jnp.repeat(observation, 8, axis=0), KEY)
    values = jnp.min(agent.critic.online(jnp.repeat(observation, 8, axis=0), drawn), axis=0)
    chosen = best.act(observation, KEY)
    worth = jnp.min(agent.critic.online(observation, chosen), axis=0)
    np.testing.assert_allclose(worth, values.reshape(4, 8).max(axis=1), rtol=1e-6)


def test_parts_that_need_another_critic_say_so():
    flow = PARTS.slow_behaviour_flow(KEY)
    plain = PARTS.temporal_difference(KEY)
    guided = Agent(plain, GuidedFlow(flow, 1.0, 0.1, jnp.ones_like))
    with pytest.raises(TypeError, match="critics on flow time"):
        guided.act(make_batch().observations, KEY)
    weighted = Agent(plain, AdvantageWeightedFlow(flow.behaviour, 1.0))
    with pytest.raises(TypeError, match="AdvantageLearning"):
        weighted.loss(make_batch(), KEY)


def test_a_reversal_and_the_flow_are_inverse():
    policy = agent_of("rql").policy
    batch = make_batch()
    still = jax.tree.map(
        lambda leaf: jnp.zeros_like(leaf) if eqx.is_array(leaf) else leaf, policy.clone
    )
    constant = eqx.tree_at(lambda v: v.mlp.head.bias, still, jnp.full(ACT * HORIZON, 0.3))
    flow, length = policy.start_from(constant), jnp.linspace(0.0, 1.0, 16)
    x = flow.reverse(batch.observations, batch.actions, length)
    np.testing.assert_allclose(x, batch.actions - 0.3 * length[:, None], atol=1e-6)


def test_the_adjoint_matched_flow_teaches_no_behaviour():
    agent, batch = agent_of("qam"), make_batch()
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
    optimiser = adam(3e-4)
    state = create_state(with_temperature(LinearSchedule(0.0, 4.0, 4)), optimiser, KEY)
    step = eqx.filter_jit(update)
    for _ in range(3):
        state, _ = step(state, make_batch(), optimiser)
    assert float(state.agent.policy.inverse_temperature.value()) == pytest.approx(3.0)


def test_any_critic_learning_goes_with_any_policy():
    keys = jax.random.split(KEY)
    policy = PARTS.one_step(PARTS.behaviour_flow(keys[0]), 10.0, keys[1])
    agent = Agent(PARTS.temporal_difference(KEY), PARTS.edit(policy, 0.1, 0.5, KEY))
    state = create_state(agent, adam(3e-4), KEY)
    state, metrics = eqx.filter_jit(update)(state, make_batch(), adam(3e-4))
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


def test_an_update_uses_nothing_that_is_deprecated():
    state = create_state(agent_of("fql"), adam(3e-4), KEY)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        eqx.filter_eval_shape(update, state, make_batch(), adam(3e-4))


def test_gradients_are_clipped_over_all_networks_together():
    gradient = {"critic": jnp.array([3.0]), "policy": jnp.array([4.0])}
    optimiser = adam(1.0, 1.0)
    _, state = optimiser.update(gradient, optimiser.init(gradient), gradient)
    # After one step Adam's first moment is a tenth of the gradient that it saw.
    first_moment = [float(leaf[0]) for leaf in jax.tree.leaves(state) if leaf.shape][:2]
    np.testing.assert_allclose(first_moment, [0.1 * 3 / 5, 0.1 * 4 / 5], rtol=1e-6)
