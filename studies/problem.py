"""The exact-tilt problem: a behaviour and a critic whose tilted laws are known.

One observation, actions in the plane. The behaviour is a mixture of three Gaussians and Q is
quadratic, so pi_b exp(beta Q) is a mixture for every beta. Q is largest between the two smaller
modes, where there is no data.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qamx._types import Batch, Key, Metrics, Scalar
from qamx.flow import Integrator
from qamx.nn import AbstractCritic, AbstractVelocityField, FlowTimeCritic
from qamx.policies import BehaviourFlow, TargetBehaviourFlow
from qamx.rl import AbstractCriticLearning, Fixed, WithTarget
from studies.mixture import Mixture, MixtureVelocity, QuadraticCritic

DIM = 2
# Well inside [-1, 1], where the critic's argument is clipped.
BASE = Mixture(
    [0.5, 0.3, 0.2],
    [[0.4, 0.4], [-0.45, 0.2], [0.05, -0.5]],
    [np.diag([0.012, 0.024]), [[0.02, 0.008], [0.008, 0.02]], np.diag([0.024, 0.012])],
)
BEST = np.array([-0.5, -0.45])
"""The action with the largest Q."""
QUADRATIC = np.array([[-1.6, 0.3], [0.3, -1.6]])
LINEAR = -QUADRATIC @ BEST
BETAS = (0.3, 1.0, 3.0, 10.0)
"""The inverse temperatures of the tilted laws."""


def tilted(beta: float) -> Mixture:
    """The law proportional to pi_b exp(beta Q)."""
    return BASE.tilted(beta * LINEAR, beta * QUADRATIC)


def quadratic_critic() -> QuadraticCritic:
    """Q as a critic of clean actions."""
    return QuadraticCritic(jnp.asarray(LINEAR, jnp.float32), jnp.asarray(QUADRATIC, jnp.float32))


def mean_q(law: Mixture) -> float:
    """E Q under a mixture."""
    second = law.covariances + np.einsum("ni,nj->nij", law.means, law.means)
    values = law.means @ LINEAR + 0.5 * np.einsum("nij,ij->n", second, QUADRATIC)
    return float(law.weights @ values)


def divergence(beta: float) -> float:
    """KL(tilted(beta) || pi_b) in nats: beta E Q less the log of the normaliser."""
    return beta * mean_q(tilted(beta)) - BASE.log_normaliser(beta * LINEAR, beta * QUADRATIC)


def draw(law: Mixture, key: Key, n: int) -> Float[Array, "n dim"]:
    """Exact samples of a mixture."""
    label_key, noise_key = jax.random.split(key)
    labels = jax.random.choice(label_key, len(law.weights), (n,), p=jnp.asarray(law.weights))
    factors = jnp.asarray(np.linalg.cholesky(law.covariances), jnp.float32)[labels]
    noise = jax.random.normal(noise_key, (n, DIM))
    return jnp.asarray(law.means, jnp.float32)[labels] + jnp.einsum("nij,nj->ni", factors, noise)


def draw_batch(key: Key, n: int) -> Batch:
    """A batch of fresh data: the behaviour's actions at the one observation."""
    ones, observations = jnp.ones(n), jnp.zeros((n, 1))
    return Batch(observations, draw(BASE, key, n), 0.0 * ones, ones, ones, observations)


class KnownVelocity(AbstractVelocityField):
    """The exact velocity of a mixture, never trained."""

    exact: Fixed[MixtureVelocity]

    def __init__(self, law: Mixture):
        self.exact = Fixed(MixtureVelocity(law))

    def __call__(
        self,
        observation: Float[Array, "*batch obs"],
        x: Float[Array, "*batch dim"],
        t: Float[Array, "*#batch"],
    ) -> Float[Array, "*batch dim"]:
        return self.exact.value(observation, x, t)


def behaviour_flow(steps: int) -> BehaviourFlow:
    """The behaviour flow without an error but its steps'."""
    return BehaviourFlow(KnownVelocity(BASE), Integrator(steps), DIM)


def slow_behaviour_flow(steps: int) -> TargetBehaviourFlow:
    """The same, with the slow copy that some methods refine."""
    return TargetBehaviourFlow(WithTarget(behaviour_flow(steps), 0.005))


class KnownCritic(AbstractCriticLearning[Any]):
    """A critic that has nothing to learn."""

    critic: WithTarget[AbstractCritic]

    def loss(self, batch: Batch, policy: Any, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        return jnp.zeros(()), ()


def known_critic() -> KnownCritic:
    """Q itself."""
    return KnownCritic(WithTarget(quadratic_critic(), 0.005))


def on_flow_time(values: Any) -> KnownCritic:
    """A critic of noised actions; `values` maps (s, [x, t]) to the values of an ensemble."""
    return KnownCritic(WithTarget(FlowTimeCritic(values), 0.005))
