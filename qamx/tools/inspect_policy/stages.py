"""What a policy is made of, stage by stage: the one place that knows policies by their types."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from qamx._types import Key
from qamx.agents import AbstractAgent
from qamx.flow import Integrator
from qamx.nn import AbstractCritic, AbstractVelocityField
from qamx.policies import (
    AbstractDerivedPolicy,
    AbstractDiffusionPolicy,
    AbstractFineTunedFlow,
    AbstractImprovedFlow,
    AbstractPolicy,
    BehaviourFlow,
    BestOfN,
    Critic,
    DeterministicPolicy,
    EditPolicy,
    GaussianPolicy,
    GuidedFlow,
    LatentPolicy,
    OneStepPolicy,
    ReversalFlow,
    SlowBehaviourFlow,
)
from qamx.policies.base import clip_action, require_flow_time
from qamx.rl import NoisyTemporalDifference, ReversalLearning

Draw: TypeAlias = Callable[[Float[Array, "batch obs"], Key], Float[Array, "batch dim"]]
"""Action chunks, or a flow's noise, for observations."""


@dataclass(frozen=True)
class Route:
    """A flow on its way: where it starts, and what moves it."""

    start: Draw
    velocity: AbstractVelocityField
    integrator: Integrator


@dataclass(frozen=True)
class Stage:
    """A policy on the way from the data's clone to what acts.

    **Arguments:** `draw` gives its chunks; `route` is the ODE that they come from, if there is
    one. Stages that are given the same key start their flows from the same noise.
    """

    name: str
    draw: Draw
    route: Route | None = None


@dataclass(frozen=True)
class Anatomy:
    """An agent taken apart.

    **Arguments:**

    - `stages`: the last is what acts in evaluations; the first is what it was refined from.
    - `fine_tuned`: the flow that is fine-tuned on its base's SDE, if there is one.
    - `critic`: the slow copy, whose values policies and backups are about; `along` gives its
      values of partly noised actions at a flow time.
    """

    stages: tuple[Stage, ...]
    fine_tuned: AbstractFineTunedFlow | None
    critic: AbstractCritic
    along: "Along"

    @property
    def acting(self) -> Stage:
        """What acts in evaluations."""
        return self.stages[-1]

    @property
    def base(self) -> Stage | None:
        """What it was refined from; None where one network does all."""
        return self.stages[0] if len(self.stages) > 1 else None


Along: TypeAlias = Callable[[Array, Array, Array], Float[Array, "ensemble batch"]]
"""The critics' values at observations, states of a flow, and one flow time."""


def take_apart(agent: AbstractAgent) -> Anatomy:
    """The agent's stages, as it acts in evaluations."""
    policy = agent.policy.for_evaluation()
    return Anatomy(
        tuple(stages(policy, agent.critic)),
        _fine_tuned(policy),
        agent.critic.target,
        along(agent.critic),
    )


def _fine_tuned(policy: AbstractPolicy) -> AbstractFineTunedFlow | None:
    while isinstance(policy, AbstractDerivedPolicy):
        if isinstance(policy, AbstractFineTunedFlow):
            return policy
        policy = policy.base
    return None


# --- the critic on the way ---


@functools.singledispatch
def along(critic: Any) -> Along:
    """What the critic says of a flow's state: its value of the state as an action, clipped."""
    return lambda observation, x, t: critic.target(observation, clip_action(x))


@along.register
def _(critic: NoisyTemporalDifference | ReversalLearning) -> Along:
    # These are taught what noised actions are worth; at t = 1 the action is the one played.
    target = require_flow_time(critic.target)
    return lambda observation, x, t: target.at(
        observation, jnp.where(t < 1.0, x, clip_action(x)), t
    )


# --- the stages of each kind of policy ---


@functools.singledispatch
def stages(policy: AbstractPolicy, critic: Critic) -> list[Stage]:
    """The stages of a policy, the one that acts last."""
    return [_plain(type(policy).__name__, policy, critic)]


def _plain(name: str, policy: AbstractPolicy, critic: Critic) -> Stage:
    return Stage(name, lambda observation, key: policy.sample(critic, observation, key))


def _flow(name: str, start: Draw, velocity: AbstractVelocityField, steps: Integrator) -> Stage:
    from qamx.flow import sample_ode

    def draw(observation: Array, key: Key) -> Array:
        return clip_action(sample_ode(velocity, observation, start(observation, key), steps))

    return Stage(name, draw, Route(start, velocity, steps))


@stages.register
def _(policy: AbstractDerivedPolicy, critic: Critic) -> list[Stage]:
    return [*stages(policy.base, critic), _plain(type(policy).__name__, policy, critic)]


@stages.register
def _(policy: BehaviourFlow | SlowBehaviourFlow, critic: Critic) -> list[Stage]:
    return [_flow("behaviour flow", policy.noise, policy.velocity, policy.integrator)]


@stages.register
def _(policy: AbstractFineTunedFlow, critic: Critic) -> list[Stage]:
    own = _flow("fine-tuned flow", policy.noise, policy.velocity, policy.integrator)
    return [*stages(policy.base, critic), own]


@stages.register
def _(policy: OneStepPolicy, critic: Critic) -> list[Stage]:
    return [*stages(policy.base, critic), _plain("one-step policy", policy, critic)]


@stages.register
def _(policy: EditPolicy, critic: Critic) -> list[Stage]:
    return [*stages(policy.base, critic), _plain("edited", policy, critic)]


@stages.register
def _(policy: BestOfN, critic: Critic) -> list[Stage]:
    return [*stages(policy.base, critic), _plain(f"best of {policy.draws}", policy, critic)]


@stages.register
def _(policy: LatentPolicy, critic: Critic) -> list[Stage]:
    base = stages(policy.base, critic)
    route = base[-1].route
    if route is None:
        return [*base, _plain("steered", policy, critic)]
    own = _flow("steered flow", policy.chosen_noise, route.velocity, route.integrator)
    return [*base, own]


@stages.register
def _(policy: GuidedFlow, critic: Critic) -> list[Stage]:
    base = policy.base
    own = _flow("guided flow", base.noise, policy.guided(critic), base.integrator)
    return [*stages(base, critic), own]


@stages.register
def _(policy: AbstractImprovedFlow, critic: Critic) -> list[Stage]:
    return [_flow("flow", policy.noise, policy.base.velocity, policy.base.integrator)]


@stages.register
def _(policy: ReversalFlow, critic: Critic) -> list[Stage]:
    return [_flow("flow", policy.noise, policy.base.clone, policy.base.integrator)]


@stages.register
def _(policy: AbstractDiffusionPolicy, critic: Critic) -> list[Stage]:
    return [_plain("diffusion policy", policy, critic)]


@stages.register
def _(policy: DeterministicPolicy, critic: Critic) -> list[Stage]:
    return [_plain("deterministic policy", policy, critic)]


@stages.register
def _(policy: GaussianPolicy, critic: Critic) -> list[Stage]:
    return [_plain("Gaussian policy", policy, critic)]
