"""The settings of environments with Gymnasium's interface."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from qamx.config.fields import Allowed, Names, Number, PositiveInt, Switch, Text
from qamx.config.problems import show, value_problem
from qamx.config.sections import EnvironmentSettings

Arguments = Annotated[dict[str, Any], Allowed("a table of the environment's arguments")]


class GymnasiumEnvironmentSettings(EnvironmentSettings):
    """`id` is "gymnasium:" and `Pendulum-v1`, `module:Name-v0` or `module:Class`."""

    arguments: Arguments = Field({}, examples=[{"render_mode": "rgb_array"}])
    max_episode_steps: PositiveInt | None = Field(None, examples=[1000])
    observation_keys: Names | None = Field(None, examples=[["observation", "desired_goal"]])
    reward: Literal["default", "sparse"] = "default"
    success_key: Text | None = Field(None, examples=["is_success"])
    success_return: Number | None = Field(None, examples=[475.0])
    terminate_at_success: Switch = False

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
        return threshold

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
