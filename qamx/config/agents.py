"""Settings of the built-in methods, each of which builds its agent."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from qamx import registry
from qamx._utils import defaults
from qamx.config.fields import (
    Allowed,
    DefaultText,
    Discount,
    Fraction,
    HiddenSizes,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Settings,
    Switch,
    Text,
)
from qamx.config.inverse_temperature import (
    InverseTemperature,
    TemperatureSettings,
    build_temperature,
)

if TYPE_CHECKING:
    from qamx._types import Key
    from qamx.agents import AbstractAgent, Parts

Solver = Literal["euler", "heun", "midpoint", "ralston", "bosh3", "tsit5", "dopri5"]
"""Diffrax's fixed-step solvers for the flow's ODE."""

# --- keys that several methods have ---

GradientClip = Annotated[
    PositiveFloat | Literal["none"],
    Allowed('a positive number, or "none" for no clipping'),
    Field(description="bound of the global gradient norm, critic and actor together"),
]
Sampling = Annotated[
    Literal["uniform", "balanced"],
    Field(
        description="how batches are drawn: over old and new transitions alike, or half from each"
    ),
]
Tau = Annotated[
    InverseTemperature, Field(examples=[1.0], description="τ in π(a|s) ∝ π_b(a|s) exp(τ Q(s, a))")
]
PlainTau = Annotated[PositiveFloat, Field(examples=[10.0], description="τ")]
GradientTau = Annotated[
    PositiveFloat, Field(examples=[10.0], description="τ, on the critic's gradient")
]
GuidanceScale = Annotated[
    PositiveFloat,
    Field(examples=[0.1], description="scale of the guidance that is added to the flow's velocity"),
]
NoisyCriticWeight = Annotated[
    PositiveFloat,
    Field(examples=[0.1], description="weight of the critic's loss at noised actions"),
]
EditScale = Annotated[
    float,
    Field(gt=0, le=2),
    Allowed("a number above 0, at most 2"),
    Field(
        examples=[0.1],
        description="largest change that the edit makes to an action, whose range is [−1, 1]",
    ),
]
KLBudget = Annotated[
    PositiveFloat,
    Field(
        description="nats per environment step that the policy's paths may be from the behaviour's"
    ),
]
KLScale = Annotated[
    PositiveFloat,
    Field(description="c in 1/τ = c·λ, λ the dual variable that keeps the budget"),
]
TargetEntropyScale = Annotated[
    PositiveFloat,
    Field(description="c in the policy's target entropy −c·d nats, d the size of an action chunk"),
]
NoiseWeight = Annotated[
    PositiveFloat, Field(examples=[1.0], description="weight of predicting the data's noise")
]
DiffusionSteps = Annotated[
    PositiveInt,
    Field(description="N, the steps of the diffusion; `flow_steps` and `solver` are not used"),
]
Expectile = Annotated[
    float,
    Field(gt=0, lt=1),
    Allowed("a number between 0 and 1"),
    Field(examples=[0.9], description="κ of the expectile regression; 0.5 is the mean"),
]
_BEST_OF_N = Field(
    examples=[32],
    description="play the best of this many drawn chunks, by the smallest of the K critics; in the "
    "backup too",
)

CLIP = 1.0


class AgentSettings(Settings):
    """Keys of every method. Base class for the settings of a method of your own."""

    method: Text = Field(examples=["qam"])
    """its name; see `qamx list`"""
    horizon: PositiveInt = Field(examples=[5])
    """H, the length of an action chunk and of the n-step backup"""
    discount: Discount = Field(examples=[0.99])
    """γ, per environment step"""
    pessimism: NonNegativeFloat = defaults.PESSIMISM
    """ρ, standard deviations of the critics taken off their mean in the backup"""
    target_rate: Fraction = defaults.TARGET_RATE
    """λ, the share of the online network that a target takes on at an update"""
    ensemble_size: PositiveInt = defaults.ENSEMBLE_SIZE
    """K, the number of critics"""
    flow_steps: PositiveInt = defaults.FLOW_STEPS
    """T, the steps of the flow's grid; of no effect in methods without a flow"""
    solver: Solver = "euler"
    """the Diffrax solver on that grid"""
    actor_hidden: HiddenSizes = defaults.HIDDEN
    """hidden widths of the velocity fields and policies"""
    critic_hidden: HiddenSizes = defaults.HIDDEN
    """hidden widths of each critic"""
    actor_layer_norm: Switch = defaults.ACTOR_LAYER_NORM
    """layer norm after each hidden layer of velocities, noise predictors, one-step and
    deterministic policies"""
    critic_layer_norm: Switch = defaults.CRITIC_LAYER_NORM
    """layer norm after each hidden layer of the critics and of V(s)"""
    batch_size: PositiveInt = 256
    """action chunks in an update"""
    learning_rate: PositiveFloat = defaults.LEARNING_RATE
    """Adam's"""
    gradient_clip: GradientClip = "none"
    sampling: Sampling = "uniform"
    best_of_n: Annotated[PositiveInt | None, DefaultText("none"), _BEST_OF_N] = None
    initialise_from: Text | None = Field(default=None, examples=["runs/c4_qam-task2-seed10001"])
    """a run's folder: start from the clone of the data that its newest checkpoint has"""

    def own_arguments(self) -> dict[str, Any]:
        """The keys that a method adds to those of every method, by name; temperatures built."""
        return self.arguments(type(self).model_fields.keys() - AgentSettings.model_fields.keys())

    def arguments(self, names: Iterable[str]) -> dict[str, Any]:
        """The values of keys, by name; temperatures built."""
        values = {name: getattr(self, name) for name in names}
        return {
            name: build_temperature(value) if isinstance(value, TemperatureSettings) else value
            for name, value in values.items()
        }

    def with_best_of_n(self, agent: "AbstractAgent") -> "AbstractAgent":
        """The agent as `best_of_n` has it act."""
        from qamx.agents import best_of_n

        return agent if self.best_of_n is None else best_of_n(agent, self.best_of_n)


# --- the methods, in the order of `qamx list` ---


@registry.agents.add(
    "qam", "Q-learning with adjoint matching: a flow fine-tuned against the critic"
)
class QAMSettings(AgentSettings):
    """Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234)."""

    method: str = "qam"
    gradient_clip: GradientClip = CLIP
    inverse_temperature: Tau

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import QAM

        return QAM(parts, **self.own_arguments(), key=key)


@registry.agents.add("qam_fql", "QAM with a one-step policy that follows the fine-tuned flow")
class QAMFQLSettings(AgentSettings):
    """QAM with a one-step policy distilled from the fine-tuned flow."""

    method: str = "qam_fql"
    gradient_clip: GradientClip = CLIP
    inverse_temperature: Tau
    distill_weight: PositiveFloat = Field(examples=[30.0])
    """weight of the distance between the one-step policy and the flow"""

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import QAMFQL

        return QAMFQL(parts, **self.own_arguments(), key=key)


@registry.agents.add("qam_edit", "QAM with a Gaussian edit of the fine-tuned flow's actions")
class QAMEditSettings(AgentSettings):
    """QAM with a Gaussian edit of the fine-tuned flow's actions."""

    method: str = "qam_edit"
    gradient_clip: GradientClip = CLIP
    edit_scale: EditScale
    target_entropy_scale: TargetEntropyScale = defaults.TARGET_ENTROPY_SCALE
    inverse_temperature: Tau

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import QAMEdit

        return QAMEdit(parts, **self.own_arguments(), key=key)


@registry.agents.add(
    "trqam", "QAM whose temperature keeps it within a trust region of the behaviour"
)
class TRQAMSettings(AgentSettings):
    """QAM within a trust region (Dong et al., arXiv 2605.27079)."""

    method: str = "trqam"
    gradient_clip: GradientClip = CLIP
    kl_budget: KLBudget = 1.0
    kl_scale: KLScale = defaults.KL_SCALE

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import TRQAM

        return TRQAM(parts, **self.own_arguments(), key=key)


@registry.agents.add("trqam_edit", "TRQAM with a Gaussian edit of the fine-tuned flow's actions")
class TRQAMEditSettings(AgentSettings):
    """QAM within a trust region (Dong et al., arXiv 2605.27079) with an edit policy."""

    method: str = "trqam_edit"
    gradient_clip: GradientClip = CLIP
    edit_scale: EditScale
    target_entropy_scale: TargetEntropyScale = defaults.TARGET_ENTROPY_SCALE
    kl_budget: KLBudget = 1.0
    kl_scale: KLScale = defaults.KL_SCALE

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import TRQAMEdit

        return TRQAMEdit(parts, **self.own_arguments(), key=key)


@registry.agents.add("preflow", "a flow that refines the behaviour flow's proposals")
class PReFlowSettings(AgentSettings):
    """Proposals of the behaviour flow, refined by a second one (Ha et al., arXiv 2609.36812)."""

    method: str = "preflow"
    gradient_clip: GradientClip = CLIP
    inverse_temperature: PositiveFloat = Field(examples=[3.0])
    """τ in π(Δ|s, a) ∝ exp(τ Q(s, a + Δ) − |Δ|²/2δ²), for each proposal a"""
    refinement_scale: PositiveFloat = Field(examples=[0.1])
    """δ, the standard deviation of a refinement Δ at τ = 0, for actions in [−1, 1]"""
    proposals: PositiveInt = defaults.PROPOSALS
    """play the refinement of the best of this many proposals, by the smallest of the K critics;
    the backup refines one"""

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import PReFlow

        return PReFlow(parts, **self.own_arguments(), key=key)


@registry.agents.add("bam", "a flow fine-tuned by backpropagation through its memoryless SDE")
class BAMSettings(AgentSettings):
    """Backpropagation through the whole memoryless SDE (Li and Levine, arXiv 2601.14234)."""

    method: str = "bam"
    gradient_clip: GradientClip = CLIP
    inverse_temperature: PlainTau

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import BAM

        return BAM(parts, **self.own_arguments(), key=key)


@registry.agents.add("fbrac", "a flow that climbs the critic through all steps of its ODE")
class FBRACSettings(AgentSettings):
    """A flow improved through its ODE (Park et al., arXiv 2502.02538)."""

    method: str = "fbrac"
    bc_weight: PositiveFloat = Field(examples=[1.0])
    """weight of staying with the data against the critic: the value term is divided by it"""

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import FBRAC

        return FBRAC(parts, **self.own_arguments(), key=key)


@registry.agents.add(
    "fql", "a one-step policy that follows the behaviour flow and climbs the critic"
)
class FQLSettings(AgentSettings):
    """A one-step policy over the behaviour flow (Park et al., arXiv 2502.02538)."""

    method: str = "fql"
    bc_weight: PositiveFloat = Field(examples=[1.0])
    """weight of staying with the data against the critic: the distance to the flow is multiplied
    with it"""

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import FQL

        return FQL(parts, **self.own_arguments(), key=key)


@registry.agents.add("fedit", "a Gaussian edit of the behaviour flow's actions")
class FEditSettings(AgentSettings):
    """A Gaussian edit of the behaviour flow's actions (Dong et al., arXiv 2507.07986)."""

    method: str = "fedit"
    edit_scale: EditScale
    target_entropy_scale: TargetEntropyScale = defaults.TARGET_ENTROPY_SCALE

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import FEdit

        return FEdit(parts, **self.own_arguments(), key=key)


@registry.agents.add("fawac", "flow matching on the data's chunks weighed by their advantage")
class FAWACSettings(AgentSettings):
    """Advantage-weighted flow matching (Park et al., arXiv 2502.02538)."""

    method: str = "fawac"
    inverse_temperature: PlainTau
    value_target: Literal["td", "critic"] = "td"
    """the target of V(s): the critics' TD target (the paper), or the target critics at the data's
    action (the release)"""

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import FAWAC

        return FAWAC(parts, **self.own_arguments(), key=key)


@registry.agents.add("cgql", "a behaviour flow guided by the critic's gradient as it acts")
class CGQLSettings(AgentSettings):
    """A flow guided by a critic of clean actions (Li and Levine, arXiv 2601.14234)."""

    method: str = "cgql"
    inverse_temperature: GradientTau
    guidance_scale: GuidanceScale

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import CGQL

        return CGQL(parts, **self.own_arguments(), key=key)


@registry.agents.add("cgql_mse", "guidance by a critic of noised actions, fitted by squares")
class CGQLMSESettings(AgentSettings):
    """A flow guided by a critic of noised actions, fitted by squares."""

    method: str = "cgql_mse"
    inverse_temperature: GradientTau
    guidance_scale: GuidanceScale
    noisy_critic_weight: NoisyCriticWeight

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import CGQLMSE

        return CGQLMSE(parts, **self.own_arguments(), key=key)


@registry.agents.add("cgql_linex", "guidance by a critic of noised actions, fitted by LINEX")
class CGQLLinexSettings(AgentSettings):
    """A flow guided by a critic of noised actions, fitted by the LINEX loss."""

    method: str = "cgql_linex"
    inverse_temperature: PositiveFloat = Field(examples=[10.0])
    """τ, on the critic's gradient and in the critic's loss"""
    guidance_scale: GuidanceScale
    noisy_critic_weight: NoisyCriticWeight

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import CGQLLinex

        return CGQLLinex(parts, **self.own_arguments(), key=key)


@registry.agents.add("qsm", "a diffusion policy whose score is the critic's gradient")
class QSMSettings(AgentSettings):
    """Q-score matching (Psenka et al., arXiv 2312.11752)."""

    method: str = "qsm"
    gradient_clip: GradientClip = CLIP
    inverse_temperature: GradientTau
    bc_weight: NoiseWeight
    diffusion_steps: DiffusionSteps = defaults.DIFFUSION_STEPS
    sampler: Literal["ddpm", "clean"] = "ddpm"
    """the reverse step: the standard one (the paper), or a jump to the predicted clean action (the
    release)"""

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import QSM

        return QSM(parts, **self.own_arguments(), key=key)


@registry.agents.add("dac", "a diffusion policy pushed along the critic's gradient")
class DACSettings(AgentSettings):
    """Diffusion actor-critic (Fang et al., arXiv 2405.20555)."""

    method: str = "dac"
    gradient_clip: GradientClip = CLIP
    bc_weight: NoiseWeight
    diffusion_steps: DiffusionSteps = defaults.DIFFUSION_STEPS

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import DAC

        return DAC(parts, **self.own_arguments(), key=key)


@registry.agents.add("dsrl", "a policy that chooses the noise of the behaviour flow")
class DSRLSettings(AgentSettings):
    """A policy over the noise of the behaviour flow (Wagenmaker et al., arXiv 2506.15799)."""

    method: str = "dsrl"
    noise_scale: PositiveFloat = Field(examples=[1.0])
    """bound of an entry of the noise that the policy chooses"""
    target_entropy_scale: TargetEntropyScale = defaults.TARGET_ENTROPY_SCALE

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import DSRL

        return DSRL(parts, **self.own_arguments(), key=key)


@registry.agents.add("ifql", "implicit Q-learning, and the best of N samples of the behaviour flow")
class IFQLSettings(AgentSettings):
    """Implicit Q-learning and the best of N flow samples (Park et al., arXiv 2502.02538)."""

    method: str = "ifql"
    expectile: Expectile
    best_of_n: Annotated[PositiveInt, _BEST_OF_N] = defaults.BEST_OF_N

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import IFQL

        return IFQL(parts, **self.own_arguments(), best_of_n=self.best_of_n, key=key)

    def with_best_of_n(self, agent: "AbstractAgent") -> "AbstractAgent":
        """The agent as it is: the method itself plays the best of N."""
        return agent


@registry.agents.add("qgf", "implicit Q-learning, and the behaviour flow guided as it acts")
class QGFSettings(AgentSettings):
    """Implicit Q-learning and a guided behaviour flow (Zhou et al., arXiv 2606.11087)."""

    method: str = "qgf"
    expectile: Expectile
    guidance_strength: NonNegativeFloat = defaults.GUIDANCE_STRENGTH
    """ω, the weight of the critic's gradient in the flow's velocity, in evaluations; `qamx eval
    --strength` plays others"""
    exploration_strength: NonNegativeFloat = defaults.GUIDANCE_STRENGTH
    """the same when data is collected"""
    guidance: Literal["plain", "jacobian"] = "plain"
    """the gradient at the predicted action as it is, or times the prediction's Jacobian"""

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import QGF

        return QGF(parts, **self.own_arguments(), key=key)


@registry.agents.add("rebrac", "a deterministic policy with a cloning penalty")
class ReBRACSettings(AgentSettings):
    """A deterministic policy with a cloning penalty (Tarasov et al., arXiv 2305.09836)."""

    method: str = "rebrac"
    bc_weight: PositiveFloat = Field(examples=[1.0])
    """weight of the squared distance to the data's actions"""
    actor_noise: NonNegativeFloat = Field(examples=[0.0])
    """standard deviation of the noise on actions, clipped to ±0.5"""
    policy_delay: PositiveInt = defaults.POLICY_DELAY
    """updates between two steps of what `delayed` names"""
    delayed: Literal["actor", "targets"] = "actor"
    """actor and targets (the paper), or the targets alone (the release)"""

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import ReBRAC

        return ReBRAC(parts, **self.own_arguments(), key=key)


@registry.agents.add("rlpd", "SAC from scratch online, on old and new data in equal parts")
class RLPDSettings(AgentSettings):
    """SAC on old and new data in equal parts (Ball et al., arXiv 2302.02948)."""

    method: str = "rlpd"
    bc_weight: NonNegativeFloat = 0.0
    """weight of the data's log probability"""
    target_entropy_scale: TargetEntropyScale = defaults.TARGET_ENTROPY_SCALE
    sampling: Sampling = "balanced"

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import RLPD

        return RLPD(parts, **self.own_arguments(), key=key)


@registry.agents.add("rql", "a flow whose every step climbs a critic of its intermediate states")
class RQLSettings(AgentSettings):
    """Reversal Q-learning (Oberai, Park and Levine, arXiv 2606.17551)."""

    method: str = "rql"
    expectile: Expectile
    bc_weight: PositiveFloat = Field(examples=[1.0])
    """weight of flow matching"""
    actor_target_rate: Fraction = defaults.ACTOR_TARGET_RATE
    """share of the velocity that the target network takes on at an update; the target is what is
    evaluated"""

    def build(self, parts: "Parts", key: "Key") -> "AbstractAgent":
        from qamx.agents import RQL

        return RQL(parts, **self.own_arguments(), key=key)
