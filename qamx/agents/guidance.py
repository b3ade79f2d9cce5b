"""Classifier-guided Q-learning: a behaviour flow guided by the critic as it acts.

The three variants of Li and Levine (arXiv 2601.14234) differ in what the critic knows of noised
actions.
"""

from typing import ClassVar

import equinox as eqx
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


class AbstractNoiseAwareCGQL(AbstractAgent[NoisyTemporalDifference, GuidedFlow]):
    """A critic that learns the values of noised actions too, and guides with those."""

    noisy_loss: eqx.AbstractClassVar[NoisyLoss]

    def __init__(
        self,
        parts: Parts,
        *,
        inverse_temperature: float,
        guidance_scale: float,
        noisy_critic_weight: float,
        key: Key,
    ):
        critic_key, flow_key = jax.random.split(key)
        self.critic = NoisyTemporalDifference(
            parts.with_target(parts.networks.flow_time_critic(critic_key)),
            parts.backup,
            self.noisy_loss,
            noisy_critic_weight,
            inverse_temperature,
        )
        flow = parts.slow_behaviour_flow(flow_key)
        self.policy = GuidedFlow(flow, inverse_temperature, guidance_scale, _same_time)


class CGQLMSE(AbstractNoiseAwareCGQL):
    """The value of a noised action is the mean of the clean ones'."""

    noisy_loss: ClassVar[NoisyLoss] = staticmethod(squared_error)


class CGQLLinex(AbstractNoiseAwareCGQL):
    """The value of a noised action is the soft maximum of the clean ones' (the energy of Lu et al.,
    arXiv 2304.12824)."""

    noisy_loss: ClassVar[NoisyLoss] = staticmethod(linex)


def _same_time(t: jax.Array) -> jax.Array:
    return t
