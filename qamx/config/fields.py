"""The building blocks of every settings model: its base class and its types of values.

A type carries the text that an error shows with a rejected value; a field's docstring, or its
`description`, is the key's meaning in the documentation (`docs/keys.py` makes its tables of them).
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from qamx._utils.defaults import ALLOWED, SEEDS


class Settings(BaseModel):
    """A frozen table of an experiment file: exact types, no unknown key, no NaN or infinity."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True
    )


@dataclass(frozen=True)
class Allowed:
    """A description of a field's values, as in "write `text`"."""

    text: str


@dataclass(frozen=True)
class DefaultText:
    """The default of a key in words, if its value does not say it."""

    text: str


PositiveInt = Annotated[int, Field(gt=0), Allowed("a positive integer")]
Count = Annotated[int, Field(ge=0), Allowed("an integer of at least 0")]
Seed = Annotated[int, Field(ge=0, lt=SEEDS), Allowed(ALLOWED)]
Number = Annotated[float, Allowed("a number")]
PositiveFloat = Annotated[float, Field(gt=0), Allowed("a positive number")]
NonNegativeFloat = Annotated[float, Field(ge=0), Allowed("a number of at least 0")]
Discount = Annotated[float, Field(ge=0, lt=1), Allowed("a number from 0 to below 1")]
Fraction = Annotated[float, Field(gt=0, le=1), Allowed("a number above 0, at most 1")]
Switch = Annotated[bool, Allowed("true or false")]
Text = Annotated[str, Field(min_length=1), Allowed("a string")]
Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"),
    Allowed("a file name of letters, digits, '.', '_' and '-'"),
]
LIST, FILLED = Field(strict=False), Field(strict=False, min_length=1)
"""For tuples, which a file has as lists."""
Modules = Annotated[tuple[Text, ...], LIST, Allowed('a list of modules, e.g. ["mine"]')]
Names = Annotated[tuple[Text, ...], FILLED, Allowed('a list of names, e.g. ["state"]')]
HiddenSizes = Annotated[tuple[PositiveInt, ...], FILLED, Allowed("a list of positive integers")]
