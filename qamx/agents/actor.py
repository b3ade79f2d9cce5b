"""Methods whose policy is one network: no flow, no diffusion."""

from dataclasses import replace
from typing import Literal

import jax

from qamx._types import Key
from qamx.agents.base import AbstractAgent
from qamx.agents.parts import Parts
from qamx.policies import DeterministicPolicy, GaussianPolicy
from qamx.rl import Delayed, TemporalDifference


class ReBRAC(AbstractAgent[TemporalDifference, DeterministicPolicy]):
    """TD critic x a deterministic policy with a cloning penalty (Tarasov et al.,
    arXiv 2305.09836).

    **Arguments:** every `policy_delay`-th update moves the targets, and with `delayed` "actor"
    (the paper) the actor too; with "targets" (the release) the actor learns at every update.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        bc_weight: float,
        actor_noise: float,
        policy_delay: int = 2,
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
    """TD critic without entropy in its backup x SAC's policy with a cloning term (Ball et al.,
    arXiv 2302.02948)."""

    def __init__(
        self, parts: Parts, *, bc_weight: float, target_entropy_scale: float = 0.5, key: Key
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
