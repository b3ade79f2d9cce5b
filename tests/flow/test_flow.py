"""The flow layer against closed forms, and the solvers against the orders Diffrax promises."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qamx._utils.backend import compiling_for
from qamx.flow import (
    GridIncrements,
    Integrator,
    MemorylessSchedule,
    adjoint_matching_loss,
    flow_matching_loss,
    interpolate,
    lean_adjoint,
    memoryless_terms,
    ode_term,
    path_kl,
    sample_memoryless_sde,
    sample_ode,
    velocity_change,
)
from qamx.nn import AbstractVelocityField, VelocityField
from studies.mixture import Mixture, MixtureVelocity

THREE_MODES = Mixture(
    [0.5, 0.3, 0.2],
    [[0.5, 0.5], [-0.5, 0.3], [0.0, -0.6]],
    [np.diag([0.01, 0.02]), [[0.02, 0.01], [0.01, 0.02]], np.diag([0.02, 0.01])],
)


class LinearVelocity(AbstractVelocityField):
    """v(x) = A x."""

    matrix: jax.Array

    def __call__(self, observation, x, t):
        return x @ self.matrix.T


A = jnp.array([[-0.7, 0.4], [0.2, -0.3]])
OBSERVATION = jnp.zeros((3, 1))
POINTS = jnp.array([[0.3, -0.2], [1.0, 0.5], [-0.4, 0.8]])


def network(key=0, hidden=(8, 8)):
    return VelocityField(1, 2, hidden, key=jax.random.key(key))


# --- interpolation and flow matching ---


def test_interpolant_ends_at_noise_and_data():
    x, velocity = interpolate(POINTS, -POINTS, jnp.array([0.0, 1.0, 0.25]))
    expected = jnp.stack([POINTS[0], -POINTS[1], 0.5 * POINTS[2]])
    np.testing.assert_allclose(x, expected, atol=1e-7)
    np.testing.assert_allclose(velocity, -2 * POINTS, atol=1e-7)


def test_flow_matching_loss_by_hand():
    velocity = LinearVelocity(jnp.zeros((2, 2)))
    data, noise = POINTS, jnp.zeros_like(POINTS)
    weight = jnp.array([1.0, 0.0, 1.0])
    loss = flow_matching_loss(velocity, OBSERVATION, data, noise, jnp.full(3, 0.5), weight)
    rows = np.mean(np.asarray(POINTS) ** 2, axis=1)
    assert loss == pytest.approx((rows[0] + rows[2]) / 3, rel=1e-6)


# --- the ODE ---


def test_euler_is_the_specified_recursion():
    velocity, x = network(), POINTS
    for i in range(7):
        x = x + velocity(OBSERVATION, x, jnp.asarray(i / 7)) / 7
    sampled = sample_ode(velocity, OBSERVATION, POINTS, Integrator(7))
    np.testing.assert_allclose(sampled, x, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("solver", "order"), [(diffrax.Euler(), 1), (diffrax.Heun(), 2), (diffrax.Bosh3(), 3)]
)
def test_ode_converges_at_the_solver_s_order(solver, order):
    velocity = LinearVelocity(3 * A)
    exact = POINTS @ jax.scipy.linalg.expm(3 * A).T
    errors = []
    for steps in (8, 16, 32):
        sampled = sample_ode(velocity, OBSERVATION, POINTS, Integrator(steps, solver))
        errors.append(float(jnp.max(jnp.abs(sampled - exact))))
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(orders, order, atol=0.35)


@pytest.mark.parametrize("solver", [diffrax.Euler(), diffrax.Heun(), diffrax.Tsit5()])
def test_stepping_by_hand_agrees_with_diffeqsolve(solver):
    velocity, integrator = network(), Integrator(10, solver)
    solution = diffrax.diffeqsolve(
        ode_term(velocity, OBSERVATION),
        solver,
        t0=0.0,
        t1=1.0,
        dt0=None,
        y0=POINTS,
        stepsize_controller=diffrax.StepTo(ts=integrator.times),
        adjoint=diffrax.ForwardMode(),
    )
    assert solution.ys is not None
    ours = sample_ode(velocity, OBSERVATION, POINTS, integrator)
    np.testing.assert_allclose(ours, solution.ys[-1], rtol=1e-5, atol=1e-6)


# --- the memoryless SDE ---


def test_sde_is_the_specified_recursion():
    steps, h = 5, 1 / 5
    velocity, base = network(0), network(1)
    z = jax.random.normal(jax.random.key(2), (steps - 1, 3, 2))
    x, expected = POINTS, [POINTS]
    for i in range(steps - 1):
        t = i / steps
        sigma = np.sqrt(2 * (1 - t + h) / (t + h))
        drift = 2 * velocity(OBSERVATION, x, jnp.asarray(t)) - x / (t + h)
        x = x + h * drift + np.sqrt(h) * sigma * z[i]
        expected.append(x)
    expected.append(x + h * base(OBSERVATION, x, jnp.asarray(1 - h)))
    path = sample_memoryless_sde(velocity, base, OBSERVATION, POINTS, z, Integrator(steps))
    np.testing.assert_allclose(path, jnp.stack(expected), rtol=1e-4, atol=1e-5)


def test_sde_of_one_step_is_the_ode_step():
    velocity, base = network(0), network(1)
    no_noise = jnp.zeros((0, 3, 2))
    path = sample_memoryless_sde(velocity, base, OBSERVATION, POINTS, no_noise, Integrator(1))
    end = POINTS + base(OBSERVATION, POINTS, jnp.asarray(0.0))
    np.testing.assert_allclose(path, jnp.stack([POINTS, end]), rtol=1e-6)


@pytest.mark.parametrize("solver", [diffrax.Euler(), diffrax.Heun()])
def test_sde_by_hand_agrees_with_diffeqsolve(solver):
    steps, h = 10, 0.1
    velocity, integrator = network(), Integrator(steps, solver)
    z = jax.random.normal(jax.random.key(2), (steps - 1, 3, 2))
    terms = memoryless_terms(
        velocity, OBSERVATION, MemorylessSchedule(h), GridIncrements(np.sqrt(h) * z, h)
    )
    times = integrator.times[:-1]
    solution = diffrax.diffeqsolve(
        terms,
        solver,
        t0=times[0],
        t1=times[-1],
        dt0=None,
        y0=POINTS,
        stepsize_controller=diffrax.StepTo(ts=times),
        saveat=diffrax.SaveAt(steps=True, t0=True),
        max_steps=steps - 1,
        adjoint=diffrax.ForwardMode(),
    )
    assert solution.ys is not None
    path = sample_memoryless_sde(velocity, velocity, OBSERVATION, POINTS, z, integrator)
    np.testing.assert_allclose(path[:-1], solution.ys, rtol=1e-4, atol=1e-5)


def test_sde_converges_strongly_at_order_one():
    # Additive noise: Euler-Maruyama has strong order 1. The memoryless drift is singular at t = 0,
    # so measure on [1/4, 3/4], where h enters as a shift of size h: still first order.
    fine = 512
    dw = jax.random.normal(jax.random.key(0), (fine // 2, 256, 2)) / np.sqrt(fine)
    observation, start = jnp.zeros((256, 1)), 0.3 * jax.random.normal(jax.random.key(1), (256, 2))
    velocity = LinearVelocity(A)

    def end(steps):
        group = fine // steps
        increments = dw.reshape(steps // 2, group, 256, 2).sum(axis=1)
        padded = jnp.concatenate([jnp.zeros((steps // 4, 256, 2)), increments])
        terms = memoryless_terms(
            velocity, observation, MemorylessSchedule(1 / steps), GridIncrements(padded, 1 / steps)
        )
        integrator = Integrator(steps)
        return integrator.end(terms, integrator.times[steps // 4 : 3 * steps // 4 + 1], start)

    exact = end(fine)
    errors = [float(jnp.mean(jnp.abs(end(steps) - exact))) for steps in (8, 16, 32)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(orders, 1.0, atol=0.3)


def test_sde_keeps_the_marginals_of_the_ode():
    velocity, steps, n = MixtureVelocity(THREE_MODES), 200, 6000
    keys = jax.random.split(jax.random.key(0), 2)
    observation = jnp.zeros((n, 1))
    noise = jax.random.normal(keys[0], (n, 2))
    z = jax.random.normal(keys[1], (steps - 1, n, 2))
    path = jax.jit(
        lambda: sample_memoryless_sde(velocity, velocity, observation, noise, z, Integrator(steps))
    )()
    # At t the ODE has the law of (1-t) x_0 + t x_1.
    rng = np.random.default_rng(0)
    data, _ = THREE_MODES.sample(rng, 100_000)
    for i in (steps // 4, steps // 2, steps):
        t = i / steps
        exact = (1 - t) * rng.standard_normal(data.shape) + t * data
        np.testing.assert_allclose(path[i].mean(0), exact.mean(0), atol=0.05)
        np.testing.assert_allclose(np.cov(path[i].T), np.cov(exact.T), atol=0.05)
    labels = THREE_MODES.nearest(np.asarray(path[-1]))
    np.testing.assert_allclose(np.bincount(labels) / n, THREE_MODES.weights, atol=0.03)


def test_sde_forgets_its_start():
    velocity, steps, n = MixtureVelocity(THREE_MODES), 200, 4000
    keys = jax.random.split(jax.random.key(0), 2)
    noise = jax.random.normal(keys[0], (n, 2))
    z = jax.random.normal(keys[1], (steps - 1, n, 2))
    path = jax.jit(
        lambda: sample_memoryless_sde(
            velocity, velocity, jnp.zeros((n, 1)), noise, z, Integrator(steps)
        )
    )()
    correlation = np.corrcoef(np.concatenate([path[0], path[-1]], axis=1).T)[:2, 2:]
    assert np.abs(correlation).max() < 0.06
    ode = sample_ode(velocity, jnp.zeros((n, 1)), noise, Integrator(50))
    remembered = np.corrcoef(np.concatenate([noise, ode], axis=1).T)[:2, 2:]
    assert np.abs(remembered).max() > 0.5


# --- the lean adjoint ---


def test_lean_adjoint_is_the_specified_product():
    steps, h = 6, 1 / 6
    states = jax.random.normal(jax.random.key(0), (steps, 3, 2))
    boundary = jax.random.normal(jax.random.key(1), (3, 2))
    adjoints = lean_adjoint(LinearVelocity(A), OBSERVATION, states, boundary, Integrator(steps))
    g, expected = boundary, []
    for i in reversed(range(steps)):
        jacobian = 2 * A - jnp.eye(2) / (i / steps + h)
        g = g + h * g @ jacobian
        expected.insert(0, g)
    np.testing.assert_allclose(adjoints, jnp.stack(expected), rtol=1e-4, atol=1e-5)


def test_lean_adjoint_uses_each_step_s_own_state():
    steps, base = 5, network()
    states = jax.random.normal(jax.random.key(0), (steps, 3, 2))
    boundary = jax.random.normal(jax.random.key(1), (3, 2))
    adjoints = lean_adjoint(base, OBSERVATION, states, boundary, Integrator(steps))
    g = boundary
    for i in reversed(range(steps)):
        t = jnp.asarray((i + 1) / steps)

        def drift(x, t=t):
            return 2 * base(OBSERVATION, x, t) - x / t

        _, pullback = jax.vjp(drift, states[i])
        g = g + pullback(g)[0] / steps
        np.testing.assert_allclose(adjoints[i], g, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("solver", "order"), [(diffrax.Euler(), 1), (diffrax.Heun(), 2)])
def test_lean_adjoint_of_a_linear_field_converges_to_its_closed_form(solver, order):
    # dg/dt = -(2A - I/t)^T g from g(1): g(t) = t exp(2 A^T (1 - t)) g(1).
    boundary, t = POINTS, 0.5
    exact = t * boundary @ jax.scipy.linalg.expm(2 * A * (1 - t))
    errors = []
    for steps in (8, 16, 32):
        states = jnp.zeros((steps, 3, 2))
        integrator = Integrator(steps, solver)
        adjoints = lean_adjoint(LinearVelocity(A), OBSERVATION, states, boundary, integrator)
        errors.append(float(jnp.max(jnp.abs(adjoints[steps // 2] - exact))))
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(orders, order, atol=0.3)


def test_adjoint_matching_loss_by_hand():
    states, adjoints = jnp.zeros((2, 3, 2)), jnp.ones((2, 3, 2))
    times, sigma = jnp.array([0.0, 0.5]), jnp.array([2.0, 1.0])
    velocity, base = LinearVelocity(A), LinearVelocity(2 * A)
    change = velocity_change(velocity, base, OBSERVATION, states, times)
    at_zero = adjoint_matching_loss(change, adjoints, sigma)
    assert float(at_zero) == pytest.approx(2 * (2.0**2 + 1.0**2), rel=1e-6)
    # With v - v_base = -sigma^2 g / 2 the loss vanishes.
    x = jnp.broadcast_to(POINTS, (2, 3, 2))
    solving = 2.0 / sigma[:, None, None] ** 2 * (x @ A.T)
    change = velocity_change(velocity, base, OBSERVATION, x, times)
    loss = adjoint_matching_loss(change, solving, sigma)
    assert float(loss) == pytest.approx(0.0, abs=1e-9)


def test_path_kl_by_hand():
    change, sigma = jnp.full((2, 3, 2), 3.0), jnp.array([2.0, 1.0])
    # 2 h / sigma^2 times 9, over two entries, at each of the two times.
    expected = 2 * 0.5 * (9 * 2 / 4 + 9 * 2)
    assert float(path_kl(change, sigma, 0.5)) == pytest.approx(expected)


def test_an_integrator_refuses_no_steps():
    with pytest.raises(ValueError, match="at least one step"):
        Integrator(0)


@pytest.mark.parametrize("solver", [diffrax.Euler(), diffrax.Tsit5()])
def test_a_gpu_s_program_has_no_loops_and_the_same_path(solver):
    velocity, integrator = network(), Integrator(5, solver)

    def program():
        return jax.jit(lambda noise: sample_ode(velocity, OBSERVATION, noise, integrator))

    expected = program().lower(POINTS)
    with compiling_for("cuda"):
        unrolled = program().lower(POINTS)
    assert "while" in expected.as_text()
    if isinstance(solver, diffrax.Euler):  # others have a loop over their stages
        assert "while" not in unrolled.as_text()
    np.testing.assert_allclose(
        unrolled.compile()(POINTS), expected.compile()(POINTS), rtol=1e-5, atol=1e-6
    )
