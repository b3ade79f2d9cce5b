"""Methods on a diffusion policy, tilted by the critic's gradient at noised actions."""

from typing import Literal

import jax

from qamx._types import Key
from qamx.agents.base import AbstractAgent
from qamx.agents.parts import Parts
from qamx.policies import (
    CriticGuidedDiffusion,
    ScoreMatchedDiffusion,
    VariancePreserving,
    clean_step,
    clipped_step,
    posterior_step,
)
from qamx.rl import TemporalDifference


class QSM(AbstractAgent[TemporalDifference, ScoreMatchedDiffusion]):
    """TD critic x a diffusion policy whose score is the critic's gradient (Psenka et al.,
    arXiv 2312.11752).

    **Arguments:** `sampler` is the reverse process: the standard one ("ddpm", the paper), or jumps
    to the predicted clean action ("clean", the release).
    """

    def __init__(
        self,
        parts: Parts,
        *,
        inverse_temperature: float,
        bc_weight: float,
        diffusion_steps: int = 10,
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
    """TD critic x a diffusion policy pushed along the critic's gradient (Fang et al.,
    arXiv 2405.20555)."""

    def __init__(self, parts: Parts, *, bc_weight: float, diffusion_steps: int = 10, key: Key):
        critic_key, policy_key = jax.random.split(key)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = CriticGuidedDiffusion(
            predictor=parts.networks.noise_predictor(policy_key),
            schedule=VariancePreserving(diffusion_steps),
            reverse_step=posterior_step,
            bc_weight=bc_weight,
            dim=parts.action_dim,
        )
