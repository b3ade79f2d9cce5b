"""The lean adjoint and the adjoint-matching objective."""

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Scalar
from qamx.flow.integrator import Integrator
from qamx.nn import AbstractVelocityField


def lean_adjoint_term(
    base: AbstractVelocityField,
    observation: Float[Array, "batch obs"],
    states: Float[Array, "steps batch dim"],
    step_size: float,
) -> diffrax.ODETerm:
    r"""The lean adjoint along a stored path, as a Diffrax term.

    $$dg/dt = -\nabla_x[2v_{base}(s, x, t) - x/t]^\top g$$

    `states[i]` is the state at the start of the step from t_i to t_{i+1}.
    """
    last = states.shape[0] - 1

    def field(t, adjoint, args):
        # The backward step that begins at t belongs to the forward step that ended there; a
        # thousandth of a step keeps rounding from moving t across the grid.
        index = jnp.clip(jnp.ceil(t / step_size - 1e-3).astype(jnp.int32) - 1, 0, last)
        # Stages of higher-order solvers reach t = 0, where 1/t is not defined: hold it at h.
        floor = jnp.maximum(t, step_size)

        def drift(x):
            return 2.0 * base(observation, x, t) - x / floor

        _, pullback = jax.vjp(drift, states[index])
        return -pullback(adjoint)[0]

    return diffrax.ODETerm(field)


def lean_adjoint(
    base: AbstractVelocityField,
    observation: Float[Array, "batch obs"],
    states: Float[Array, "steps batch dim"],
    boundary: Float[Array, "batch dim"],
    integrator: Integrator,
) -> Float[Array, "steps batch dim"]:
    r"""Propagates the gradient at the end of a path back to every state by the base flow alone.

    $$g_t = g_{t+h} + h\,\nabla_{x_t}\Big[2v_{base}(s, x_t, t+h) - \frac{x_t}{t+h}\Big]^\top
      g_{t+h}$$

    **Arguments:** `states` are x_0, ..., x_{1-h}; `boundary` is g_1, the gradient of the terminal
    cost (minus the reward) at x_1.

    **Returns:** g_0, ..., g_{1-h}.

    **Source:** Domingo-Enrich et al., arXiv 2409.08861, eq. 38-39.
    """
    term = lean_adjoint_term(base, observation, states, integrator.step_size)
    backward = integrator.path(term, integrator.times[::-1], boundary)
    return backward[:0:-1]


def gaussian_adjoint_target(
    x_t: Float[Array, "batch dim"],
    boundary: Float[Array, "batch dim"],
    t: Float[Array, " batch"],
) -> Float[Array, "batch dim"]:
    r"""The velocity that adjoint matching regresses to where the base generates N(0, I).

    The base's velocity is linear, \(v_{base}=\frac{2t-1}dx\) with \(d=t^2+(1-t)^2\). The lean
    adjoint is then \(g_t=\frac tdg_1\) on every path, and

    $$v_{base}(x_t, t)-\frac{\sigma_t^2}2g_t=\frac{(2t-1)\,x_t-(1-t)\,g_1}d,
      \qquad\sigma_t^2=\frac{2(1-t)}t$$

    (in continuous time: no grid, no shift).

    **Arguments:** `x_t` is a point on the line from noise to the end of a path, `boundary` the
    gradient g_1 of the terminal cost (minus the reward) at that end.

    **Source:** Ha, Lee and Park, arXiv 2609.36812; `docs/method.md` derives it.
    """
    t = t[:, None]
    return ((2.0 * t - 1.0) * x_t - (1.0 - t) * boundary) / (t**2 + (1.0 - t) ** 2)


def velocity_change(
    velocity: AbstractVelocityField,
    base: AbstractVelocityField,
    observation: Float[Array, "batch obs"],
    states: Float[Array, "steps batch dim"],
    times: Float[Array, " steps"],
) -> Float[Array, "steps batch dim"]:
    """v - v_base at the states x_t of a path."""
    t = times[:, None]
    observation = jnp.broadcast_to(observation, (*states.shape[:-1], observation.shape[-1]))
    return velocity(observation, states, t) - base(observation, states, t)


def adjoint_matching_loss(
    change: Float[Array, "steps batch dim"],
    adjoints: Float[Array, "steps batch dim"],
    sigma: Float[Array, " steps"],
) -> Scalar:
    r"""Regresses the control of the fine-tuned flow onto the lean adjoint.

    $$\mathbb{E}\sum_t\Big\lVert\frac{2}{\sigma_t}\big(v(s, x_t, t) - v_{base}(s, x_t, t)\big)
      + \sigma_t g_t\Big\rVert^2$$

    Its only critical point generates the distribution proportional to
    \(\pi_{base}(x)\exp(r(x))\) when the boundary of g is \(-\nabla r\).

    **Arguments:** `change` is v - v_base at the states of a path (`velocity_change`), `adjoints`
    their g_t. States and adjoints are data: pass them without gradient.

    **Source:** Domingo-Enrich et al., arXiv 2409.08861, eq. 37; Li and Levine, arXiv 2601.14234.
    """
    return jnp.mean(jnp.sum(matching_residuals(change, adjoints, sigma), axis=0))


def matching_residuals(
    change: Float[Array, "steps batch dim"],
    adjoints: Float[Array, "steps batch dim"],
    sigma: Float[Array, " steps"],
) -> Float[Array, "steps batch"]:
    """The terms of `adjoint_matching_loss` for each step and path."""
    sigma = sigma[:, None, None]
    return jnp.sum((2.0 / sigma * change + sigma * adjoints) ** 2, axis=-1)


def path_kl(
    change: Float[Array, "steps batch dim"], sigma: Float[Array, " steps"], step_size: float
) -> Scalar:
    r"""The KL divergence of the fine-tuned SDE's paths from the base's (Girsanov).

    $$\mathbb E\sum_t\tfrac{2h}{\sigma_t^2}\lVert v-v_{base}\rVert^2$$

    **Source:** Domingo-Enrich et al., arXiv 2409.08861, eq. 13; Dong et al., arXiv 2605.27079.
    """
    return jnp.mean(jnp.sum(path_costs(change, sigma, step_size), axis=0))


def path_costs(
    change: Float[Array, "steps batch dim"], sigma: Float[Array, " steps"], step_size: float
) -> Float[Array, "steps batch"]:
    """The terms of `path_kl` for each step and path, in nats."""
    weight = 2.0 * step_size / sigma[:, None, None] ** 2
    return jnp.sum(weight * change**2, axis=-1)
