"""The methods that follow the critic's gradient at noised actions: guidance and diffusion."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from qamx.nn import Networks
from qamx.policies import (
    CriticGuidedDiffusion,
    GuidedFlow,
    ScoreMatchedDiffusion,
    VariancePreserving,
    clipped_step,
    posterior_step,
)
from studies.noised import CleanValue, ExactNoise, MeanValue, NoisedMixture, SoftMaximum
from studies.problem import (
    BASE,
    DIM,
    LINEAR,
    QUADRATIC,
    KnownCritic,
    on_flow_time,
    slow_behaviour_flow,
    tilted,
)
from studies.tempered import WIDE, runs
from studies.training import Settings, Variant

CLONING_WEIGHT = 10.0
"""QSM's weight of cloning, the paper's on half of its domains."""


def q_arrays() -> tuple[Array, Array]:
    """b and C of Q(a) = b.a + a.C.a / 2."""
    return jnp.asarray(LINEAR, jnp.float32), jnp.asarray(QUADRATIC, jnp.float32)


def clean(tau: float) -> KnownCritic:
    """CGQL's critic: Q, whatever the flow time."""
    return on_flow_time(CleanValue(*q_arrays()))


def mean(tau: float) -> KnownCritic:
    """CGQL-MSE's critic after a regression without an error."""
    return on_flow_time(MeanValue(NoisedMixture(BASE), *q_arrays()))


def soft_maximum(tau: float) -> KnownCritic:
    """CGQL-Linex's critic after a regression without an error."""
    return on_flow_time(SoftMaximum(NoisedMixture(BASE), NoisedMixture(tilted(tau)), tau))


def same_time(t: Array) -> Array:
    """The critic is asked about the noised action's own time."""
    return t


def cgql(
    method: str, critic: Callable[[float], KnownCritic], scale: float, steps: int = 10
) -> Variant:
    """scale x tau is beta: what multiplies the gradient. The critic learns at tau, as specified."""
    return Variant(
        method,
        f"c = {scale:g}, T = {steps}",
        lambda key: GuidedFlow(slow_behaviour_flow(steps), 1.0, scale, same_time),
        lambda policy, beta: eqx.tree_at(lambda p: p.inverse_temperature, policy, beta / scale),
        runs(WIDE),
        critic=lambda policy, beta: critic(beta / scale),
    )


def exact_guidance(scale: float, steps: int) -> Variant:
    """CGQL-Linex's guidance by the soft maximum at beta itself, which its critic learns only if
    its tau is apart from the guidance's."""
    plain = cgql("cgql_linex", soft_maximum, scale, steps)
    form = f"soft maximum at beta, c = {scale:g}, T = {steps}"
    return Variant(
        "cgql_linex",
        form,
        plain.build,
        plain.place,
        plain.runs,
        critic=lambda policy, beta: soft_maximum(beta),
    )


def qsm(networks: Networks, settings: Settings) -> Variant:
    """tau / bc_weight is beta: the gradient's weight beside the noise's."""
    schedule = VariancePreserving(10)

    def build(key: Any) -> ScoreMatchedDiffusion:
        predictor = networks.noise_predictor(key)
        return ScoreMatchedDiffusion(predictor, schedule, clipped_step, CLONING_WEIGHT, DIM, 1.0)

    def place(policy: Any, beta: Any) -> Any:
        return eqx.tree_at(lambda p: p.inverse_temperature, policy, CLONING_WEIGHT * beta)

    return Variant("qsm", "network, N = 10", build, place, runs(WIDE), settings)


def qsm_minimiser(weight: float, steps: int) -> Variant:
    """QSM with the minimiser of its loss, (w E[z|x_k] - tau grad Q(x_k)) / (1 + w)."""
    shrink, schedule = weight / (1.0 + weight), VariancePreserving(steps)
    predictor: Any = ExactNoise(NoisedMixture(BASE), schedule, *q_arrays(), shrink)
    return Variant(
        "qsm",
        f"minimiser, w = {weight:g}, N = {steps}",
        lambda key: ScoreMatchedDiffusion(predictor, schedule, clipped_step, weight, DIM, 1.0),
        lambda policy, beta: eqx.tree_at(lambda p: p.predictor.push[0], policy, shrink * beta),
        runs(WIDE),
    )


def dac(networks: Networks, settings: Settings) -> Variant:
    """1 / (2 bc_weight) is beta: the minimiser is E[z|x_k] - sqrt(1 - abar) grad Q / (2 w)."""

    def build(key: Any) -> CriticGuidedDiffusion:
        predictor, schedule = networks.noise_predictor(key), VariancePreserving(10)
        return CriticGuidedDiffusion(predictor, schedule, posterior_step, 1.0, DIM)

    def place(policy: Any, beta: Any) -> Any:
        return eqx.tree_at(lambda p: p.bc_weight, policy, 0.5 / beta)

    return Variant("dac", "network, N = 10", build, place, runs(WIDE), settings)


def dac_minimiser(steps: int) -> Variant:
    """DAC with the minimiser of its loss."""
    schedule = VariancePreserving(steps)
    predictor: Any = ExactNoise(NoisedMixture(BASE), schedule, *q_arrays())
    return Variant(
        "dac",
        f"minimiser, N = {steps}",
        lambda key: CriticGuidedDiffusion(predictor, schedule, posterior_step, 1.0, DIM),
        lambda policy, beta: eqx.tree_at(lambda p: p.predictor.push[1], policy, beta),
        runs(WIDE),
    )
