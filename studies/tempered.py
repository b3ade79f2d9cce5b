"""The methods that are fine-tuned to a tilt and whose strength is an inverse temperature.

Where a method's own number is not beta, it is translated: a run's setting is beta, and `place`
writes what the method's equations make of it.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from qamx._types import Key
from qamx.flow import Integrator
from qamx.nn import MLP, AbstractVelocityField, Networks
from qamx.policies import (
    AdjointMatchedFlow,
    AdvantageWeightedFlow,
    BackpropagatedFlow,
    BehaviourFlow,
    FlowActor,
    RefinementFlow,
)
from qamx.rl import AdvantageLearning, Backup, WithTarget, data_value
from qamx.schedules import Constant, TrustRegion
from studies.mixture import MixtureVelocity
from studies.problem import (
    BASE,
    BETAS,
    DIM,
    behaviour_flow,
    divergence,
    mean_q,
    quadratic_critic,
    slow_behaviour_flow,
)
from studies.training import Run, Settings, Variant

WIDE = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Strengths of the methods whose best one need not be the one that they claim."""


def runs(betas: tuple[float, ...] = BETAS) -> tuple[Run, ...]:
    """A run for each beta."""
    return tuple(Run(f"beta {beta:g}", beta, beta) for beta in betas)


def qam(form: str, start: AbstractVelocityField, steps: int, settings: Settings) -> Variant:
    """tau is beta."""
    return Variant(
        "qam",
        form,
        lambda key: AdjointMatchedFlow(slow_behaviour_flow(steps), start, Constant(1.0)),
        lambda policy, beta: eqx.tree_at(lambda p: p.inverse_temperature.tau, policy, beta),
        runs(),
        settings,
    )


def trqam(settings: Settings) -> Variant:
    """The budget is the divergence of the tilted law, which is that of the optimal paths."""
    start, budgets = MixtureVelocity(BASE), {beta: divergence(beta) for beta in BETAS}
    return Variant(
        "trqam",
        "family, T = 10",
        lambda key: AdjointMatchedFlow(slow_behaviour_flow(10), start, TrustRegion(1.0, scale=3.0)),
        lambda policy, kl: eqx.tree_at(lambda p: p.inverse_temperature.kl_budget, policy, kl),
        tuple(Run(f"budget {kl:.3g}", kl, beta) for beta, kl in budgets.items()),
        settings,
    )


def bam(form: str, start: AbstractVelocityField, steps: int, settings: Settings) -> Variant:
    """tau is T beta: the cost of control is summed over the steps without their length 1/T."""
    return Variant(
        "bam",
        form,
        lambda key: BackpropagatedFlow(slow_behaviour_flow(steps), start, 1.0, 0.0),
        lambda policy, beta: eqx.tree_at(lambda p: p.inverse_temperature, policy, steps * beta),
        runs(),
        settings,
    )


def preflow(networks: Networks, scale: float, proposals: int, settings: Settings) -> Variant:
    """tau is beta."""

    def build(key: Key) -> RefinementFlow:
        flow, refinement = behaviour_flow(10), networks.refinement(key)
        return RefinementFlow(flow, refinement, Integrator(10), 1.0, scale, proposals)

    return Variant(
        "preflow",
        f"network, delta = {scale:g}, P = {proposals}",
        build,
        lambda policy, beta: eqx.tree_at(lambda p: p.inverse_temperature, policy, beta),
        runs(WIDE),
        settings,
    )


def fawac(form: str, start: AbstractVelocityField, steps: int, settings: Settings) -> Variant:
    """tau is beta, and V the behaviour's mean of Q."""

    def critic(policy: Any, beta: Any) -> AdvantageLearning:
        # The two critics are Q and Q + 1.
        value = _constant(mean_q(BASE) + 0.5)
        return AdvantageLearning(
            WithTarget(quadratic_critic(), 0.005), value, Backup(0.0, 1), data_value
        )

    return Variant(
        "fawac",
        form,
        lambda key: AdvantageWeightedFlow(BehaviourFlow(start, Integrator(steps), DIM), 1.0),
        lambda policy, beta: eqx.tree_at(lambda p: p.inverse_temperature, policy, beta),
        runs(),
        settings,
        critic,
    )


def fbrac(start: AbstractVelocityField, settings: Settings) -> Variant:
    """1 / bc_weight is beta."""
    return Variant(
        "fbrac",
        "network, T = 10",
        lambda key: FlowActor(BehaviourFlow(start, Integrator(10), DIM), 1.0),
        lambda policy, beta: eqx.tree_at(lambda p: p.bc_weight, policy, 1.0 / beta),
        runs(WIDE),
        settings,
    )


def _constant(value: float) -> MLP:
    """A state value that is the same everywhere."""
    mlp = MLP(1, (1,), 1, key=jax.random.key(0))
    flat = jnp.zeros((1, 1)), jnp.full(1, value)
    return eqx.tree_at(lambda m: (m.head.kernel, m.head.bias), mlp, flat)
