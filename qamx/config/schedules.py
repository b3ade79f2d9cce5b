"""The settings of the built-in schedules."""

from pydantic import ValidationInfo, field_validator

from qamx.config.fields import Count, PositiveInt
from qamx.config.problems import value_problem
from qamx.config.sections import ScheduleSettings


class OfflineSettings(ScheduleSettings):
    """Learning from the data alone."""

    kind: str = "offline"
    offline_steps: PositiveInt = 1_000_000


class OfflineToOnlineSettings(ScheduleSettings):
    """Learning from the data, then from the data and the environment together."""

    kind: str = "offline_to_online"
    offline_steps: PositiveInt = 1_000_000
    online_steps: PositiveInt = 500_000
    online_warmup: Count = 5_000
    updates_per_step: PositiveInt = 1

    @field_validator("online_warmup")
    @classmethod
    def _leaves_steps(cls, warmup: int, info: ValidationInfo) -> int:
        steps = info.data.get("online_steps")
        if steps is not None and warmup >= steps:
            raise value_problem(
                f"{warmup} warm-up steps leave no update in {steps} online steps; "
                f"write an integer below {steps}"
            )
        return warmup
