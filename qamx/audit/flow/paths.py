"""What the paths of a fine-tuned flow show: what it costs in nats, and the adjoints along them."""

import functools

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Key
from qamx.data.transitions import AnyArray
from qamx.flow import matching_residuals, path_costs
from qamx.nn import AbstractCritic
from qamx.policies import AbstractFineTunedFlow, AdjointMatchedFlow, BackpropagatedFlow


class Adjoints(eqx.Module):
    """The signal of adjoint matching, of the objective at price 1.

    - `norms`: |g_t| at t = 0, h, ..., 1.
    - `targets`: |sigma_t g_t|^2, the size of what is regressed onto at t = 0, ..., 1 - h.
    - `residuals`: what is left of it.
    - `blocked`: the share of entries in which the critic's gradient is 0, as it is where the end
      of a path lies outside the box.
    """

    norms: Float[AnyArray, "times rows"]
    targets: Float[AnyArray, "steps rows"]
    residuals: Float[AnyArray, "steps rows"]
    blocked: Float[AnyArray, " rows"]


class Paths(eqx.Module):
    """Paths of the memoryless SDE of a fine-tuned flow.

    `costs` is what each step adds to the path KL, in nats; `inverse_temperature` the tau for
    which the flow is the solution, in units of such nats; `adjoints` None where the method has
    no use for them.
    """

    costs: Float[AnyArray, "steps rows"]
    inverse_temperature: Float[AnyArray, ""]
    adjoints: Adjoints | None


@functools.singledispatch
def follow(
    policy: AbstractFineTunedFlow, critic: AbstractCritic, observation: Array, key: Key
) -> Paths | None:
    """Draws a path for each observation; None for a flow whose objective is not known here."""
    return None


@follow.register
def _(policy: AdjointMatchedFlow, critic: AbstractCritic, observation: Array, key: Key) -> Paths:
    paths = policy.draw_paths(critic, observation, key)
    price = policy.inverse_temperature.control_price()
    adjoints, boundary = paths.adjoints / price, paths.boundary / price
    norms = jnp.linalg.norm(jnp.concatenate([adjoints, boundary[None]]), axis=-1)
    return Paths(
        path_costs(paths.change, paths.sigma, policy.integrator.step_size),
        policy.inverse_temperature.value(),
        Adjoints(
            norms,
            (paths.sigma[:, None] * norms[:-1]) ** 2,
            matching_residuals(paths.change, adjoints, paths.sigma),
            jnp.mean(boundary == 0.0, axis=-1),
        ),
    )


@follow.register
def _(policy: BackpropagatedFlow, critic: AbstractCritic, observation: Array, key: Key) -> Paths:
    states = policy.sample_path(policy.velocity, observation, key)
    change, sigma = policy.change_along(observation, states[:-1])
    h = policy.integrator.step_size
    # Its cost of control has no factor h: divided by 1/h, it is the path KL less h tau Q.
    return Paths(path_costs(change, sigma, h), jnp.asarray(h * policy.inverse_temperature), None)
