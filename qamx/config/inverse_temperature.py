"""The settings of the inverse-temperature schedules.

An inverse temperature is written as a number, or as a table that names its schedule:
`inverse_temperature = { schedule = "linear", start = 0.0, stop = 3.0, updates = 100000 }`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import BeforeValidator, Field, PlainSerializer

from qamx import registry
from qamx._utils.defaults import KL_SCALE
from qamx.config.fields import Allowed, NonNegativeFloat, PositiveFloat, PositiveInt, Settings, Text
from qamx.config.messages import RegistryChoice

if TYPE_CHECKING:
    from qamx.schedules import AbstractInverseTemperature


class TemperatureSettings(Settings):
    """Base class for the settings of a temperature schedule of your own."""

    schedule: Text


@registry.temperatures.add(
    "constant", "the same inverse temperature throughout (a plain number in the file)"
)
class ConstantTemperature(TemperatureSettings):
    """The same inverse temperature throughout; a plain number in the file."""

    schedule: str = "constant"
    value: PositiveFloat
    """the same throughout; a plain number says the same"""

    def build(self) -> "AbstractInverseTemperature":
        from qamx.schedules import Constant

        return Constant(self.value)


@registry.temperatures.add(
    "linear", "from start to stop over a number of updates, stop from then on"
)
class LinearTemperature(TemperatureSettings):
    """A linear change from `start` to `stop` over `updates` updates, then `stop`."""

    schedule: str = "linear"
    start: NonNegativeFloat
    """at the first update"""
    stop: PositiveFloat
    """at the update `updates`, and from then on"""
    updates: PositiveInt
    """updates from `start` to `stop`"""

    def build(self) -> "AbstractInverseTemperature":
        from qamx.schedules import LinearSchedule

        return LinearSchedule(self.start, self.stop, self.updates)


@registry.temperatures.add(
    "trust_region", "whatever keeps the policy's paths within a divergence of the behaviour's"
)
class TrustRegionTemperature(TemperatureSettings):
    """Kept by a dual variable so that the policy stays within a divergence of its base."""

    schedule: str = "trust_region"
    kl_budget: PositiveFloat = Field(examples=[1.0])
    """nats per environment step between the policy's paths and the behaviour's"""
    kl_scale: PositiveFloat = KL_SCALE
    """as the key of `trqam`"""

    def build(self) -> "AbstractInverseTemperature":
        from qamx.schedules import TrustRegion

        return TrustRegion(self.kl_budget, self.kl_scale)


def build_temperature(settings: TemperatureSettings) -> "AbstractInverseTemperature":
    """The schedule of an inverse temperature, by its registered name."""
    return registry.temperatures.build(settings.schedule, settings)


_CHOICE = RegistryChoice(registry.temperatures, "schedule")


def _parse(value: object) -> object:
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        return _CHOICE.model_for(table).model_validate(table)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ConstantTemperature(value=value)
    return value


def _as_toml(temperature: TemperatureSettings) -> object:
    """The value that stands for a schedule in a file."""
    constant = isinstance(temperature, ConstantTemperature)
    return temperature.value if constant else temperature.model_dump()


InverseTemperature = Annotated[
    TemperatureSettings,
    BeforeValidator(_parse),
    PlainSerializer(_as_toml),
    _CHOICE,
    Allowed('a positive number, or a table such as { schedule = "linear", ... }'),
]
"""The type of a key that takes a number or a schedule's table."""
