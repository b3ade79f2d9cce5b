"""Agents: critic learning and policy, their training state, update and optimiser."""

import math
from collections.abc import Callable
from dataclasses import fields
from numbers import Real
from typing import Any, Generic, Self, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PyTree

from qamx._types import Batch, Key, Metrics, Scalar
from qamx._utils.checks import check_observation_shape, check_shape, checked_observations
from qamx._utils.defaults import LEARNING_RATE
from qamx.policies import AbstractPolicy, BestOfN
from qamx.rl import AbstractCriticLearning, Delayed, frozen, trainable

C = TypeVar("C", bound=AbstractCriticLearning[Any], covariant=True)
P = TypeVar("P", bound=AbstractPolicy, covariant=True)


class AbstractAgent(eqx.Module, Generic[C, P]):
    """A critic and a policy that learn together.

    A method is a final subclass that names its two parts. The objective is the same offline
    and online.
    """

    critic: C
    policy: P

    def __check_init__(self):
        _check_numbers((self.critic, self.policy))

    @property
    def observation_size(self) -> int | None:
        """Entries of an observation; None for a critic that does not name them."""
        return getattr(self.critic.online, "observation_size", None)

    def act(self, observation: Float[Array, "batch obs"], key: Key) -> Float[Array, "batch dim"]:
        """An action chunk (flat, entries in [-1, 1]) for each observation, for data collection.

        **Raises:** `ValueError` for observations of another shape, or, outside of compiled
        functions, with entries that are not finite; so do the next two methods.
        """
        return self.policy.sample(self.critic, self._checked(observation), key)

    def act_in_evaluation(
        self, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        """An action chunk for evaluations; the same as `act` for most methods."""
        policy = self.policy.for_evaluation()
        return policy.sample(self.critic, self._checked(observation), key)

    def act_as_behaviour(
        self, observation: Float[Array, "batch obs"], key: Key
    ) -> Float[Array, "batch dim"]:
        """An action chunk of this agent's clone of the data.

        **Raises:** `ValueError` if the method keeps no separate clone.
        """
        if self.policy.behaviour is None:
            raise ValueError(f"{type(self.policy).__name__} keeps no clone of the data to act with")
        return self.policy.behaviour.sample(self.critic, self._checked(observation), key)

    def _checked(self, observation: Array) -> Array:
        if isinstance(observation, Tracer):  # whose entries are not known
            check_observation_shape(observation.shape, self.observation_size)
            return observation
        return jnp.asarray(checked_observations(observation, self.observation_size))

    def loss(self, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        """The sum of all objectives.

        Gradient routing: the critic is trained by its own loss alone (the policy that draws a' is
        frozen there), the policy by its own alone (the critic is frozen there).
        """
        critic_key, policy_key = jax.random.split(key)
        actor = frozen(self.policy).for_backup()
        critic_loss, critic_metrics = self.critic.loss(batch, actor, critic_key)
        policy_loss, metrics = self.policy.loss(frozen(self.critic), batch, policy_key)
        return critic_loss + policy_loss, (*critic_metrics, *metrics)

    def cloning_loss(self, batch: Batch, key: Key) -> tuple[Scalar, tuple[Metrics, ...]]:
        """The objective of behaviour cloning alone."""
        return self.policy.cloning_loss(batch, key)

    def advance(self, metrics: tuple[Metrics, ...]) -> Self:
        """The agent after an optimiser step on `loss`, with targets and schedules updated."""
        parts = self.critic.advance(), self.policy.advance(metrics)
        return eqx.tree_at(lambda agent: (agent.critic, agent.policy), self, parts)

    def start_from(self, clone: PyTree) -> Self:
        """The agent with its policy started from a clone of the data (another's `policy.clone`)."""
        return eqx.tree_at(lambda agent: agent.policy, self, self.policy.start_from(clone))


def _check_numbers(tree: PyTree) -> None:
    """Refuses parts whose fields of type `float` hold no finite number.

    **Raises:** `ValueError` with the field's name.
    """
    modules: list[eqx.Module] = []

    def collect(node: PyTree) -> bool:
        modules.extend([node] if isinstance(node, eqx.Module) else [])
        return False

    jax.tree.leaves(tree, is_leaf=collect)
    for module in modules:
        for field in fields(module):
            value = getattr(module, field.name) if field.type is float else 0.0
            if isinstance(value, jax.Array):
                continue
            number = isinstance(value, Real) and not isinstance(value, bool)
            if not (number and math.isfinite(float(value))):
                name = f"{type(module).__name__}.{field.name}"
                raise ValueError(f"{name}: found {value!r}; write a finite number, e.g. 1.0")


def _check_batch(agent: AbstractAgent, batch: Batch) -> None:
    """Refuses a batch of other shapes than the agent's.

    **Raises:** `ValueError` with the array's name and both shapes.
    """
    size = agent.observation_size or "obs"
    dim = getattr(agent.critic.online, "dim", "dim")
    check_shape("batch.observations", batch.observations.shape, ("batch", size))
    rows = len(batch.observations)
    check_shape("batch.next_observations", batch.next_observations.shape, (rows, size))
    check_shape("batch.actions", batch.actions.shape, (rows, dim))
    for name in ("rewards", "masks", "valid"):
        check_shape(f"batch.{name}", getattr(batch, name).shape, (rows,))


class Agent(AbstractAgent[C, P]):
    """Any critic learning with any policy, to compose your own method."""


def best_of_n(agent: AbstractAgent, draws: int) -> Agent:
    """The agent that acts with the best of several samples of another agent's policy."""
    return Agent(agent.critic, BestOfN(agent.policy, draws))


class UpdateMetrics(Metrics):
    """The summed loss and the global gradient norm (before clipping)."""

    loss: Scalar
    gradient_norm: Scalar


Objective: TypeAlias = Callable[[AbstractAgent, Batch, Key], tuple[Scalar, tuple[Metrics, ...]]]


class TrainState(eqx.Module):
    """Everything that an update changes."""

    agent: AbstractAgent
    optimiser_state: PyTree
    key: Key
    updates: Int[Array, ""]


def create_state(
    agent: AbstractAgent, optimiser: optax.GradientTransformation, key: Key
) -> TrainState:
    """The state before the first update; `key` seeds all random draws of updates."""
    agent = jax.tree.map(_strongly_typed, agent)
    return TrainState(agent, _start(agent, optimiser), key, jnp.zeros((), jnp.int32))


def restart_optimiser(state: TrainState, optimiser: optax.GradientTransformation) -> TrainState:
    """The state with a newly initialised optimiser."""
    fresh = _start(state.agent, optimiser)
    return eqx.tree_at(lambda s: s.optimiser_state, state, fresh)


def _start(agent: AbstractAgent, optimiser: optax.GradientTransformation) -> PyTree:
    return optimiser.init(eqx.filter(agent, trainable(agent)))


def _strongly_typed(leaf: PyTree) -> PyTree:
    # An array made from a Python number is weakly typed, and strongly after the first update:
    # the update would be compiled twice.
    return jnp.asarray(leaf, leaf.dtype) if eqx.is_inexact_array(leaf) else leaf


def update(
    state: TrainState, batch: Batch, optimiser: optax.GradientTransformation
) -> tuple[TrainState, tuple[Metrics, ...]]:
    """One optimiser step on the summed loss, then the targets follow.

    Pure and traceable; compile it (`equinox.filter_jit`, or the training loop of many updates).
    Targets follow the parameters from after the step.

    **Raises:** `ValueError` for a batch of other shapes than the agent's.
    """
    state, metrics = _step(state, batch, optimiser, type(state.agent).loss)
    return _with_agent(state, state.agent.advance(metrics)), metrics


def clone(
    state: TrainState, batch: Batch, optimiser: optax.GradientTransformation
) -> tuple[TrainState, tuple[Metrics, ...]]:
    """One optimiser step of behaviour cloning; parts refined from the clone are reset to it."""
    state, metrics = _step(state, batch, optimiser, type(state.agent).cloning_loss)
    return _with_agent(state, state.agent.start_from(state.agent.policy.clone)), metrics


def _step(
    state: TrainState, batch: Batch, optimiser: optax.GradientTransformation, objective: Objective
) -> tuple[TrainState, tuple[Metrics, ...]]:
    _check_batch(state.agent, batch)
    key, loss_key = jax.random.split(state.key)
    trained, rest = eqx.partition(state.agent, trainable(state.agent))

    def total(trained: AbstractAgent) -> tuple[Scalar, tuple[Metrics, ...]]:
        return objective(eqx.combine(trained, rest), batch, loss_key)

    (loss, metrics), gradients = eqx.filter_value_and_grad(total, has_aux=True)(trained)
    steps, optimiser_state = optimiser.update(gradients, state.optimiser_state, trained)
    agent = eqx.combine(eqx.apply_updates(trained, steps), rest)
    own = UpdateMetrics(loss, optax.tree.norm(gradients))
    return TrainState(agent, optimiser_state, key, state.updates + 1), (own, *metrics)


def _with_agent(state: TrainState, agent: AbstractAgent) -> TrainState:
    return eqx.tree_at(lambda s: s.agent, state, agent)


def adam(
    learning_rate: float = LEARNING_RATE, gradient_clip: float | None = None
) -> optax.GradientTransformation:
    """Adam over all trained networks together (Kingma and Ba, arXiv 1412.6980).

    Parts marked `Delayed` take a step, and update their moments, at every `period`-th update only.

    **Arguments:** `gradient_clip`, if given, bounds the global gradient norm (critic and
    policy together) before Adam.
    """

    def of(params: PyTree) -> optax.GradientTransformation:
        step = _by_period(learning_rate, _periods(params))
        if gradient_clip is None:
            return step
        return optax.chain(optax.clip_by_global_norm(gradient_clip), step)

    def init(params: Any) -> Any:
        return of(params).init(params)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return of(updates).update(updates, state, params)

    return optax.GradientTransformation(init, update)


def _by_period(learning_rate: float, periods: PyTree[int]) -> optax.GradientTransformation:
    distinct = set(jax.tree.leaves(periods))
    if distinct <= {1}:
        return optax.adam(learning_rate)
    steps = {period: _every(period, optax.adam(learning_rate)) for period in distinct}
    return optax.partition(steps, periods)


def _every(period: int, adam: optax.GradientTransformation) -> optax.GradientTransformation:
    def is_due(step: Any, **_: Any) -> Any:
        return step % period == 0

    return optax.transforms.conditionally_mask(adam, is_due)


def _periods(parameters: PyTree) -> PyTree[int]:
    """Updates between two steps of each parameter."""

    def is_delayed(node: PyTree) -> bool:
        return isinstance(node, Delayed)

    def period(node: PyTree) -> PyTree[int]:
        if is_delayed(node):
            return jax.tree.map(lambda _: node.period, node)
        return 1

    return jax.tree.map(period, parameters, is_leaf=is_delayed)
