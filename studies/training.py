"""Training policies by their own losses against a critic that is known."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from qamx._types import Key
from qamx.policies import AbstractPolicy
from qamx.rl import AbstractCriticLearning, frozen, trainable
from studies.problem import draw_batch, known_critic

Place = Callable[[Any, Any], Any]
"""The policy with a setting in the place of its default."""


@dataclass(frozen=True)
class Settings:
    """How a policy is trained.

    **Arguments:** `updates` of Adam from `learning_rate` to 0 by a cosine, on fresh batches of
    `batch_size`; 0 updates where there is nothing to learn.
    """

    updates: int = 0
    learning_rate: float = 1e-3
    batch_size: int = 256


@dataclass(frozen=True)
class Run:
    """One strength of a method.

    **Arguments:** `label` names the strength, `setting` is what `Variant.place` puts into the
    policy, `beta` the tilt that the strength stands for by the method's own account (None: none).
    """

    label: str
    setting: PyTree
    beta: float | None


def _as_known(policy: AbstractPolicy, setting: Any) -> AbstractCriticLearning[Any]:
    return known_critic()


@dataclass(frozen=True)
class Variant:
    """A method in one of its forms, over its strengths.

    **Arguments:** `build` makes the policy, `place` puts a run's setting into it, `critic` is what
    it learns from and acts by, given the policy as it is and the setting.
    """

    method: str
    form: str
    build: Callable[[Key], AbstractPolicy]
    place: Place
    runs: tuple[Run, ...]
    settings: Settings = field(default_factory=Settings)
    critic: Callable[[Any, Any], AbstractCriticLearning[Any]] = _as_known


def samples(variant: Variant, key: Key, n: int) -> Float[Array, "runs n dim"]:
    """Actions of every run of a variant after its training."""
    settings = [run.setting for run in variant.runs]
    if not variant.settings.updates:
        return jnp.stack([_law(variant, setting, key, n) for setting in settings])
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *settings)
    return eqx.filter_jit(jax.vmap(lambda setting: _law(variant, setting, key, n)))(stacked)


def _law(variant: Variant, setting: PyTree, key: Key, n: int) -> Float[Array, "n dim"]:
    build_key, train_key, sample_key = jax.random.split(key, 3)
    initial = variant.build(build_key)
    policy = variant.place(initial, setting)
    if variant.settings.updates:
        policy = train(
            policy,
            trainable(initial),
            lambda policy: variant.critic(policy, setting),
            variant.settings,
            train_key,
        )
    policy = policy.for_evaluation()
    return policy.sample(variant.critic(policy, setting), jnp.zeros((n, 1)), sample_key)


def train(
    policy: Any,
    learns: PyTree[bool],
    critic: Callable[[Any], AbstractCriticLearning[Any]],
    settings: Settings,
    key: Key,
) -> Any:
    """The policy after its updates by its own loss.

    **Arguments:** `learns` marks the arrays that are trained. It is given, since a strength that
    is an array here is a number that no optimiser touches in the library.
    """
    rate = optax.cosine_decay_schedule(settings.learning_rate, settings.updates)
    optimiser: Any = optax.adam(rate)
    arrays, static = eqx.partition(policy, eqx.is_array)

    def step(carry: Any, key: Key) -> tuple[Any, None]:
        arrays, state = carry
        policy = eqx.combine(arrays, static)
        batch_key, loss_key = jax.random.split(key)
        batch = draw_batch(batch_key, settings.batch_size)
        trained, rest = eqx.partition(policy, learns)

        def loss(trained: Any) -> Any:
            whole = eqx.combine(trained, rest)
            return whole.loss(frozen(critic(frozen(whole))), batch, loss_key)

        gradients, metrics = eqx.filter_grad(loss, has_aux=True)(trained)
        steps, state = optimiser.update(gradients, state, trained)
        policy = eqx.combine(eqx.apply_updates(trained, steps), rest).advance(metrics)
        return (eqx.filter(policy, eqx.is_array), state), None

    start = arrays, optimiser.init(eqx.filter(policy, learns))
    (arrays, _), _ = jax.lax.scan(step, start, jax.random.split(key, settings.updates))
    return eqx.combine(arrays, static)
