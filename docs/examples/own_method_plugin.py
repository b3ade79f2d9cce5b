"""Registers the method of `own_method.py`, so that an experiment file can name it.

Run as a script it trains for a few dozen steps with `own_method.toml`.
"""

import sys
from pathlib import Path

# --8<-- [start:plugin]
from typing import Annotated

from pydantic import Field

from qamx import registry
from qamx.config import AgentSettings, Allowed, InverseTemperature

Expectile = Annotated[float, Field(gt=0, lt=1), Allowed("a number between 0 and 1")]


class ImplicitQAMSettings(AgentSettings):
    """The keys of `[agent]` that this method has beside the common ones."""

    method: str = "implicit_qam"
    inverse_temperature: InverseTemperature = Field(examples=[1.0])
    expectile: Expectile = 0.9


registry.register_agent(
    "implicit_qam",
    settings=ImplicitQAMSettings,
    builder="own_method:ImplicitQAM",
    summary="QAM on a critic of implicit Q-learning",
)
# --8<-- [end:plugin]


if __name__ == "__main__":
    from qamx.cli import main

    sys.exit(main(["run", str(Path(__file__).with_name("own_method.toml")), *sys.argv[1:]]))
