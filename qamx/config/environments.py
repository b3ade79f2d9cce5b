"""Settings of environments: Gymnasium's and the locomotion of the expert."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from qamx.config.experiment import DataSettings, EnvironmentSettings, name_of
from qamx.config.fields import Absent, Allowed, Names, Number, PositiveInt, Switch, Text
from qamx.config.messages import show, value_problem
from qamx.errors import suggestion

Arguments = Annotated[dict[str, Any], Allowed("a table of the environment's arguments")]


_AT_ONCE = "a success_return of 0 or less is reached before an episode's first step"


class GymnasiumEnvironmentSettings(EnvironmentSettings):
    """`id` is "gymnasium:" and `Pendulum-v1`, `module:Name-v0` or `module:Class`."""

    arguments: Arguments = Field(
        default={},
        examples=[{"render_mode": "rgb_array"}],
        description="passed to the environment by name",
    )
    max_episode_steps: Annotated[PositiveInt | None, Absent("the environment's own")] = Field(
        default=None,
        examples=[1000],
        description="the time limit; required where the environment has none",
    )
    observation_keys: Annotated[Names | None, Absent("all, in alphabetical order")] = Field(
        default=None,
        examples=[["observation", "desired_goal"]],
        description="the entries of dictionary observations, in the order of the vector; dotted "
        "where nested",
    )
    reward: Literal["default", "sparse"] = Field(
        default="default",
        description="`sparse`: 0 where the task is solved, else −1, in the data and online",
    )
    success_key: Annotated[Text | None, Absent("`success` or `is_success`")] = Field(
        default=None,
        examples=["is_success"],
        description="the entry of `info` that is above 0 where the task is solved (of several "
        "numbers, all are); it may be missing before an episode's last step",
    )
    success_return: Number | None = Field(
        default=None,
        examples=[475.0],
        description="instead, the return from which on an episode counts as solved",
    )
    terminate_at_success: Switch = Field(
        default=False,
        description="an episode ends where the task is solved, and nothing is bootstrapped there",
    )

    @field_validator("id")
    @classmethod
    def _has_a_name(cls, address: str) -> str:
        if not address.removeprefix("gymnasium:").strip(":"):
            raise value_problem(
                f'found {show(address)}; write "gymnasium:" and an id or entry point, e.g. '
                '"gymnasium:Pendulum-v1"'
            )
        return address

    @field_validator("success_return")
    @classmethod
    def _one_rule(cls, threshold: float | None, info: ValidationInfo) -> float | None:
        if threshold is not None and info.data.get("success_key") is not None:
            raise value_problem(f"found {threshold} beside success_key; write one of the two")
        if threshold is not None and threshold <= 0 and info.data.get("reward") == "sparse":
            raise value_problem(
                f'found {threshold} beside reward = "sparse", but {_AT_ONCE}; name a success_key'
            )
        return threshold

    @field_validator("terminate_at_success")
    @classmethod
    def _not_at_once(cls, terminates: bool, info: ValidationInfo) -> bool:
        threshold = info.data.get("success_return")
        if terminates and threshold is not None and threshold <= 0:
            raise value_problem(f"found true, but {_AT_ONCE}; leave it out, or name a success_key")
        return terminates

    @property
    def success_rule(self) -> str:
        if self.success_return is not None:
            return f"a return of at least {self.success_return:g} at an episode's last step"
        key = self.success_key or "success, or is_success,"
        return f"{key} in info of an episode's last step"

    @property
    def unit_actions(self) -> bool:
        return False

    @property
    def observation_order(self) -> tuple[str, ...] | None:
        return self.observation_keys

    @property
    def sparse(self) -> bool:
        return self.reward == "sparse"

    @property
    def stops_at_success(self) -> bool:
        return self.terminate_at_success


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
