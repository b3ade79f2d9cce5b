"""Reversal Q-learning (Oberai, Park and Levine, arXiv 2606.17551)."""

import jax

from qamx._types import Key
from qamx.agents.base import AbstractAgent
from qamx.agents.parts import Parts
from qamx.policies import ReversalFlow, SlowBehaviourFlow
from qamx.rl import ReversalLearning, WithTarget


class RQL(AbstractAgent[ReversalLearning, ReversalFlow]):
    """A critic on the states that the flow passes x a flow whose every step climbs it.

    **Arguments:** `actor_target_rate` is 1 less the decay of the moving average that is evaluated.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        bc_weight: float,
        expectile: float,
        actor_target_rate: float = 0.001,
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
        self.policy = ReversalFlow(SlowBehaviourFlow(flow), bc_weight)
