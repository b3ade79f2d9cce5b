"""The settings of the built-in methods; none of them imports JAX."""

from typing import Annotated, Literal

from pydantic import Field

from qamx.config.fields import (
    Absent,
    Allowed,
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
from qamx.config.inverse_temperature import InverseTemperature

Solver = Literal["euler", "heun", "midpoint", "ralston", "bosh3", "tsit5", "dopri5"]
"""Diffrax's fixed-step solvers for the flow's ODE."""

GradientClip = Annotated[
    PositiveFloat | Literal["none"], Allowed('a positive number, or "none" for no clipping')
]

Sampling = Literal["uniform", "balanced"]
"""How batches are drawn: over old and new data alike, or half from each."""

_HIDDEN = (512, 512, 512, 512)
_CLIP = "bound of the global gradient norm, critic and actor together"
_SAMPLING = "how batches are drawn: over old and new transitions alike, or half from each"
_BEST = "play the best of so many drawn chunks, by the smallest of the K critics; in the backup too"
_ENTROPY = "c in the policy's target entropy −c·d nats, d the size of an action chunk"


class AgentSettings(Settings):
    """What all methods share. Base class for the settings of a method of your own."""

    method: Text = Field(examples=["qam"], description="its name; see `qamx list`")
    horizon: PositiveInt = Field(
        examples=[5], description="H, the length of an action chunk and of the n-step backup"
    )
    discount: Discount = Field(examples=[0.99], description="γ, per environment step")
    pessimism: NonNegativeFloat = Field(
        default=0.0,
        description="ρ, standard deviations of the critics taken off their mean in the backup",
    )
    target_rate: Fraction = Field(
        default=0.005,
        description="λ, the share of the online network that a target takes on at an update",
    )
    ensemble_size: PositiveInt = Field(default=10, description="K, the number of critics")
    flow_steps: PositiveInt = Field(
        default=10,
        description="T, the steps of the flow's grid; of no effect in methods without a flow",
    )
    solver: Solver = Field(default="euler", description="the Diffrax solver on that grid")
    actor_hidden: HiddenSizes = Field(
        default=_HIDDEN, description="hidden widths of the velocity fields and policies"
    )
    critic_hidden: HiddenSizes = Field(default=_HIDDEN, description="hidden widths of each critic")
    actor_layer_norm: Switch = Field(
        default=False,
        description="layer norm after each hidden layer of velocities, noise predictors, one-step "
        "and deterministic policies",
    )
    critic_layer_norm: Switch = Field(
        default=True, description="layer norm after each hidden layer of the critics and of V(s)"
    )
    batch_size: PositiveInt = Field(default=256, description="action chunks in an update")
    learning_rate: PositiveFloat = Field(default=3e-4, description="Adam's")
    gradient_clip: GradientClip = Field(default="none", description=_CLIP)
    sampling: Sampling = Field(default="uniform", description=_SAMPLING)
    best_of_n: Annotated[PositiveInt | None, Absent("none")] = Field(
        default=None, examples=[32], description=_BEST
    )
    initialise_from: Text | None = Field(
        default=None,
        examples=["runs/c4_qam-task2-seed10001"],
        description="a run's folder: start from the clone of the data that its newest checkpoint "
        "has",
    )


class AdjointMatchingSettings(AgentSettings):
    """What the methods with an adjoint-matched flow share."""

    gradient_clip: GradientClip = Field(default=1.0, description=_CLIP)
    inverse_temperature: InverseTemperature = Field(
        examples=[1.0], description="τ in π(a|s) ∝ π_b(a|s) exp(τ Q(s, a))"
    )


class QAMSettings(AdjointMatchingSettings):
    """Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234)."""

    method: str = "qam"


class QAMFQLSettings(AdjointMatchingSettings):
    """QAM with a one-step policy distilled from the fine-tuned flow."""

    method: str = "qam_fql"
    distill_weight: PositiveFloat = Field(
        examples=[30.0],
        description="weight of the distance between the one-step policy and the flow",
    )


class EditSettings(AgentSettings):
    """What the methods with an edit policy share."""

    edit_scale: Annotated[float, Field(gt=0, le=2), Allowed("a number above 0, at most 2")] = Field(
        examples=[0.1],
        description="largest change that the edit makes to an action, whose range is [−1, 1]",
    )
    target_entropy_scale: PositiveFloat = Field(default=0.5, description=_ENTROPY)


class QAMEditSettings(AdjointMatchingSettings, EditSettings):  # the first base's defaults hold
    """QAM with a Gaussian edit of the fine-tuned flow's actions."""

    method: str = "qam_edit"


class TRQAMSettings(AgentSettings):
    """QAM within a trust region (Dong et al., arXiv 2605.27079)."""

    method: str = "trqam"
    gradient_clip: GradientClip = Field(default=1.0, description=_CLIP)
    kl_budget: PositiveFloat = Field(
        default=1.0,
        description="nats per environment step that the policy's paths may be from the behaviour's",
    )
    kl_scale: PositiveFloat = Field(
        default=3.0, description="c in 1/τ = c·λ, λ the dual variable that keeps the budget"
    )


class TiltSettings(AgentSettings):
    """What the methods with a plain inverse temperature share."""

    inverse_temperature: PositiveFloat = Field(examples=[10.0], description="τ")


class CloningWeightSettings(AgentSettings):
    """What the methods with a weight on behaviour cloning share."""

    bc_weight: PositiveFloat = Field(
        examples=[1.0], description="weight of staying with the data against the critic"
    )


class BAMSettings(TiltSettings):
    """Backpropagation through the whole memoryless SDE (Li and Levine, arXiv 2601.14234)."""

    method: str = "bam"
    gradient_clip: GradientClip = Field(default=1.0, description=_CLIP)


class FBRACSettings(CloningWeightSettings):
    """A flow improved through its ODE (Park et al., arXiv 2502.02538)."""

    method: str = "fbrac"
    bc_weight: PositiveFloat = Field(
        examples=[1.0],
        description="weight of staying with the data against the critic: the value term is "
        "divided by it",
    )


class FQLSettings(CloningWeightSettings):
    """A one-step policy over the behaviour flow (Park et al., arXiv 2502.02538)."""

    method: str = "fql"
    bc_weight: PositiveFloat = Field(
        examples=[1.0],
        description="weight of staying with the data against the critic: the distance to the flow "
        "is multiplied with it",
    )


class FEditSettings(EditSettings):
    """A Gaussian edit of the behaviour flow's actions (Dong et al., arXiv 2507.07986)."""

    method: str = "fedit"


class FAWACSettings(TiltSettings):
    """Advantage-weighted flow matching (Park et al., arXiv 2502.02538)."""

    method: str = "fawac"
    value_target: Literal["td", "critic"] = Field(
        default="td",
        description="what V(s) regresses to: the critics' TD target (the paper), or the target "
        "critics at the data's action (the release)",
    )


class CGQLSettings(TiltSettings):
    """A flow guided by a critic of clean actions (Li and Levine, arXiv 2601.14234)."""

    method: str = "cgql"
    inverse_temperature: PositiveFloat = Field(
        examples=[10.0], description="τ, on the critic's gradient"
    )
    guidance_scale: PositiveFloat = Field(
        examples=[0.1], description="size of the whole guidance beside the flow's velocity"
    )


class NoisyCGQLSettings(CGQLSettings):
    """What the guided methods share whose critic knows noised actions."""

    noisy_critic_weight: PositiveFloat = Field(
        examples=[0.1], description="weight of the critic's loss at noised actions"
    )


class CGQLMSESettings(NoisyCGQLSettings):
    """A flow guided by a critic of noised actions, fitted by squares."""

    method: str = "cgql_mse"


class CGQLLinexSettings(NoisyCGQLSettings):
    """A flow guided by a critic of noised actions, fitted by the LINEX loss."""

    method: str = "cgql_linex"
    inverse_temperature: PositiveFloat = Field(
        examples=[10.0], description="τ, on the critic's gradient and in the critic's loss"
    )


class DiffusionSettings(CloningWeightSettings):
    """What the methods on a diffusion policy share."""

    gradient_clip: GradientClip = Field(default=1.0, description=_CLIP)
    bc_weight: PositiveFloat = Field(
        examples=[1.0], description="weight of predicting the data's noise"
    )
    diffusion_steps: PositiveInt = Field(
        default=10,
        description="N, the steps of the diffusion; `flow_steps` and `solver` are not used",
    )


class QSMSettings(DiffusionSettings, TiltSettings):
    """Q-score matching (Psenka et al., arXiv 2312.11752)."""

    method: str = "qsm"
    inverse_temperature: PositiveFloat = Field(
        examples=[10.0], description="τ, on the critic's gradient"
    )
    sampler: Literal["ddpm", "clean"] = Field(
        default="ddpm",
        description="the reverse step: the standard one (the paper), or a jump to the predicted "
        "clean action (the release)",
    )


class DACSettings(DiffusionSettings):
    """Diffusion actor-critic (Fang et al., arXiv 2405.20555)."""

    method: str = "dac"


class DSRLSettings(AgentSettings):
    """A policy over the noise of the behaviour flow (Wagenmaker et al., arXiv 2506.15799)."""

    method: str = "dsrl"
    noise_scale: PositiveFloat = Field(
        examples=[1.0], description="bound of an entry of the noise that the policy chooses"
    )
    target_entropy_scale: PositiveFloat = Field(default=0.5, description=_ENTROPY)


class ExpectileSettings(AgentSettings):
    """What the methods with an expectile regression share."""

    expectile: Annotated[float, Field(gt=0, lt=1), Allowed("a number between 0 and 1")] = Field(
        examples=[0.9], description="κ of the expectile regression; 0.5 is the mean"
    )


class IFQLSettings(ExpectileSettings):
    """Implicit Q-learning and the best of N flow samples (Park et al., arXiv 2502.02538)."""

    method: str = "ifql"
    best_of_n: PositiveInt = Field(default=32, description=_BEST)


class ReBRACSettings(CloningWeightSettings):
    """A deterministic policy with a cloning penalty (Tarasov et al., arXiv 2305.09836)."""

    method: str = "rebrac"
    bc_weight: PositiveFloat = Field(
        examples=[1.0], description="weight of the squared distance to the data's actions"
    )
    actor_noise: NonNegativeFloat = Field(
        examples=[0.0],
        description="standard deviation of the noise on actions, clipped to ±0.5",
    )
    policy_delay: PositiveInt = Field(
        default=2, description="updates between two steps of what `delayed` names"
    )
    delayed: Literal["actor", "targets"] = Field(
        default="actor",
        description="actor and targets (the paper), or the targets alone (the release)",
    )


class RLPDSettings(AgentSettings):
    """SAC on old and new data in equal parts (Ball et al., arXiv 2302.02948)."""

    method: str = "rlpd"
    bc_weight: NonNegativeFloat = Field(
        default=0.0, description="weight of the data's log probability"
    )
    target_entropy_scale: PositiveFloat = Field(default=0.5, description=_ENTROPY)
    sampling: Sampling = Field(default="balanced", description=_SAMPLING)


class RQLSettings(CloningWeightSettings, ExpectileSettings):
    """Reversal Q-learning (Oberai, Park and Levine, arXiv 2606.17551)."""

    method: str = "rql"
    bc_weight: PositiveFloat = Field(examples=[1.0], description="weight of flow matching")
    actor_target_rate: Fraction = Field(
        default=0.001,
        description="share of the velocity that the slow copy takes on at an update; the copy is "
        "what is evaluated",
    )
