"""Updates and actions of methods without an authors' implementation, against NumPy in float64.

The networks' forward passes and the methods' equations are written here again, from the papers;
gradients are finite differences of them.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qamx
from qamx import Backup, Batch, Integrator, Networks, Parts

OBS, DIM, HORIZON, STEPS, BATCH = 3, 2, 2, 4, 5
DISCOUNT, PESSIMISM = 0.9, 0.5
PARTS = Parts(
    Networks(OBS, DIM, (6, 5), (7, 6), ensemble_size=3),
    Backup(DISCOUNT, HORIZON, PESSIMISM),
    Integrator(STEPS),
    target_rate=0.1,
)
RNG = np.random.default_rng(0)
BATCHED = Batch(
    observations=jnp.asarray(RNG.normal(size=(BATCH, OBS)), jnp.float32),
    actions=jnp.asarray(RNG.uniform(-0.9, 0.9, (BATCH, DIM)), jnp.float32),
    rewards=jnp.asarray(RNG.normal(size=BATCH), jnp.float32),
    masks=jnp.asarray([1.0, 1.0, 0.0, 1.0, 1.0]),
    valid=jnp.asarray([1.0, 0.0, 1.0, 1.0, 1.0]),
    next_observations=jnp.asarray(RNG.normal(size=(BATCH, OBS)), jnp.float32),
)
KEY = jax.random.key(0)


# --- the same draws for every key: a constant of the shape ---


def _draws(stream, shape):
    return np.random.default_rng([stream, *shape])


def normal(shape):
    return _draws(1, shape).standard_normal(shape)


def uniform(shape):
    return _draws(2, shape).random(shape)


@pytest.fixture(autouse=True)
def constant_draws(monkeypatch):
    monkeypatch.setattr(jax.random, "normal", lambda key, shape: jnp.asarray(normal(shape)))
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.asarray(uniform(shape)))


# --- networks in float64 ---


def exact(network):
    """The arrays of a network in float64."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, float), eqx.filter(network, eqx.is_array))


def mlp(network, x):
    """Linear layers with the tanh approximation of GELU, and layer norms if there are any."""
    for i, layer in enumerate(network.trunk.layers):
        x = x @ layer.kernel + layer.bias
        x = 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))
        if network.trunk.norms:
            norm = network.trunk.norms[i]
            centred = x - x.mean(-1, keepdims=True)
            x = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * norm.scale + norm.bias
    return x @ network.head.kernel + network.head.bias


def values(critic, s, a):
    """Q_k(s, a), a row for each k."""
    members = exact(critic.members)
    joined = np.concatenate([s, a], axis=-1)
    count = len(members.head.bias)
    return np.array(
        [mlp(jax.tree.map(lambda leaf, k=k: leaf[k], members), joined)[:, 0] for k in range(count)]
    )


def pessimistic(q):
    return q.mean(0) - PESSIMISM * q.std(0)


def clip(a):
    return np.clip(a, -1.0, 1.0)


def row_gradient(value, a, step=1e-5):
    """Central differences of each row's value by its entries."""
    shifts = step * np.eye(a.shape[-1])
    return np.stack([(value(a + e) - value(a - e)) / (2.0 * step) for e in shifts], axis=-1)


def flow_of(agent: Any):
    """The behaviour flow's network."""
    return exact(agent.policy.base.velocity.mlp)


def velocity(field, s, x, t):
    """v(s, x, t) with one t for each row, or for all."""
    time = np.broadcast_to(t, x.shape[:1])[:, None]
    return mlp(field, np.concatenate([s, x, time], axis=-1))


def euler(field, s, x):
    for i in range(STEPS):
        x = x + velocity(field, s, x, i / STEPS) / STEPS
    return x


def arrays_of(batch):
    return {
        name: np.asarray(getattr(batch, name), float)
        for name in ("observations", "actions", "rewards", "masks", "valid", "next_observations")
    }


def matching(field, batch):
    """Flow matching of the data's chunks."""
    s, a = batch["observations"], batch["actions"]
    z, t = normal(a.shape), uniform((len(a),))
    x = (1.0 - t[:, None]) * z + t[:, None] * a
    error = np.mean((velocity(field, s, x, t) - (a - z)) ** 2, axis=-1)
    return np.mean(batch["valid"] * error)


def td(critic, batch, bootstrap):
    """Squared errors of the K critics at the data."""
    target = batch["rewards"] + DISCOUNT**HORIZON * batch["masks"] * bootstrap
    q = values(critic, batch["observations"], batch["actions"])
    return np.mean(batch["valid"] * (q - target) ** 2)


def gradient_entry(loss, network, where, index, step=1e-5):
    """The derivative of `loss(network)` by an entry of one of its arrays."""

    def moved(change):
        array = where(network).copy()
        array[index] += change
        return loss(eqx.tree_at(where, network, array))

    return (moved(step) - moved(-step)) / (2.0 * step)


def updated_parts(agent):
    """Loss, metrics by class and field, and gradients of one update."""

    def total(agent):
        return agent.loss(BATCHED, KEY)

    (loss, metrics), gradients = eqx.filter_value_and_grad(total, has_aux=True)(agent)
    found = {
        f"{type(record).__name__}.{name}": float(getattr(record, name))
        for record in metrics
        for name in vars(record)
    }
    return float(loss), found, gradients


# --- PReFlow (arXiv 2609.36812) ---

TAU, DELTA, PROPOSALS = 2.0, 0.3, 3


@pytest.fixture
def preflow():
    return qamx.PReFlow(
        PARTS,
        inverse_temperature=TAU,
        refinement_scale=DELTA,
        proposals=PROPOSALS,
        key=jax.random.key(3),
    )


def refined(policy, s, proposal, noise):
    """The action clip(a + delta y_1), and y_1."""
    context = np.concatenate([s, proposal], axis=-1)
    y = euler(exact(policy.refinement.mlp), context, noise)
    return clip(proposal + DELTA * y), y


def test_preflow_update(preflow):
    policy, batch = preflow.policy, arrays_of(BATCHED)
    behaviour = flow_of(preflow)
    s, noise = batch["observations"], normal((BATCH, DIM))
    after, _ = refined(
        policy, batch["next_observations"],
        clip(euler(behaviour, batch["next_observations"], noise)), noise,
    )  # fmt: skip
    bootstrap = pessimistic(values(preflow.critic.target, batch["next_observations"], after))
    critic_loss = td(preflow.critic.online, batch, bootstrap)

    proposal = clip(euler(behaviour, s, noise))
    _, end = refined(policy, s, proposal, noise)
    t = uniform((BATCH,))[:, None]
    y_t = t * end + (1.0 - t) * noise
    slope = row_gradient(
        lambda a: values(preflow.critic.target, s, clip(a)).mean(0), proposal + DELTA * end
    )
    d = t**2 + (1.0 - t) ** 2
    target = (2.0 * t - 1.0) / d * y_t + TAU * DELTA * (1.0 - t) / d * slope

    def regression(refinement):
        context = np.concatenate([s, proposal], axis=-1)
        error = velocity(refinement, context, y_t, t[:, 0]) - target
        return np.mean(np.sum(error**2, axis=-1))

    refinement = exact(policy.refinement.mlp)
    loss, metrics, gradients = updated_parts(preflow)
    assert metrics["CriticMetrics.loss"] == pytest.approx(critic_loss, rel=1e-5)
    assert metrics["BehaviourFlowMetrics.loss"] == pytest.approx(matching(behaviour, batch), 1e-5)
    assert metrics["RefinementMetrics.loss"] == pytest.approx(regression(refinement), rel=1e-5)
    boundary = np.abs(TAU * DELTA * slope)
    assert metrics["RefinementMetrics.boundary_mean"] == pytest.approx(boundary.mean(), rel=1e-3)
    assert metrics["RefinementMetrics.boundary_max"] == pytest.approx(boundary.max(), rel=1e-3)
    reach = np.sqrt(np.mean(end**2))
    assert metrics["RefinementMetrics.size"] == pytest.approx(reach, rel=1e-5)
    whole = critic_loss + matching(behaviour, batch) + regression(refinement)
    assert loss == pytest.approx(whole, rel=1e-5)
    # No gradient reaches the refinement through y_1, or the behaviour through the proposal.
    found = gradients.policy.refinement.mlp.trunk.layers[0].kernel
    behind = gradients.policy.base.velocity.mlp.trunk.layers[1].kernel
    for index in [(0, 0), (3, 2), (6, 5), (7, 1)]:
        expected = gradient_entry(regression, refinement, lambda n: n.trunk.layers[0].kernel, index)
        assert float(found[index]) == pytest.approx(expected, rel=2e-3, abs=1e-5)
    for index in [(0, 0), (5, 4)]:
        expected = gradient_entry(
            lambda n: matching(n, batch), behaviour, lambda n: n.trunk.layers[1].kernel, index
        )
        assert float(behind[index]) == pytest.approx(expected, rel=2e-3, abs=1e-5)


def test_preflow_action(preflow):
    s = arrays_of(BATCHED)["observations"]
    repeated = np.repeat(s, PROPOSALS, axis=0)
    drawn = euler(flow_of(preflow), repeated, normal((BATCH * PROPOSALS, DIM)))
    drawn = clip(drawn)
    worth = values(preflow.critic.online, repeated, drawn).min(0).reshape(BATCH, PROPOSALS)
    chosen = drawn.reshape(BATCH, PROPOSALS, DIM)[np.arange(BATCH), worth.argmax(1)]
    expected, _ = refined(preflow.policy, s, chosen, normal((BATCH, DIM)))
    np.testing.assert_allclose(preflow.act(BATCHED.observations, KEY), expected, atol=1e-5)


# --- QGF (arXiv 2606.11087) ---

EXPECTILE, STRENGTH = 0.8, 0.7


def make_qgf(guidance: Literal["plain", "jacobian"] = "plain"):
    return qamx.QGF(
        PARTS,
        expectile=EXPECTILE,
        guidance_strength=STRENGTH,
        exploration_strength=0.2,
        guidance=guidance,
        key=jax.random.key(5),
    )


def test_qgf_update():
    agent, batch = make_qgf(), arrays_of(BATCHED)
    value, behaviour = exact(agent.critic.value), flow_of(agent)
    s = batch["observations"]
    critic_loss = td(agent.critic.online, batch, mlp(value, batch["next_observations"])[:, 0])
    goal = pessimistic(values(agent.critic.target, s, batch["actions"]))

    def expectile(value):
        error = goal - mlp(value, s)[:, 0]
        return np.mean(np.where(error < 0, 1.0 - EXPECTILE, EXPECTILE) * error**2)

    loss, metrics, gradients = updated_parts(agent)
    assert metrics["CriticMetrics.loss"] == pytest.approx(critic_loss, rel=1e-5)
    assert metrics["StateValueMetrics.loss"] == pytest.approx(expectile(value), rel=1e-5)
    assert metrics["BehaviourFlowMetrics.loss"] == pytest.approx(matching(behaviour, batch), 1e-5)
    whole = critic_loss + expectile(value) + matching(behaviour, batch)
    assert loss == pytest.approx(whole, rel=1e-5)
    found = gradients.critic.value.trunk.layers[0].kernel
    for index in [(0, 0), (2, 5)]:
        expected = gradient_entry(expectile, value, lambda n: n.trunk.layers[0].kernel, index)
        assert float(found[index]) == pytest.approx(expected, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("guidance", ["plain", "jacobian"])
@pytest.mark.parametrize(("role", "strength"), [("evaluate", STRENGTH), ("collect", 0.2)])
def test_qgf_action(guidance, role, strength):
    agent = make_qgf(guidance)
    s, x = arrays_of(BATCHED)["observations"], normal((BATCH, DIM))
    field = flow_of(agent)

    def value(a):
        return pessimistic(values(agent.critic.target, s, a))

    for i in range(STEPS):
        t = i / STEPS

        def predicted(x, t=t):
            return clip(x + (1.0 - t) * velocity(field, s, x, t))

        if guidance == "plain":
            slope = row_gradient(value, predicted(x))
        else:
            slope = row_gradient(lambda x, f=predicted: value(f(x)), x)
        x = x + (velocity(field, s, x, t) + strength * slope) / STEPS
    act = {"evaluate": agent.act_in_evaluation, "collect": agent.act}[role]
    np.testing.assert_allclose(act(BATCHED.observations, KEY), clip(x), atol=2e-4)


def test_a_strength_is_the_samplers():
    agent = make_qgf()
    other = agent.policy.with_strength(0.3)
    assert (agent.policy.strength, other.strength) == (STRENGTH, 0.3)
    assert other.exploration_strength == 0.2
    # Without guidance the policy is the behaviour flow, through policies built on it, too.
    still = qamx.Agent(agent.critic, PARTS.edit(agent.policy, 1e-6, 0.5, KEY).with_strength(0.0))
    assert still.policy.strength == 0.0
    expected = agent.act_as_behaviour(BATCHED.observations, KEY)
    np.testing.assert_allclose(
        still.act_in_evaluation(BATCHED.observations, KEY), expected, atol=1e-5
    )
    cgql = qamx.CGQL(PARTS, inverse_temperature=2.0, guidance_scale=0.1, key=KEY)
    assert cgql.policy.with_strength(0.4).guidance_scale == 0.4
    assert cgql.policy.with_strength(0.4).inverse_temperature == 2.0
    fql = qamx.FQL(PARTS, bc_weight=1.0, key=KEY)
    assert fql.policy.strength is None
    with pytest.raises(ValueError, match="samples without a strength"):
        fql.policy.with_strength(0.1)
