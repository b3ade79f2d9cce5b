"""Registers a method of its own, FQL: a one-step policy over a behaviour flow.

Run as a script it trains for a few dozen steps with `own_method.toml`.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from qamx import registry
from qamx.config import AgentSettings
from qamx.config.fields import PositiveFloat

if TYPE_CHECKING:
    import jax

    from qamx.agents import Agent, Parts


# --8<-- [start:plugin]
class MyFQLSettings(AgentSettings):
    """The keys of `[agent]` that this method has beside the common ones."""

    method: str = "my_fql"
    distill_weight: PositiveFloat = Field(examples=[10.0])


def build(settings: MyFQLSettings, parts: "Parts", key: "jax.Array") -> "Agent":
    """A TD critic, and a one-step policy that follows the behaviour flow and climbs the critic."""
    import jax

    from qamx.agents import Agent

    critic_key, flow_key, policy_key = jax.random.split(key, 3)
    flow = parts.behaviour_flow(flow_key)
    return Agent(
        critic=parts.temporal_difference(critic_key),
        policy=parts.one_step(flow, settings.distill_weight, policy_key),
    )


registry.register_agent(
    "my_fql",
    settings=MyFQLSettings,
    builder="own_method_plugin:build",
    summary="FQL: a one-step policy over a behaviour flow",
)
# --8<-- [end:plugin]


if __name__ == "__main__":
    from qamx.cli import main

    sys.exit(main(["run", str(Path(__file__).with_name("own_method.toml")), *sys.argv[1:]]))
