"""`[search]` of a suite: how settings are drawn, compared and stopped early."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from qamx.config.fields import (
    Allowed,
    Count,
    DefaultText,
    Number,
    PositiveInt,
    Seed,
    Settings,
    Switch,
)
from qamx.config.messages import field_errors, show, value_problem


class RangeSettings(Settings):
    """The values of a searched key between two ends, both included.

    They are integers if both ends are.
    """

    low: int | Number = Field(examples=[0.1])
    """the least value"""
    high: int | Number = Field(examples=[10.0])
    """the greatest value"""
    log: Switch = False
    """draw on a logarithmic scale"""

    @field_validator("high")
    @classmethod
    def _above(cls, high: float, info: ValidationInfo) -> float:
        low = info.data.get("low")
        if low is not None and high <= low:
            raise value_problem(f"found {show(high)}; write a number above low = {show(low)}")
        return high

    @field_validator("log")
    @classmethod
    def _positive(cls, log: bool, info: ValidationInfo) -> bool:
        low = info.data.get("low")
        if log and low is not None and low <= 0:
            text = f"found true with low = {show(low)}; write a low above 0, or leave log out"
            raise value_problem(text)
        return log

    @property
    def whole(self) -> bool:
        """True if the values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> list[Any]:
        """The least and the greatest value."""
        return [self.low, self.high]

    def __str__(self) -> str:
        scale = ", logarithmic" if self.log else ""
        return f"{'integers ' if self.whole else ''}{show(self.low)} to {show(self.high)}{scale}"


class ChoiceSettings(Settings):
    """The values of a searched key, listed."""

    values: tuple[Any, ...]

    @property
    def ends(self) -> list[Any]:
        """All values."""
        return list(self.values)

    def __str__(self) -> str:
        return f"one of {', '.join(map(show, self.values))}"


Parameter = RangeSettings | ChoiceSettings


class SearchSettings(Settings):
    """`[search]`: settings drawn by Optuna and compared by success, in place of a grid."""

    parameters: Annotated[
        dict[str, Any], Allowed("a table [search.parameters] of lists and ranges")
    ] = Field(examples=[{"agent.edit_scale": {"low": 0.01, "high": 1.0, "log": True}}])
    """the searched keys: a list of values, or a range `{ low = 0.1, high = 10.0, log = true }`,
    of integers if both ends are"""
    trials: PositiveInt = Field(examples=[30])
    """number of settings that are tried"""
    sampler: Literal["tpe", "random"] = "tpe"
    """`tpe`: a tree-structured Parzen estimator of the trials so far; `random`: draws without
    regard to them"""
    startup_trials: Count = 10
    """number of complete trials until which `tpe` draws at random"""
    seed: Seed = 0
    """seed of the draws; runs have their own seeds"""
    pruner: Literal["successive_halving", "none"] = "successive_halving"
    """`successive_halving`: a trial stops where it is not among the best of those that have come
    as far; `none`: every trial runs to its end"""
    min_steps: Annotated[PositiveInt | None, DefaultText("`evaluation.every`")] = Field(
        default=None, examples=[50_000]
    )
    """steps at which trials are first compared"""
    reduction_factor: Annotated[int, Field(ge=2), Allowed("an integer of at least 2")] = 3
    """1 of this many trials continues, to a next comparison at this many times the steps"""

    @field_validator("parameters")
    @classmethod
    def _any(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        if not parameters:
            raise value_problem("found {}; write keys with their values, e.g. agent.edit_scale")
        return parameters

    @property
    def searched(self) -> dict[str, Parameter]:
        """The searched keys with their values, of a table that `problems` finds right."""
        return {key: _parameter(value) for key, value in leaves(self.parameters)}

    def problems(self) -> Iterator[tuple[str, str]]:
        """The mistakes of the parameters: key and text."""
        for key, value in leaves(self.parameters):
            if isinstance(value, list) and value:
                continue
            if not isinstance(value, dict):
                text = "write a list of values, or a range { low = 0.1, high = 10.0 }"
                yield key, f"found {show(value)}; {text}"
                continue
            try:
                RangeSettings.model_validate(value)
            except ValidationError as error:
                for problem in field_errors(error, RangeSettings, value):
                    yield ".".join((key, *problem.key)), problem.text


def _parameter(value: Any) -> Parameter:
    if isinstance(value, list):
        return ChoiceSettings(values=tuple(value))
    return RangeSettings.model_validate(value)


def leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their lists and ranges; a table without a key of a range is a section."""
    for name, value in table.items():
        if isinstance(value, dict) and value.keys().isdisjoint(RangeSettings.model_fields):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
