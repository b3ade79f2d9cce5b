"""The settings of the walkers' task, and of the random steps that learning begins with."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from qamx.config.fields import Absent, PositiveInt, Text
from qamx.config.problems import show, value_problem
from qamx.config.sections import DataSettings, EnvironmentSettings, name_of
from qamx.errors import suggestion

Walker = Literal["ant", "humanoid"]
WALKERS: tuple[Walker, ...] = ("ant", "humanoid")


def _known(address: str) -> str:
    if name_of(address) not in WALKERS:
        raise value_problem(f"found {show(address)}; {suggestion(name_of(address), WALKERS)}")
    return address


class WalkEnvironmentSettings(EnvironmentSettings):
    """An ant or a humanoid that is told where to walk."""

    _check_walker = field_validator("id")(_known)

    @property
    def walker(self) -> Walker:
        """Who walks."""
        return next(walker for walker in WALKERS if walker == self.name)

    def default_source(self) -> str:
        return f"walk:{self.name}"

    def objection(self, data: DataSettings) -> str | None:
        if data.source == self.default_source():
            return None
        return f"{show(data.source)} is not of {show(self.id)}; write {show(self.default_source())}"


class WalkDataSettings(DataSettings):
    """Random steps of a walker."""

    source: Annotated[Text, Absent("that of the environment")] = Field(
        examples=["walk:ant"], description="`walk:ant` for `walk:ant`, else `walk:humanoid`"
    )
    steps: PositiveInt = Field(default=10_000, description="how many random steps are played")

    _check_walker = field_validator("source")(_known)
