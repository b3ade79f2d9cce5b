"""PReFlow's claim: for each proposal a, refinements have the law exp(tau Q(a + D) - |D|^2 / 2 c^2).

Its target is compared with the lean adjoint of the base N(0, I), and trained refinements with laws
that are known: a Gaussian for a quadratic Q, and a density by quadrature for a Q with two modes.
"""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import ndtr

from qamx import Batch
from qamx.flow import Integrator, gaussian_adjoint_target, lean_adjoint
from qamx.nn import AbstractCritic, AbstractVelocityField, Networks
from qamx.policies import BehaviourFlow, RefinementFlow
from qamx.rl import WithTarget
from studies.mixture import MixtureVelocity, QuadraticCritic
from studies.problem import BASE, KnownCritic

pytestmark = pytest.mark.usefixtures("optimised")

TAU, BATCH, UPDATES = 3.0, 256, 4000
GRID = Integrator(10, diffrax.Heun())  # its error is small beside the tolerances
OBSERVATIONS = jnp.zeros((BATCH, 1))
PROPOSALS = np.array([[0.4, 0.4], [-0.45, 0.2], [0.05, -0.5]])


class GaussianBase(AbstractVelocityField):
    """The velocity whose flow generates N(0, I) from N(0, I) along straight lines."""

    def __call__(self, observation, x, t):
        t = jnp.broadcast_to(t, x.shape[:-1])[..., None]
        return (2.0 * t - 1.0) / (t**2 + (1.0 - t) ** 2) * x


def adjoint_error(steps):
    """The largest distance of the closed form from the lean adjoint on a grid."""
    keys = jax.random.split(jax.random.key(0))
    states = jax.random.normal(keys[0], (steps, 4, 2))
    boundary = jax.random.normal(keys[1], (4, 2))
    grid = Integrator(steps)
    adjoints = lean_adjoint(GaussianBase(), jnp.zeros((4, 1)), states, boundary, grid)
    t = grid.times[1:-1]
    sigma2 = (2.0 * (1.0 - t) / t)[:, None, None]
    base = jax.vmap(lambda x, t: GaussianBase()(jnp.zeros((0, 1)), x, t))(states[1:], t)
    expected = base - 0.5 * sigma2 * adjoints[1:]
    rows = jax.vmap(lambda x, t: gaussian_adjoint_target(x, boundary, jnp.full(4, t)))
    # Away from t = 0, where the grid's step is not small against t.
    difference = jnp.abs(rows(states[1:], t) - expected)[t >= 0.1]
    return float(difference.max())


def test_the_target_is_that_of_the_lean_adjoint_on_a_gaussian_base():
    # The grid's adjoint is of first order: the distance halves with the step.
    coarse, fine = adjoint_error(500), adjoint_error(1000)
    assert fine < 0.01
    assert coarse / fine == pytest.approx(2.0, rel=0.1)


def test_the_target_without_a_reward_is_the_velocity_of_the_reference():
    x = jax.random.normal(jax.random.key(0), (64, 3))
    t = jnp.linspace(0.0, 1.0, 64)
    np.testing.assert_allclose(
        gaussian_adjoint_target(x, jnp.zeros_like(x), t),
        GaussianBase()(jnp.zeros((0, 1)), x, t),
        rtol=1e-6,
    )


class TwoModes(AbstractCritic):
    """Q_k(s, a) = -16 (a_0^2 - 1/4)^2 - a_1^2 for two critics that differ by a constant."""

    def __call__(self, observation, action):
        value = -16.0 * (action[..., 0] ** 2 - 0.25) ** 2 - action[..., 1] ** 2
        return jnp.stack([value, value + 1.0])


def train(critic: AbstractCritic, scale: float) -> RefinementFlow:
    """The refinement of a mixture's proposals, trained by the policy's own loss."""
    base = BehaviourFlow(MixtureVelocity(BASE), Integrator(10), 2)
    start = Networks(1, 2, (64, 64), (8,), ensemble_size=2).refinement(jax.random.key(1))
    arrays, static = eqx.partition(start, eqx.is_array)
    known, ones = KnownCritic(WithTarget(critic)), jnp.ones(BATCH)
    batch = Batch(OBSERVATIONS, jnp.zeros((BATCH, 2)), ones, ones, ones, OBSERVATIONS)
    optimiser: Any = optax.adam(optax.cosine_decay_schedule(5e-3, UPDATES))

    def policy(arrays):
        refinement = eqx.combine(arrays, static)
        return RefinementFlow(base, refinement, GRID, TAU, scale)

    def step(carry, key):
        arrays, state = carry
        gradient = jax.grad(lambda a: policy(a).loss(known, batch, key)[0])(arrays)
        steps, state = optimiser.update(gradient, state)
        return (eqx.apply_updates(arrays, steps), state), None

    keys = jax.random.split(jax.random.key(2), UPDATES)
    (arrays, _), _ = jax.jit(lambda start: jax.lax.scan(step, start, keys))(
        (arrays, optimiser.init(arrays))
    )
    return policy(arrays)


def refinements(policy: RefinementFlow, proposal: np.ndarray) -> np.ndarray:
    """Draws of D for one proposal, without the clip of actions."""
    n = 20_000
    noise = jax.random.normal(jax.random.key(3), (n, 2))
    proposals = jnp.broadcast_to(jnp.asarray(proposal, jnp.float32), (n, 2))
    refine = eqx.filter_jit(lambda p: p._refine(jnp.zeros((n, 1)), proposals, noise))
    return policy.scale * np.asarray(refine(policy))


def test_refinements_have_the_law_of_a_quadratic_value():
    linear, quadratic = np.array([1.5, -1.0]), np.array([[-6.0, 2.0], [2.0, -3.0]])
    critic = QuadraticCritic(*(jnp.asarray(m, jnp.float32) for m in (linear, quadratic)))
    policy = train(critic, 0.2)
    # tau Q(a + D) - |D|^2 / 2 c^2 is quadratic in D: a Gaussian of this precision and mean.
    covariance = np.linalg.inv(np.eye(2) / 0.2**2 - TAU * quadratic)
    spread = np.sqrt(np.diag(covariance))
    # It is worth testing: narrower than the reference, correlated, and moved with the proposal.
    assert spread.max() < 0.9 * 0.2
    for proposal in PROPOSALS:
        mean = covariance @ (TAU * (linear + quadratic @ proposal))
        drawn = refinements(policy, proposal)
        np.testing.assert_array_less(np.abs(drawn.mean(0) - mean), 0.15 * spread)
        size = np.abs(covariance).max()
        np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.12 * size)


AXIS = np.linspace(-2.0, 2.0, 4001)


def two_mode_cdf(proposal: float, scale: float) -> np.ndarray:
    """The distribution function of D_0 on `AXIS`, by quadrature."""
    log = -16.0 * TAU * ((proposal + AXIS) ** 2 - 0.25) ** 2 - AXIS**2 / (2.0 * scale**2)
    density = np.exp(log - log.max())
    return np.cumsum(density) / density.sum()


def nearest_edit(cdf: np.ndarray) -> float:
    """The Kolmogorov distance of the nearest Gaussian or squashed Gaussian edit."""
    means, deviations = np.meshgrid(np.linspace(-1.0, 1.0, 41), np.linspace(0.05, 2.0, 40))
    found = []
    for reach in (0.5, 0.7, 1.0, 2.0, 100.0):  # at 100, tanh is linear
        inside = np.clip(AXIS / reach, -1.0 + 1e-12, 1.0 - 1e-12)
        unit = 1.0 if reach < 100.0 else reach
        standard = (unit * np.arctanh(inside) - means[..., None]) / deviations[..., None]
        found.append(np.abs(ndtr(standard) - cdf).max(axis=-1).min())
    return float(min(found))


def test_refinements_have_both_modes_where_no_gaussian_edit_does():
    scale = 0.5
    policy = train(TwoModes(), scale)
    for proposal in PROPOSALS:
        cdf = two_mode_cdf(proposal[0], scale)
        drawn = np.sort(refinements(policy, proposal)[:, 0])
        empirical = np.searchsorted(drawn, AXIS, side="right") / len(drawn)
        assert np.abs(empirical - cdf).max() < 0.07
        assert nearest_edit(cdf) > 0.1


def test_an_action_is_the_refined_best_of_the_proposals():
    critic = KnownCritic(WithTarget(TwoModes()))
    still = jax.tree.map(
        lambda leaf: jnp.zeros_like(leaf) if eqx.is_array(leaf) else leaf,
        Networks(1, 2, (8,), (8,), ensemble_size=2).refinement(jax.random.key(1)),
    )
    base = BehaviourFlow(MixtureVelocity(BASE), Integrator(10), 2)
    policy = RefinementFlow(base, still, Integrator(10), TAU, 0.5, proposals=16)
    key, observation = jax.random.key(4), jnp.zeros((8, 1))
    proposal_key, noise_key = jax.random.split(key)
    drawn = base.sample(critic, jnp.zeros((128, 1)), proposal_key).reshape(8, 16, 2)
    best = jnp.argmax(critic.online(observation, drawn)[0], axis=1)
    # A refinement that is still adds its noise alone.
    noise = jax.random.normal(noise_key, (8, 2))
    expected = jnp.clip(drawn[jnp.arange(8), best] + 0.5 * noise, -1.0, 1.0)
    np.testing.assert_allclose(policy.sample(critic, observation, key), expected, atol=1e-6)
    # The backup refines a single proposal: no critic is asked.
    single = policy.for_backup()
    expected = jnp.clip(base.sample(critic, observation, proposal_key) + 0.5 * noise, -1.0, 1.0)
    np.testing.assert_allclose(single.sample(critic, observation, key), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("scale", "tau", "proposals"), [(0.0, 1.0, 1), (0.1, 0.0, 1), (0.1, 1.0, 0)]
)
def test_what_cannot_be_refined_is_refused(scale, tau, proposals):
    base = BehaviourFlow(MixtureVelocity(BASE), Integrator(10), 2)
    with pytest.raises(ValueError, match="are positive"):
        RefinementFlow(base, MixtureVelocity(BASE), Integrator(10), tau, scale, proposals)
