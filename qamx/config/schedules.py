"""The settings of the built-in schedules."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from qamx import registry
from qamx.config.experiment import ScheduleSettings
from qamx.config.fields import Count, DefaultText, PositiveFloat, PositiveInt
from qamx.config.messages import value_problem

if TYPE_CHECKING:
    from qamx.schedules import Phase, Schedule

OfflineSteps = Annotated[PositiveInt, Field(description="updates from the data alone")]
OFFLINE_STEPS = 1_000_000


@registry.schedules.add("cloning", "clone the data, for other runs to start from")
class CloningSettings(ScheduleSettings):
    """Behaviour cloning alone, for other runs to start from."""

    kind: str = "cloning"
    cloning_steps: PositiveInt = 300_000
    """updates of behaviour cloning"""

    def build(self) -> "Schedule":
        from qamx.schedules import Cloning, Schedule

        return Schedule((Cloning(self.cloning_steps),))


class LearningSettings(ScheduleSettings):
    """Keys of the schedules that learn from the critic."""

    cloning_steps: Annotated[PositiveInt | None, DefaultText("none")] = Field(
        default=None, examples=[300_000]
    )
    """updates of behaviour cloning before all else"""

    @abstractmethod
    def phases(self) -> "tuple[Phase, ...]":
        """The phases after cloning."""

    def build(self) -> "Schedule":
        from qamx.schedules import Cloning, Schedule

        cloning = () if self.cloning_steps is None else (Cloning(self.cloning_steps),)
        return Schedule((*cloning, *self.phases()))


@registry.schedules.add("offline", "learn from the data set alone")
class OfflineSettings(LearningSettings):
    """Learning from the data alone."""

    kind: str = "offline"
    offline_steps: OfflineSteps = OFFLINE_STEPS

    def phases(self) -> "tuple[Phase, ...]":
        from qamx.schedules import Offline

        return (Offline(self.offline_steps),)


class CollectingSettings(LearningSettings):
    """Keys of the schedules with an online phase."""

    online_steps: PositiveInt = 500_000
    """environment steps of the online phase"""
    online_warmup: Count = 5_000
    """environment steps before its first update; fewer than `online_steps`"""
    updates_per_step: PositiveFloat = 1
    """updates for each environment step after that (UTD); `0.25` is one after every fourth step"""

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

    def phases(self) -> "tuple[Phase, ...]":
        from qamx.schedules import Online

        return (Online(self.online_steps, self.online_warmup, self.updates_per_step),)


@registry.schedules.add("online", "learn in the environment from the start, with the data beside")
class OnlineSettings(CollectingSettings):
    """Learning from the environment and the data together, from the first update on."""

    kind: str = "online"


@registry.schedules.add(
    "offline_to_online",
    "learn from the data set, then continue in the environment with the same objective",
)
class OfflineToOnlineSettings(CollectingSettings):
    """Learning from the data, then from the data and the environment together."""

    kind: str = "offline_to_online"
    offline_steps: OfflineSteps = OFFLINE_STEPS

    def phases(self) -> "tuple[Phase, ...]":
        from qamx.schedules import Offline

        return (Offline(self.offline_steps), *super().phases())


def phase_steps(schedule: Mapping[str, Any]) -> dict[str, int]:
    """The steps of each phase: the keys of a table `[schedule]` that end in `_steps`."""
    return {
        key.removesuffix("_steps"): value
        for key, value in schedule.items()
        if key.endswith("_steps") and isinstance(value, int)
    }
