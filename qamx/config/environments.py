"""Settings of environments: OGBench's, Gymnasium's, and the locomotion of the expert."""

import functools
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from qamx import registry
from qamx.config.datasets import WALKERS, OGBenchDataSettings, Walker, known_walker
from qamx.config.experiment import DataSettings, EnvironmentSettings, name_of
from qamx.config.fields import Allowed, DefaultText, Names, Number, PositiveInt, Switch, Text
from qamx.config.messages import show, value_problem
from qamx.data.ogbench.catalogue import DOMAIN_OF
from qamx.errors import suggestion

if TYPE_CHECKING:
    from collections.abc import Callable

    from qamx.envs.base import Environment


@registry.environments.add(
    "ogbench", "single-task OGBench environments, such as cube-quadruple-play"
)
class OGBenchEnvironmentSettings(EnvironmentSettings):
    """A task of OGBench."""

    stops_at_success = True

    task: Annotated[int, Field(ge=1, le=5), Allowed("an integer from 1 to 5")] = Field(examples=[2])
    """the task of the OGBench domain"""
    reward: Literal["default", "sparse"] = "default"
    """`sparse`: −1 until every subtask is solved, then 0, in the data and online"""

    @field_validator("id")
    @classmethod
    def _known(cls, address: str) -> str:
        if name_of(address) not in DOMAIN_OF:
            raise value_problem(f"found {show(address)}; {suggestion(name_of(address), DOMAIN_OF)}")
        return address

    @property
    def label(self) -> str:
        return f"task{self.task}"

    @property
    def sparse(self) -> bool:
        return self.reward == "sparse"

    def default_source(self) -> str:
        return f"ogbench:{self.name}-v0"

    def objection(self, data: DataSettings) -> str | None:
        domain = DOMAIN_OF[self.name]
        if isinstance(data, OGBenchDataSettings) and data.domain != domain:
            return (
                f"{show(data.source)} has the observations of {data.domain}, the environment "
                f"{show(self.id)} those of {domain}; write e.g. {show(self.default_source())}"
            )
        return None

    def build(self) -> "Callable[[], Environment]":
        from qamx.envs.ogbench import OGBenchEnvironment

        return functools.partial(OGBenchEnvironment, self.name, self.task, self.reward)


_AT_ONCE = "a success_return of 0 or less is reached before an episode's first step"


@registry.environments.add(
    "gymnasium", "environments with Gymnasium's interface, by id or entry point"
)
class GymnasiumEnvironmentSettings(EnvironmentSettings):
    """`id` is "gymnasium:" and `Pendulum-v1`, `module:Name-v0` or `module:Class`."""

    unit_actions = False

    arguments: Annotated[dict[str, Any], Allowed("a table of the environment's arguments")] = Field(
        default={}, examples=[{"render_mode": "rgb_array"}]
    )
    """passed to the environment by name"""
    max_episode_steps: Annotated[PositiveInt | None, DefaultText("the environment's own")] = Field(
        default=None, examples=[1000]
    )
    """the time limit; required where the environment has none"""
    observation_keys: Annotated[Names | None, DefaultText("all, in alphabetical order")] = Field(
        default=None, examples=[["observation", "desired_goal"]]
    )
    """the entries of dictionary observations, in the order of the vector; dotted where nested"""
    reward: Literal["default", "sparse"] = "default"
    """`sparse`: 0 where the task is solved, else −1, in the data and online"""
    success_key: Annotated[Text | None, DefaultText("`success` or `is_success`")] = Field(
        default=None, examples=["is_success"]
    )
    """the entry of `info` that is above 0 where the task is solved (of several numbers, all are);
    it may be missing before an episode's last step"""
    success_return: Number | None = Field(default=None, examples=[475.0])
    """in place of `success_key`: an episode counts as solved from this return on"""
    terminate_at_success: Switch = False
    """an episode ends where the task is solved, and nothing is bootstrapped there"""

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
    def observation_order(self) -> tuple[str, ...] | None:
        return self.observation_keys

    @property
    def sparse(self) -> bool:
        return self.reward == "sparse"

    @property
    def stops_at_success(self) -> bool:
        return self.terminate_at_success

    def build(self) -> "Callable[[], Environment]":
        from qamx.envs.gymnasium import GymnasiumEnvironment, is_registered, make_registered

        folder = os.getcwd()
        if folder not in sys.path:  # where a user's own module is looked for, as plugins are
            sys.path.append(folder)
        make = functools.partial(
            GymnasiumEnvironment,
            self.name,
            arguments=self.arguments,
            max_episode_steps=self.max_episode_steps,
            observation_keys=self.observation_keys,
            success_key=self.success_key,
            success_return=self.success_return,
            sparse=self.sparse,
            ends_at_success=self.terminate_at_success,
        )
        known = is_registered(self.name)
        return functools.partial(make_registered, self.name, make) if known else make


@registry.environments.add(
    "walk", "locomotion of an ant or a humanoid in a given direction, for the experts"
)
class WalkEnvironmentSettings(EnvironmentSettings):
    """An ant or a humanoid that is told where to walk."""

    _check_walker = field_validator("id")(known_walker)

    @property
    def walker(self) -> Walker:
        """The walker, `ant` or `humanoid`."""
        return next(walker for walker in WALKERS if walker == self.name)

    def default_source(self) -> str:
        return f"walk:{self.name}"

    def objection(self, data: DataSettings) -> str | None:
        if data.source == self.default_source():
            return None
        return f"{show(data.source)} is not of {show(self.id)}; write {show(self.default_source())}"

    def build(self) -> "Callable[[], Environment]":
        from qamx.envs.ogbench import WalkEnvironment

        return functools.partial(WalkEnvironment, self.walker)
