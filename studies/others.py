"""The methods without an inverse temperature, over a strength of their own."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array

from qamx.flow import Integrator
from qamx.nn import AbstractVelocityField, Networks, Temperature
from qamx.policies import (
    AdjointMatchedFlow,
    BehaviourFlow,
    BestOfN,
    DeterministicPolicy,
    EditPolicy,
    GaussianPolicy,
    LatentPolicy,
    OneStepPolicy,
    PredictionGuidedFlow,
    ReversalFlow,
    TargetBehaviourFlow,
)
from qamx.policies.guided import Chain
from qamx.rl import EntropyTarget, WithTarget
from qamx.schedules import Constant, TrustRegion
from studies.mixture import MixtureVelocity
from studies.problem import (
    BASE,
    BETAS,
    DIM,
    KnownCritic,
    KnownVelocity,
    behaviour_flow,
    divergence,
    on_flow_time,
    quadratic_critic,
    slow_behaviour_flow,
    tilted,
)
from studies.training import Run, Settings, Variant

WEIGHTS = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
EDITS = (0.05, 0.1, 0.2, 0.4, 0.8)
NOISES = (0.5, 0.8, 1.0, 1.25, 1.5, 2.0)
DRAWS = (1, 2, 4, 8, 32, 128)
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)


def _over(name: str, strengths: Sequence[float]) -> tuple[Run, ...]:
    return tuple(Run(f"{name} {s:.3g}", s, None) for s in strengths)


def _over_flows(name: str, strengths: Sequence[float]) -> tuple[Run, ...]:
    """A strength on top of an adjoint-matched flow that has reached its law."""
    return tuple(
        Run(f"beta {beta:g}, {name} {s:g}", (KnownVelocity(tilted(beta)), beta, s), None)
        for beta in BETAS
        for s in strengths
    )


def _entropy() -> EntropyTarget:
    return EntropyTarget(Temperature(), -0.5 * DIM)


def _converged_flow() -> AdjointMatchedFlow:
    return AdjointMatchedFlow(slow_behaviour_flow(10), KnownVelocity(tilted(1.0)), Constant(1.0))


def _placing(strength: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """Sets the flow that a policy stands on, and the policy's own strength."""

    def place(policy: Any, setting: Any) -> Any:
        return eqx.tree_at(strength, _place_flow(policy, *setting[:2]), setting[2])

    return place


def _place_flow(policy: Any, velocity: Any, beta: Any) -> Any:
    return eqx.tree_at(
        lambda p: (p.base.velocity, p.base.inverse_temperature.tau), policy, (velocity, beta)
    )


def fql(networks: Networks, settings: Settings) -> Variant:
    """The strength is the weight of following the flow."""
    return Variant(
        "fql",
        "network",
        lambda key: OneStepPolicy(behaviour_flow(10), networks.one_step(key), 1.0),
        lambda policy, weight: eqx.tree_at(lambda p: p.distill_weight, policy, weight),
        _over("bc_weight", WEIGHTS),
        settings,
    )


def qam_fql(networks: Networks, settings: Settings) -> Variant:
    """As FQL, over a flow that adjoint matching has brought to the tilted law."""
    return Variant(
        "qam_fql",
        "network over the exact tilt",
        lambda key: OneStepPolicy(_converged_flow(), networks.one_step(key), 1.0),
        _placing(lambda p: p.distill_weight),
        _over_flows("distill_weight", (1.0, 10.0, 100.0)),
        settings,
    )


def fedit(networks: Networks, settings: Settings) -> Variant:
    """The strength is the largest edit."""
    return Variant(
        "fedit",
        "network",
        lambda key: EditPolicy(behaviour_flow(10), networks.edit(key), _entropy(), 1.0),
        lambda policy, scale: eqx.tree_at(lambda p: p.scale, policy, scale),
        _over("edit_scale", EDITS),
        settings,
    )


def qam_edit(networks: Networks, settings: Settings) -> Variant:
    """As FEdit, over a flow that adjoint matching has brought to the tilted law."""
    return Variant(
        "qam_edit",
        "network over the exact tilt",
        lambda key: EditPolicy(_converged_flow(), networks.edit(key), _entropy(), 1.0),
        _placing(lambda p: p.scale),
        _over_flows("edit_scale", (0.05, 0.1, 0.2)),
        settings,
    )


def trqam_edit(networks: Networks, scale: float, settings: Settings) -> Variant:
    """As QAM-EDIT, over a flow within the budget that is the divergence of the tilted law."""

    def build(key: Any) -> EditPolicy:
        region = TrustRegion(1.0, scale=3.0)
        flow = AdjointMatchedFlow(slow_behaviour_flow(10), MixtureVelocity(BASE), region)
        return EditPolicy(flow, networks.edit(key), _entropy(), scale)

    def place(policy: Any, budget: Any) -> Any:
        return eqx.tree_at(lambda p: p.base.inverse_temperature.kl_budget, policy, budget)

    budgets = [divergence(beta) for beta in BETAS]
    form = f"family and network, T = 10, edit_scale {scale:g}"
    return Variant("trqam_edit", form, build, place, _over("budget", budgets), settings)


def dsrl(networks: Networks, settings: Settings) -> Variant:
    """The strength is the scale of the noise that the policy chooses."""

    def build(key: Any) -> LatentPolicy:
        critic_key, actor_key = jax.random.split(key)
        flow, critic = slow_behaviour_flow(10), networks.critic(critic_key)
        return LatentPolicy(flow, critic, networks.gaussian(actor_key), _entropy(), 1.0)

    def place(policy: Any, scale: Any) -> Any:
        return eqx.tree_at(lambda p: p.noise_scale, policy, scale)

    return Variant("dsrl", "network", build, place, _over("noise_scale", NOISES), settings)


def ifql() -> Variant:
    """The strength is the number of draws; nothing is learned where Q and the flow are known."""
    return Variant(
        "ifql",
        "exact flow",
        lambda key: BestOfN(behaviour_flow(10), 1),
        lambda policy, draws: BestOfN(policy.base, int(draws)),
        _over("draws", DRAWS),
    )


def qgf(form: str, chain: Chain) -> Variant:
    """The strength is the guidance's; nothing is learned where Q and the flow are known."""
    return Variant(
        "qgf",
        form,
        lambda key: PredictionGuidedFlow(behaviour_flow(10), 0.0, 0.0, 0.0, chain),
        lambda policy, strength: policy.with_strength(strength),
        _over("strength", STRENGTHS),
    )


def rebrac(networks: Networks, noise: float, settings: Settings) -> Variant:
    """The strength is the weight of cloning."""

    def build(key: Any) -> DeterministicPolicy:
        actor = WithTarget(networks.deterministic(key), 0.005)
        return DeterministicPolicy(actor, DIM, noise, 0.0, 1.0)

    def place(policy: Any, weight: Any) -> Any:
        return eqx.tree_at(lambda p: p.bc_weight, policy, weight)

    runs = _over("bc_weight", WEIGHTS)
    return Variant("rebrac", f"noise {noise:g}", build, place, runs, settings)


def rlpd(networks: Networks, settings: Settings) -> Variant:
    """The strength is the weight of cloning."""
    return Variant(
        "rlpd",
        "network",
        lambda key: GaussianPolicy(networks.gaussian(key), _entropy(), DIM, 0.0, 1.0),
        lambda policy, weight: eqx.tree_at(lambda p: p.bc_weight, policy, weight),
        _over("bc_weight", (0.0, *WEIGHTS)),
        settings,
    )


class EndValue(eqx.Module):
    """Q of the action to which a flow leads from (x, t): what RQL's critics regress to."""

    velocity: AbstractVelocityField
    steps: int = eqx.field(static=True)

    def __call__(self, observation: Array, point: Array) -> Array:
        x, start = point[..., :-1], point[..., -1]
        step = (1.0 - start) / self.steps

        def forward(i: Array, x: Array) -> Array:
            return x + step[:, None] * self.velocity(observation, x, start + i * step)

        return quadratic_critic()(observation, jax.lax.fori_loop(0, self.steps, forward, x))


def rql(start: AbstractVelocityField, settings: Settings) -> Variant:
    """The strength is the weight of cloning; the critic is exact for the flow as it is."""

    def critic(policy: ReversalFlow, weight: Any) -> KnownCritic:
        return on_flow_time(EndValue(policy.base.clone, 10))

    def build(key: Any) -> ReversalFlow:
        flow = WithTarget(BehaviourFlow(start, Integrator(10), DIM), 0.005)
        return ReversalFlow(TargetBehaviourFlow(flow), 1.0)

    def place(policy: Any, weight: Any) -> Any:
        return eqx.tree_at(lambda p: p.bc_weight, policy, weight)

    return Variant(
        "rql", "network, T = 10", build, place, _over("bc_weight", WEIGHTS), settings, critic
    )
