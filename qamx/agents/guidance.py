"""Classifier-guided Q-learning: a behaviour flow guided by the critic as it acts.

The three variants of Li and Levine (arXiv 2601.14234) differ in what the critic knows of noised
actions.
"""

import jax
import jax.numpy as jnp

from qamx._types import Key
from qamx.agents.base import AbstractAgent
from qamx.agents.parts import Parts
from qamx.policies import GuidedFlow
from qamx.rl import NoisyTemporalDifference, TemporalDifference, linex, squared_error
from qamx.rl.noisy_critic import NoisyLoss


class CGQL(AbstractAgent[TemporalDifference, GuidedFlow]):
    """A TD critic of clean actions, its gradient taken at noised ones as if they were clean."""

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
    """A critic that also regresses noised actions' values to the soft maximum of the clean ones'
    (the energy of Lu et al., arXiv 2304.12824)."""

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
