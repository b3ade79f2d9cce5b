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


class QAMEditSettings(AdjointMatchingSettings):
    """QAM with a Gaussian edit of the fine-tuned flow's actions."""

    method: str = "qam_edit"
    edit_scale: Annotated[float, Field(gt=0, le=2), Allowed("a number above 0, at most 2")] = Field(
        examples=[0.1]
    )
    target_entropy_scale: PositiveFloat = 0.5
