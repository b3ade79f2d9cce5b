"""The settings of the inverse-temperature schedules.

An inverse temperature is written as a number, or as a table that names its schedule:
`inverse_temperature = { schedule = "linear", start = 0.0, stop = 3.0, updates = 100000 }`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, Field, PlainSerializer

from qamx import registry
from qamx.config.fields import Allowed, NonNegativeFloat, PositiveFloat, PositiveInt, Settings, Text
from qamx.config.messages import Variants


class TemperatureSettings(Settings):
    """Base class for the settings of a temperature schedule of your own."""

    schedule: Text

    def as_toml(self) -> object:
        """The value that stands for this schedule in a file."""
        return self.model_dump()


class ConstantTemperature(TemperatureSettings):
    """The same inverse temperature throughout; a plain number in the file."""

    schedule: str = "constant"
    value: PositiveFloat = Field(description="the same throughout; a plain number says the same")

    def as_toml(self) -> object:
        return self.value


class LinearTemperature(TemperatureSettings):
    """From `start` to `stop` over `updates` updates, `stop` from then on."""

    schedule: str = "linear"
    start: NonNegativeFloat = Field(description="at the first update")
    stop: PositiveFloat = Field(description="from `updates` on")
    updates: PositiveInt = Field(description="updates from `start` to `stop`")


class TrustRegionTemperature(TemperatureSettings):
    """Kept by a dual variable so that the policy stays within a divergence of its base."""

    schedule: str = "trust_region"
    kl_budget: PositiveFloat = Field(
        examples=[1.0],
        description="nats per environment step between the policy's paths and the behaviour's",
    )
    kl_scale: PositiveFloat = Field(default=3.0, description="as the key of `trqam`")


_VARIANTS = Variants(registry.temperatures, "schedule")


def _parse(value: object) -> object:
    if isinstance(value, Mapping):
        table = cast(Mapping[str, Any], value)
        return _VARIANTS.model_for(table).model_validate(table)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ConstantTemperature(value=value)
    return value


def _as_toml(temperature: TemperatureSettings) -> object:
    return temperature.as_toml()


InverseTemperature = Annotated[
    TemperatureSettings,
    BeforeValidator(_parse),
    PlainSerializer(_as_toml),
    _VARIANTS,
    Allowed('a positive number, or a table such as { schedule = "linear", ... }'),
]
"""The type of a key that takes a number or a schedule's table."""
