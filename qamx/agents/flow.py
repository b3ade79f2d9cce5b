"""Methods on a behaviour flow: followed, edited, improved, weighted, steered, or chosen from."""

from typing import Literal

import jax

from qamx._types import Key
from qamx.agents.base import AbstractAgent
from qamx.agents.parts import Parts
from qamx.policies import (
    AdvantageWeightedFlow,
    BestOfN,
    EditPolicy,
    FlowActor,
    LatentPolicy,
    OneStepPolicy,
)
from qamx.rl import (
    AdvantageLearning,
    ImplicitQLearning,
    TemporalDifference,
    data_value,
    td_value,
)


class FQL(AbstractAgent[TemporalDifference, OneStepPolicy]):
    """TD critic x a one-step policy that follows the behaviour flow (Park et al.,
    arXiv 2502.02538)."""

    def __init__(self, parts: Parts, *, bc_weight: float, key: Key):
        critic_key, flow_key, policy_key = jax.random.split(key, 3)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = parts.one_step(parts.behaviour_flow(flow_key), bc_weight, policy_key)


class FEdit(AbstractAgent[TemporalDifference, EditPolicy]):
    """TD critic x a Gaussian edit of the behaviour flow's actions (after EXPO, Dong et al.,
    arXiv 2507.07986)."""

    def __init__(
        self, parts: Parts, *, edit_scale: float, target_entropy_scale: float = 0.5, key: Key
    ):
        critic_key, flow_key, edit_key = jax.random.split(key, 3)
        self.critic = parts.temporal_difference(critic_key)
        flow = parts.behaviour_flow(flow_key)
        self.policy = parts.edit(flow, edit_scale, target_entropy_scale, edit_key)


class FBRAC(AbstractAgent[TemporalDifference, FlowActor]):
    """TD critic x a flow that climbs it through all steps of its ODE (Park et al.,
    arXiv 2502.02538)."""

    def __init__(self, parts: Parts, *, bc_weight: float, key: Key):
        critic_key, flow_key = jax.random.split(key)
        self.critic = parts.temporal_difference(critic_key)
        self.policy = FlowActor(parts.behaviour_flow(flow_key), bc_weight)


class FAWAC(AbstractAgent[AdvantageLearning, AdvantageWeightedFlow]):
    """TD critic with a state value x advantage-weighted flow matching (Park et al.,
    arXiv 2502.02538).

    **Arguments:** `value_target` is what V regresses to: the critics' TD target ("td", the paper)
    or the target critics at the data's chunks ("critic", the release).
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
    """TD critic x a policy over the noise of the behaviour flow's target (Wagenmaker et al.,
    arXiv 2506.15799)."""

    def __init__(
        self, parts: Parts, *, noise_scale: float, target_entropy_scale: float = 0.5, key: Key
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
    """Implicit Q-learning x the best of N samples of the behaviour flow (Park et al.,
    arXiv 2502.02538)."""

    def __init__(self, parts: Parts, *, expectile: float, best_of_n: int = 32, key: Key):
        critic_key, value_key, flow_key = jax.random.split(key, 3)
        self.critic = ImplicitQLearning(
            parts.with_target(parts.networks.critic(critic_key)),
            parts.networks.value(value_key),
            parts.backup,
            expectile,
        )
        self.policy = BestOfN(parts.behaviour_flow(flow_key), best_of_n)
