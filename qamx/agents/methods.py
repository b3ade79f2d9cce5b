"""The built-in methods: networks, critic learning and policy of each."""

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp

from qamx._types import Key
from qamx._utils.defaults import (
    ACTOR_TARGET_RATE,
    BEST_OF_N,
    DIFFUSION_STEPS,
    GUIDANCE_STRENGTH,
    KL_SCALE,
    POLICY_DELAY,
    PROPOSALS,
    TARGET_ENTROPY_SCALE,
)
from qamx.agents.agent import AbstractAgent
from qamx.agents.parts import Parts
from qamx.policies import (
    AdjointMatchedFlow,
    AdvantageWeightedFlow,
    BackpropagatedFlow,
    BestOfN,
    CriticGuidedDiffusion,
    DeterministicPolicy,
    EditPolicy,
    FlowActor,
    GaussianPolicy,
    GuidedFlow,
    LatentPolicy,
    OneStepPolicy,
    PredictionGuidedFlow,
    RefinementFlow,
    ReversalFlow,
    ScoreMatchedDiffusion,
    TargetBehaviourFlow,
    VariancePreserving,
    clean_step,
    clipped_step,
    exact_jacobian,
    identity_jacobian,
    posterior_step,
)
from qamx.rl import (
    AdvantageLearning,
    Delayed,
    ImplicitQLearning,
    NoisyTemporalDifference,
    ReversalLearning,
    TemporalDifference,
    WithTarget,
    data_value,
    linex,
    squared_error,
    td_value,
)
from qamx.rl.temporal_difference import NoisyLoss
from qamx.schedules.inverse_temperature import AbstractInverseTemperature, TrustRegion

__all__ = [
    "BAM",
    "CGQL",
    "CGQLMSE",
    "DAC",
    "DSRL",
    "FAWAC",
    "FBRAC",
    "FQL",
    "IFQL",
    "QAM",
    "QAMFQL",
    "QGF",
    "QSM",
    "RLPD",
    "RQL",
    "TRQAM",
    "CGQLLinex",
    "FEdit",
    "PReFlow",
    "QAMEdit",
    "ReBRAC",
    "TRQAMEdit",
]


class QAM(AbstractAgent[TemporalDifference, AdjointMatchedFlow]):
    """QAM: a TD critic and a flow fine-tuned by adjoint matching, whose ODE acts and backs up.

    **Source:** Li and Levine, arXiv 2601.14234.
    """

    def __init__(
        self, parts: Parts, *, inverse_temperature: AbstractInverseTemperature | float, key: Key
    ):
        critic_key, flow_key = jax.random.split(key)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = parts.adjoint_matched_flow(inverse_temperature, flow_key)


class QAMFQL(AbstractAgent[TemporalDifference, OneStepPolicy]):
    """QAM with a one-step policy distilled from the fine-tuned flow, maximising the critic."""

    def __init__(
        self,
        parts: Parts,
        *,
        inverse_temperature: AbstractInverseTemperature | float,
        distill_weight: float,
        key: Key,
    ):
        critic_key, flow_key, policy_key = jax.random.split(key, 3)
        self.critic = parts.temporal_difference(critic_key)
        flow = parts.adjoint_matched_flow(inverse_temperature, flow_key)
        self.policy = parts.one_step(flow, distill_weight, policy_key)


class QAMEdit(AbstractAgent[TemporalDifference, EditPolicy]):
    """QAM with a Gaussian edit of the fine-tuned flow's actions."""

    def __init__(
        self,
        parts: Parts,
        *,
        inverse_temperature: AbstractInverseTemperature | float,
        edit_scale: float,
        target_entropy_scale: float = TARGET_ENTROPY_SCALE,
        key: Key,
    ):
        qam_key, edit_key = jax.random.split(key)
        qam = QAM(parts, inverse_temperature=inverse_temperature, key=qam_key)
        self.critic = qam.critic
        self.policy = parts.edit(qam.policy, edit_scale, target_entropy_scale, edit_key)


class TRQAM(AbstractAgent[TemporalDifference, AdjointMatchedFlow]):
    """QAM whose inverse temperature keeps the policy within a trust region of the behaviour.

    Its protocol starts with a behaviour-cloning phase.

    **Source:** Dong et al., arXiv 2605.27079."""

    def __init__(self, parts: Parts, *, kl_budget: float, kl_scale: float = KL_SCALE, key: Key):
        qam = QAM(parts, inverse_temperature=TrustRegion(kl_budget, kl_scale), key=key)
        self.critic, self.policy = qam.critic, qam.policy


class TRQAMEdit(AbstractAgent[TemporalDifference, EditPolicy]):
    """TRQAM with a Gaussian edit of the fine-tuned flow's actions: QAM-EDIT within a trust region.

    A composition of its two parts, not a published method.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        edit_scale: float,
        kl_budget: float,
        kl_scale: float = KL_SCALE,
        target_entropy_scale: float = TARGET_ENTROPY_SCALE,
        key: Key,
    ):
        edited = QAMEdit(
            parts,
            inverse_temperature=TrustRegion(kl_budget, kl_scale),
            edit_scale=edit_scale,
            target_entropy_scale=target_entropy_scale,
            key=key,
        )
        self.critic, self.policy = edited.critic, edited.policy


class PReFlow(AbstractAgent[TemporalDifference, RefinementFlow]):
    """PReFlow: a TD critic and a flow that refines the behaviour flow's proposals.

    **Source:** Ha, Lee and Park, arXiv 2609.36812.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        inverse_temperature: float,
        refinement_scale: float,
        proposals: int = PROPOSALS,
        key: Key,
    ):
        critic_key, flow_key, refinement_key = jax.random.split(key, 3)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = RefinementFlow(
            parts.behaviour_flow(flow_key),
            parts.networks.refinement(refinement_key),
            parts.integrator,
            inverse_temperature,
            refinement_scale,
            proposals,
        )


class BAM(AbstractAgent[TemporalDifference, BackpropagatedFlow]):
    """BAM: a TD critic and a flow fine-tuned by backpropagation through its memoryless SDE."""

    def __init__(self, parts: Parts, *, inverse_temperature: float, key: Key):
        critic_key, behaviour_key, velocity_key = jax.random.split(key, 3)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = BackpropagatedFlow(
            parts.slow_behaviour_flow(behaviour_key),
            parts.networks.velocity(velocity_key),
            inverse_temperature,
            parts.backup.pessimism,
        )


class FQL(AbstractAgent[TemporalDifference, OneStepPolicy]):
    """FQL: a TD critic and a one-step policy distilled from the behaviour flow.

    **Source:** Park et al., arXiv 2502.02538.
    """

    def __init__(self, parts: Parts, *, bc_weight: float, key: Key):
        critic_key, flow_key, policy_key = jax.random.split(key, 3)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = parts.one_step(parts.behaviour_flow(flow_key), bc_weight, policy_key)


class FEdit(AbstractAgent[TemporalDifference, EditPolicy]):
    """FEdit: a TD critic and a Gaussian edit of the behaviour flow's actions.

    **Source:** after EXPO, Dong et al., arXiv 2507.07986.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        edit_scale: float,
        target_entropy_scale: float = TARGET_ENTROPY_SCALE,
        key: Key,
    ):
        critic_key, flow_key, edit_key = jax.random.split(key, 3)
        self.critic = parts.temporal_difference(critic_key)
        flow = parts.behaviour_flow(flow_key)
        self.policy = parts.edit(flow, edit_scale, target_entropy_scale, edit_key)


class FBRAC(AbstractAgent[TemporalDifference, FlowActor]):
    """FBRAC: a TD critic and a flow that maximises it through all steps of its ODE.

    **Source:** Park et al., arXiv 2502.02538.
    """

    def __init__(self, parts: Parts, *, bc_weight: float, key: Key):
        critic_key, flow_key = jax.random.split(key)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = FlowActor(parts.behaviour_flow(flow_key), bc_weight)


class FAWAC(AbstractAgent[AdvantageLearning, AdvantageWeightedFlow]):
    """FAWAC: a TD critic with a state value, and advantage-weighted flow matching.

    **Source:** Park et al., arXiv 2502.02538.

    **Arguments:** `value_target` is the regression target of V: the critics' TD target ("td", the
    paper) or the target critics at the data's chunks ("critic", the release).
    """

    def __init__(
        self,
        parts: Parts,
        *,
        inverse_temperature: float,
        value_target: Literal["td", "critic"] = "td",
        key: Key,
    ):
        critic_key, value_key, flow_key = jax.random.split(key, 3)
        self.critic = AdvantageLearning(
            parts.with_target(parts.networks.critic(critic_key)),
            parts.networks.value(value_key),
            parts.backup,
            {"td": td_value, "critic": data_value}[value_target],
        )
        self.policy = AdvantageWeightedFlow(parts.behaviour_flow(flow_key), inverse_temperature)


class DSRL(AbstractAgent[TemporalDifference, LatentPolicy]):
    """DSRL: a TD critic and a policy over the noise of the behaviour flow's target.

    **Source:** Wagenmaker et al., arXiv 2506.15799.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        noise_scale: float,
        target_entropy_scale: float = TARGET_ENTROPY_SCALE,
        key: Key,
    ):
        critic_key, flow_key, latent_key, actor_key = jax.random.split(key, 4)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = LatentPolicy(
            parts.slow_behaviour_flow(flow_key),
            parts.networks.critic(latent_key),
            parts.networks.gaussian(actor_key),
            parts.entropy(target_entropy_scale),
            noise_scale,
        )


class IFQL(AbstractAgent[ImplicitQLearning, BestOfN]):
    """IFQL: implicit Q-learning, and the best of N samples of the behaviour flow.

    **Source:** Park et al., arXiv 2502.02538.
    """

    def __init__(self, parts: Parts, *, expectile: float, best_of_n: int = BEST_OF_N, key: Key):
        critic_key, value_key, flow_key = jax.random.split(key, 3)
        self.critic = parts.implicit_q_learning(expectile, critic_key, value_key)
        self.policy = BestOfN(parts.behaviour_flow(flow_key), best_of_n)


class QGF(AbstractAgent[ImplicitQLearning, PredictionGuidedFlow]):
    """QGF: implicit Q-learning, and the behaviour flow guided when it samples.

    **Source:** Zhou et al., arXiv 2606.11087.

    **Arguments:** `guidance` takes the Jacobian of the predicted action as the identity ("plain"),
    or multiplies the gradient by it ("jacobian").
    """

    def __init__(
        self,
        parts: Parts,
        *,
        expectile: float,
        guidance_strength: float = GUIDANCE_STRENGTH,
        exploration_strength: float = GUIDANCE_STRENGTH,
        guidance: Literal["plain", "jacobian"] = "plain",
        key: Key,
    ):
        critic_key, value_key, flow_key = jax.random.split(key, 3)
        self.critic = parts.implicit_q_learning(expectile, critic_key, value_key)
        self.policy = PredictionGuidedFlow(
            parts.behaviour_flow(flow_key),
            guidance_strength,
            exploration_strength,
            parts.backup.pessimism,
            {"plain": identity_jacobian, "jacobian": exact_jacobian}[guidance],
        )


class CGQL(AbstractAgent[TemporalDifference, GuidedFlow]):
    """A TD critic of clean actions; its gradient is taken at noised ones as if they were clean."""

    def __init__(
        self, parts: Parts, *, inverse_temperature: float, guidance_scale: float, key: Key
    ):
        critic_key, flow_key = jax.random.split(key)
        critic = parts.with_target(parts.networks.flow_time_critic(critic_key))
        self.critic = TemporalDifference(critic, parts.backup)
        flow = parts.slow_behaviour_flow(flow_key)
        self.policy = GuidedFlow(flow, inverse_temperature, guidance_scale, jnp.ones_like)


class CGQLMSE(AbstractAgent[NoisyTemporalDifference, GuidedFlow]):
    """A critic that also regresses noised actions' values to the mean of the clean ones'."""

    def __init__(
        self,
        parts: Parts,
        *,
        inverse_temperature: float,
        guidance_scale: float,
        noisy_critic_weight: float,
        key: Key,
    ):
        scales = inverse_temperature, guidance_scale
        self.critic, self.policy = _noise_aware(
            parts, squared_error, noisy_critic_weight, scales, key
        )


class CGQLLinex(AbstractAgent[NoisyTemporalDifference, GuidedFlow]):
    """A critic that also regresses noised actions' values to the soft maximum of the clean ones'.

    **Source:** the energy of Lu et al., arXiv 2304.12824.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        inverse_temperature: float,
        guidance_scale: float,
        noisy_critic_weight: float,
        key: Key,
    ):
        scales = inverse_temperature, guidance_scale
        self.critic, self.policy = _noise_aware(parts, linex, noisy_critic_weight, scales, key)


def _noise_aware(
    parts: Parts, loss: NoisyLoss, weight: float, scales: tuple[float, float], key: Key
) -> tuple[NoisyTemporalDifference, GuidedFlow]:
    critic_key, flow_key = jax.random.split(key)
    critic = parts.with_target(parts.networks.flow_time_critic(critic_key))
    flow = parts.slow_behaviour_flow(flow_key)
    return (
        NoisyTemporalDifference(critic, parts.backup, loss, weight, scales[0]),
        GuidedFlow(flow, *scales, _same_time),
    )


def _same_time(t: jax.Array) -> jax.Array:
    return t


class QSM(AbstractAgent[TemporalDifference, ScoreMatchedDiffusion]):
    """QSM: a TD critic and a diffusion policy whose score is the critic's gradient.

    **Source:** Psenka et al., arXiv 2312.11752.

    **Arguments:** `sampler` is the reverse process: the standard one ("ddpm", the paper), or a jump
    to the predicted clean action at each step ("clean", the release).
    """

    def __init__(
        self,
        parts: Parts,
        *,
        inverse_temperature: float,
        bc_weight: float,
        diffusion_steps: int = DIFFUSION_STEPS,
        sampler: Literal["ddpm", "clean"] = "ddpm",
        key: Key,
    ):
        critic_key, policy_key = jax.random.split(key)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = ScoreMatchedDiffusion(
            parts.networks.noise_predictor(policy_key),
            VariancePreserving(diffusion_steps),
            {"ddpm": clipped_step, "clean": clean_step}[sampler],
            bc_weight,
            parts.action_dim,
            inverse_temperature,
        )


class DAC(AbstractAgent[TemporalDifference, CriticGuidedDiffusion]):
    """DAC: a TD critic and a diffusion policy pushed along the critic's gradient.

    **Source:** Fang et al., arXiv 2405.20555.
    """

    def __init__(
        self, parts: Parts, *, bc_weight: float, diffusion_steps: int = DIFFUSION_STEPS, key: Key
    ):
        critic_key, policy_key = jax.random.split(key)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = CriticGuidedDiffusion(
            predictor=parts.networks.noise_predictor(policy_key),
            schedule=VariancePreserving(diffusion_steps),
            reverse_step=posterior_step,
            bc_weight=bc_weight,
            dim=parts.action_dim,
        )


class ReBRAC(AbstractAgent[TemporalDifference, DeterministicPolicy]):
    """ReBRAC: a TD critic and a deterministic policy with a cloning penalty.

    **Source:** Tarasov et al., arXiv 2305.09836.

    **Arguments:** every `policy_delay`-th update moves the targets and, with `delayed` "actor"
    (the paper), the actor; with "targets" (the release) the actor is trained at every update.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        bc_weight: float,
        actor_noise: float,
        policy_delay: int = POLICY_DELAY,
        delayed: Literal["actor", "targets"] = "actor",
        key: Key,
    ):
        critic_key, actor_key = jax.random.split(key)
        parts = replace(parts, target_period=policy_delay)
        self.critic = parts.temporal_difference(critic_key)
        actor = parts.networks.deterministic(actor_key)
        self.policy = DeterministicPolicy(
            parts.with_target(Delayed(actor, policy_delay) if delayed == "actor" else actor),
            parts.action_dim,
            actor_noise,
            parts.backup.pessimism,
            bc_weight,
        )


class RLPD(AbstractAgent[TemporalDifference, GaussianPolicy]):
    """RLPD: a TD critic without entropy in its backup, and SAC's policy with a cloning term.

    **Source:** Ball et al., arXiv 2302.02948.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        bc_weight: float,
        target_entropy_scale: float = TARGET_ENTROPY_SCALE,
        key: Key,
    ):
        critic_key, actor_key = jax.random.split(key)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = GaussianPolicy(
            parts.networks.gaussian(actor_key),
            parts.entropy(target_entropy_scale),
            parts.action_dim,
            parts.backup.pessimism,
            bc_weight,
        )


class RQL(AbstractAgent[ReversalLearning, ReversalFlow]):
    """RQL: a critic of the flow's states, and a flow whose every step maximises it.

    **Arguments:** `actor_target_rate` is 1 minus the decay of the evaluated moving average.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        bc_weight: float,
        expectile: float,
        actor_target_rate: float = ACTOR_TARGET_RATE,
        key: Key,
    ):
        critic_key, flow_key = jax.random.split(key)
        self.critic = ReversalLearning(
            parts.with_target(parts.networks.flow_time_critic(critic_key)),
            parts.backup,
            expectile,
            parts.integrator.steps,
        )
        flow = WithTarget(parts.behaviour_flow(flow_key), actor_target_rate)
        self.policy = ReversalFlow(TargetBehaviourFlow(flow), bc_weight)
