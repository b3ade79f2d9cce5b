"""A method of one's own: QAM's flow on a critic that is never asked about other actions."""

from typing import Annotated

from pydantic import Field

from qamx import registry
from qamx.config import AgentSettings, Allowed, PositiveFloat


class ImplicitQAMSettings(AgentSettings):
    """The keys of `[agent]` beside the common ones."""

    method: str = "implicit_qam"
    inverse_temperature: PositiveFloat
    expectile: Annotated[float, Field(gt=0, lt=1), Allowed("a number between 0 and 1")] = 0.9


def build(settings, parts, key):
    """Implicit Q-learning and an adjoint-matched flow, in the sizes of the problem."""
    import jax  # here, so that `qamx check` need not wait for it

    from qamx import Agent
    from qamx.rl import ImplicitQLearning
    from qamx.schedules import Constant

    critic_key, value_key, flow_key = jax.random.split(key, 3)
    critic = parts.with_target(parts.networks.critic(critic_key))
    value = parts.networks.value(value_key)
    temperature = Constant(settings.inverse_temperature)
    return Agent(
        critic=ImplicitQLearning(critic, value, parts.backup, settings.expectile),
        policy=parts.adjoint_matched_flow(temperature, flow_key),
    )


registry.register_agent(
    "implicit_qam", settings=ImplicitQAMSettings, builder=build, summary="QAM on an implicit critic"
)
