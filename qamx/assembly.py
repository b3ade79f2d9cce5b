"""From the settings of a method to an agent: what needs neither data nor environment."""

import inspect
from collections.abc import Callable
from typing import Any

import optax

from qamx import registry
from qamx._types import Key
from qamx.agents import AbstractAgent, Parts, adam, best_of_n
from qamx.config.agents import AgentSettings
from qamx.config.inverse_temperature import (
    ConstantTemperature,
    LinearTemperature,
    TemperatureSettings,
    TrustRegionTemperature,
)
from qamx.data.replay import BalancedSampling, Sampling, UniformSampling
from qamx.flow import SOLVERS, Integrator
from qamx.nn import Networks
from qamx.rl import Backup
from qamx.schedules import AbstractInverseTemperature, Constant, Linear, TrustRegion


def builder_of(kind: registry.Registry, name: str) -> Callable[..., Any]:
    """What a registry has for building the entry of that name."""
    return kind[name].load_builder()


def build_agent(
    settings: AgentSettings, observation_size: int, action_size: int, key: Key
) -> AbstractAgent:
    """A fresh agent of the registered method, in the sizes of a problem."""
    parts = build_parts(settings, observation_size, action_size)
    builder = builder_of(registry.agents, settings.method)
    if not isinstance(builder, type):
        return _best_of(settings.best_of_n, builder(settings, parts, key))
    values = {
        name: _part(getattr(settings, name))
        for name in inspect.signature(builder).parameters
        if name not in ("parts", "key")
    }
    agent = builder(parts, **values, key=key)
    return agent if "best_of_n" in values else _best_of(settings.best_of_n, agent)


def _part(value: Any) -> Any:
    """What an agent's argument is for the value of a key."""
    return inverse_temperature(value) if isinstance(value, TemperatureSettings) else value


def _best_of(draws: int | None, agent: AbstractAgent) -> AbstractAgent:
    return agent if draws is None else best_of_n(agent, draws)


def build_parts(settings: AgentSettings, observation_size: int, action_size: int) -> Parts:
    """The parts that the common keys of `[agent]` describe."""
    networks = Networks(
        observation_size=observation_size,
        action_dim=settings.horizon * action_size,
        actor_hidden=tuple(settings.actor_hidden),
        critic_hidden=tuple(settings.critic_hidden),
        ensemble_size=settings.ensemble_size,
        actor_layer_norm=settings.actor_layer_norm,
        critic_layer_norm=settings.critic_layer_norm,
    )
    backup = Backup(settings.discount, settings.horizon, settings.pessimism)
    integrator = Integrator(settings.flow_steps, SOLVERS[settings.solver]())
    return Parts(networks, backup, integrator, settings.target_rate)


def build_optimiser(settings: AgentSettings) -> optax.GradientTransformation:
    """Adam with the learning rate and the clipping of `[agent]`."""
    clip = None if settings.gradient_clip == "none" else float(settings.gradient_clip)
    return adam(settings.learning_rate, clip)


def build_sampling(settings: AgentSettings) -> Sampling:
    """How the keys of `[agent]` have batches drawn."""
    sampling = {"uniform": UniformSampling, "balanced": BalancedSampling}[settings.sampling]
    return sampling(settings.batch_size, settings.horizon, settings.discount)


# --- what the registry's built-in names of temperatures stand for ---


def inverse_temperature(settings: TemperatureSettings) -> AbstractInverseTemperature:
    """The registered schedule of an inverse temperature."""
    return builder_of(registry.temperatures, settings.schedule)(settings)


def constant(settings: ConstantTemperature) -> Constant:
    """A number, or `schedule = "constant"`."""
    return Constant(settings.value)


def linear(settings: LinearTemperature) -> Linear:
    """`schedule = "linear"`."""
    return Linear(settings.start, settings.stop, settings.updates)


def trust_region(settings: TrustRegionTemperature) -> TrustRegion:
    """`schedule = "trust_region"`."""
    return TrustRegion(settings.kl_budget, settings.kl_scale)
