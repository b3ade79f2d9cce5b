"""The stages of an agent's policy, with the critic along their flows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from jaxtyping import Array, Float

from qamx.agents import AbstractAgent
from qamx.nn import AbstractCritic
from qamx.policies import (
    AbstractDerivedPolicy,
    AbstractFineTunedFlow,
    AbstractPolicy,
    PolicyStage,
)

CriticAlongFlow: TypeAlias = Callable[[Array, Array, Array], Float[Array, "ensemble batch"]]
"""The critics' values at observations, states of a flow, and one flow time."""


@dataclass(frozen=True)
class PolicyStages:
    """An agent's policy in stages.

    **Arguments:**

    - `stages`: the last is what acts in evaluations; the first is what it was refined from.
    - `fine_tuned`: the flow that is fine-tuned on its base's SDE, if there is one.
    - `critic`: the slow copy, whose values policies and backups are about; `critic_along_flow`
      gives its values of partly noised actions at a flow time.
    """

    stages: tuple[PolicyStage, ...]
    fine_tuned: AbstractFineTunedFlow | None
    critic: AbstractCritic
    critic_along_flow: CriticAlongFlow

    @property
    def acting(self) -> PolicyStage:
        """The stage that acts in evaluations."""
        return self.stages[-1]

    @property
    def base(self) -> PolicyStage | None:
        """The stage that it was refined from; None where one network does all."""
        return self.stages[0] if len(self.stages) > 1 else None


def policy_stages(agent: AbstractAgent) -> PolicyStages:
    """The stages of the agent's policy as an evaluation samples it."""
    policy, critic = agent.policy.for_evaluation(), agent.critic
    return PolicyStages(
        tuple(policy.stages(critic)), _fine_tuned(policy), critic.target, critic.along_flow
    )


def _fine_tuned(policy: AbstractPolicy) -> AbstractFineTunedFlow | None:
    while isinstance(policy, AbstractDerivedPolicy):
        if isinstance(policy, AbstractFineTunedFlow):
            return policy
        policy = policy.base
    return None
