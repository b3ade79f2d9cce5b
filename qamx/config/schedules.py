"""The settings of the built-in schedules."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from qamx.config.experiment import ScheduleSettings
from qamx.config.fields import Absent, Count, PositiveFloat, PositiveInt
from qamx.config.messages import value_problem

OfflineSteps = Annotated[PositiveInt, Field(description="updates from the data alone")]
OnlineSteps = Annotated[PositiveInt, Field(description="environment steps of the online phase")]
Warmup = Annotated[
    Count,
    Field(description="environment steps before its first update; fewer than `online_steps`"),
]
UpdatesPerStep = Annotated[
    PositiveFloat,
    Field(
        description="updates for each environment step after that (UTD); `0.25` is one after "
        "every fourth step"
    ),
]


class CloningSettings(ScheduleSettings):
    """Behaviour cloning alone, for other runs to start from."""

    kind: str = "cloning"
    cloning_steps: PositiveInt = Field(default=300_000, description="updates of behaviour cloning")


class LearningSettings(ScheduleSettings):
    """What schedules share that go on to learn from the critic."""

    cloning_steps: Annotated[PositiveInt | None, Absent("none")] = Field(
        default=None, examples=[300_000], description="updates of behaviour cloning before all else"
    )


class OfflineSettings(LearningSettings):
    """Learning from the data alone."""

    kind: str = "offline"
    offline_steps: OfflineSteps = 1_000_000


def _leaves_steps(cls: type, warmup: int, info: ValidationInfo) -> int:
    steps = info.data.get("online_steps")
    if steps is not None and warmup >= steps:
        raise value_problem(
            f"{warmup} warm-up steps leave no update in {steps} online steps; "
            f"write an integer below {steps}"
        )
    return warmup


class OnlineSettings(LearningSettings):
    """Learning from the environment and the data together, from the first update on."""

    kind: str = "online"
    online_steps: OnlineSteps = 500_000
    online_warmup: Warmup = 5_000
    updates_per_step: UpdatesPerStep = 1

    _check_warmup = field_validator("online_warmup")(classmethod(_leaves_steps))


class OfflineToOnlineSettings(LearningSettings):
    """Learning from the data, then from the data and the environment together."""

    kind: str = "offline_to_online"
    offline_steps: OfflineSteps = 1_000_000
    online_steps: OnlineSteps = 500_000
    online_warmup: Warmup = 5_000
    updates_per_step: UpdatesPerStep = 1

    _check_warmup = field_validator("online_warmup")(classmethod(_leaves_steps))
