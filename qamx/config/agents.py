"""The settings of the built-in methods; none of them imports JAX."""

from typing import Annotated, Literal

from pydantic import Field

from qamx.config.fields import (
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
from qamx.config.temperatures import InverseTemperature

Solver = Literal["euler", "heun", "midpoint", "ralston", "bosh3", "tsit5", "dopri5"]
"""Diffrax's fixed-step solvers for the flow's ODE."""

GradientClip = Annotated[
    PositiveFloat | Literal["none"], Allowed('a positive number, or "none" for no clipping')
]

Sampling = Literal["uniform", "balanced"]
"""How batches are drawn: over old and new data alike, or half from each."""

_HIDDEN = (512, 512, 512, 512)


class AgentSettings(Settings):
    """What all methods share. Base class for the settings of a method of your own."""

    method: Text = Field(examples=["qam"])
    horizon: PositiveInt = Field(examples=[5])
    discount: Discount = Field(examples=[0.99])
    pessimism: NonNegativeFloat = 0.0
    target_rate: Fraction = 0.005
    ensemble_size: PositiveInt = 10
    flow_steps: PositiveInt = 10
    solver: Solver = "euler"
    actor_hidden: HiddenSizes = _HIDDEN
    critic_hidden: HiddenSizes = _HIDDEN
    actor_layer_norm: Switch = False
    critic_layer_norm: Switch = True
    batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 3e-4
    gradient_clip: GradientClip = "none"
    sampling: Sampling = "uniform"
    best_of_n: PositiveInt | None = Field(None, examples=[32])
    initialise_from: Text | None = Field(None, examples=["runs/c4_qam-task2-seed10001"])


class AdjointMatchingSettings(AgentSettings):
    """What the methods with an adjoint-matched flow share."""

    gradient_clip: GradientClip = 1.0
    inverse_temperature: InverseTemperature = Field(examples=[1.0])


class QAMSettings(AdjointMatchingSettings):
    """Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234)."""

    method: str = "qam"


class QAMFQLSettings(AdjointMatchingSettings):
    """QAM with a one-step policy distilled from the fine-tuned flow."""

    method: str = "qam_fql"
    distill_weight: PositiveFloat = Field(examples=[30.0])


class EditSettings(AgentSettings):
    """What the methods with an edit policy share."""

    edit_scale: Annotated[float, Field(gt=0, le=2), Allowed("a number above 0, at most 2")] = Field(
        examples=[0.1]
    )
    target_entropy_scale: PositiveFloat = 0.5


class QAMEditSettings(AdjointMatchingSettings, EditSettings):
    """QAM with a Gaussian edit of the fine-tuned flow's actions."""

    method: str = "qam_edit"


class TRQAMSettings(AgentSettings):
    """QAM within a trust region (Dong et al., arXiv 2605.27079)."""

    method: str = "trqam"
    gradient_clip: GradientClip = 1.0
    kl_budget: PositiveFloat = 1.0
    kl_scale: PositiveFloat = 3.0


class TiltSettings(AgentSettings):
    """What the methods with a plain inverse temperature share."""

    inverse_temperature: PositiveFloat = Field(examples=[10.0])


class CloningWeightSettings(AgentSettings):
    """What the methods with a weight on behaviour cloning share."""

    bc_weight: PositiveFloat = Field(examples=[1.0])


class BAMSettings(TiltSettings):
    """Backpropagation through the whole memoryless SDE (Li and Levine, arXiv 2601.14234)."""

    method: str = "bam"
    gradient_clip: GradientClip = 1.0


class FBRACSettings(CloningWeightSettings):
    """A flow improved through its ODE (Park et al., arXiv 2502.02538)."""

    method: str = "fbrac"


class FQLSettings(CloningWeightSettings):
    """A one-step policy over the behaviour flow (Park et al., arXiv 2502.02538)."""

    method: str = "fql"


class FEditSettings(EditSettings):
    """A Gaussian edit of the behaviour flow's actions (Dong et al., arXiv 2507.07986)."""

    method: str = "fedit"


class FAWACSettings(TiltSettings):
    """Advantage-weighted flow matching (Park et al., arXiv 2502.02538)."""

    method: str = "fawac"
    value_target: Literal["td", "critic"] = "td"


class CGQLSettings(TiltSettings):
    """A flow guided by a critic of clean actions (Li and Levine, arXiv 2601.14234)."""

    method: str = "cgql"
    guidance_scale: PositiveFloat = Field(examples=[0.1])


class NoisyCGQLSettings(CGQLSettings):
    """What the guided methods share whose critic knows noised actions."""

    noisy_critic_weight: PositiveFloat = Field(examples=[0.1])


class CGQLMSESettings(NoisyCGQLSettings):
    """A flow guided by a critic of noised actions, fitted by squares."""

    method: str = "cgql_mse"


class CGQLLinexSettings(NoisyCGQLSettings):
    """A flow guided by a critic of noised actions, fitted by the LINEX loss."""

    method: str = "cgql_linex"


class DiffusionSettings(CloningWeightSettings):
    """What the methods on a diffusion policy share."""

    gradient_clip: GradientClip = 1.0
    diffusion_steps: PositiveInt = 10


class QSMSettings(DiffusionSettings, TiltSettings):
    """Q-score matching (Psenka et al., arXiv 2312.11752)."""

    method: str = "qsm"
    sampler: Literal["ddpm", "clean"] = "ddpm"


class DACSettings(DiffusionSettings):
    """Diffusion actor-critic (Fang et al., arXiv 2405.20555)."""

    method: str = "dac"


class DSRLSettings(AgentSettings):
    """A policy over the noise of the behaviour flow (Wagenmaker et al., arXiv 2506.15799)."""

    method: str = "dsrl"
    noise_scale: PositiveFloat = Field(examples=[1.0])
    target_entropy_scale: PositiveFloat = 0.5


class ExpectileSettings(AgentSettings):
    """What the methods with an expectile regression share."""

    expectile: Annotated[float, Field(gt=0, lt=1), Allowed("a number between 0 and 1")] = Field(
        examples=[0.9]
    )


class IFQLSettings(ExpectileSettings):
    """Implicit Q-learning and the best of N flow samples (Park et al., arXiv 2502.02538)."""

    method: str = "ifql"
    best_of_n: PositiveInt = 32


class ReBRACSettings(CloningWeightSettings):
    """A deterministic policy with a cloning penalty (Tarasov et al., arXiv 2305.09836)."""

    method: str = "rebrac"
    actor_noise: NonNegativeFloat = Field(examples=[0.0])
    policy_delay: PositiveInt = 2
    delayed: Literal["actor", "targets"] = "actor"


class RLPDSettings(AgentSettings):
    """SAC on old and new data in equal parts (Ball et al., arXiv 2302.02948)."""

    method: str = "rlpd"
    bc_weight: NonNegativeFloat = 0.0
    target_entropy_scale: PositiveFloat = 0.5
    sampling: Sampling = "balanced"


class RQLSettings(CloningWeightSettings, ExpectileSettings):
    """Reversal Q-learning (Oberai, Park and Levine, arXiv 2606.17551)."""

    method: str = "rql"
    actor_target_rate: Fraction = 0.001
