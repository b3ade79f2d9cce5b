"""A validated experiment."""

from dataclasses import dataclass
from typing import Any

from qamx.config.agents import AgentSettings
from qamx.config.sections import (
    CheckpointSettings,
    ComputeSettings,
    DataSettings,
    EnvironmentSettings,
    EvaluationSettings,
    LoggingSettings,
    ScheduleSettings,
)


@dataclass(frozen=True)
class Experiment:
    """One run's whole configuration, every default filled in.

    `environment`, `data`, `agent` and `schedule` are of the settings class that the
    registry has for the name in the file.
    """

    name: str
    seed: int
    plugins: tuple[str, ...]
    environment: EnvironmentSettings
    data: DataSettings
    agent: AgentSettings
    schedule: ScheduleSettings
    evaluation: EvaluationSettings
    checkpoint: CheckpointSettings
    logging: LoggingSettings
    compute: ComputeSettings

    @property
    def run_name(self) -> str:
        """What a folder of this run is called, such as `c4_qam-task2-seed10001`."""
        return "-".join(filter(None, (self.name, self.environment.label, f"seed{self.seed}")))

    def to_dict(self) -> dict[str, Any]:
        """The experiment as the tables of a file; keys without a value are left out."""
        general = {"name": self.name, "seed": self.seed, "plugins": list(self.plugins)}
        sections = {
            "environment": self.environment,
            "data": self.data,
            "agent": self.agent,
            "schedule": self.schedule,
            "evaluation": self.evaluation,
            "checkpoint": self.checkpoint,
            "logging": self.logging,
            "compute": self.compute,
        }
        return general | {
            name: settings.model_dump(exclude_none=True) for name, settings in sections.items()
        }

    def to_toml(self) -> str:
        """A file that loads by itself to an equal experiment."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())

    def differences(self, other: "Experiment") -> list[tuple[str, Any, Any]]:
        """Where two experiments differ: dotted key, this one's value, the other's.

        None stands for a key that one of them does not have.
        """
        mine, others = flat(self.to_dict()), flat(other.to_dict())
        keys = dict.fromkeys((*mine, *others))
        values = ((key, mine.get(key), others.get(key)) for key in keys)
        return [(key, one, two) for key, one, two in values if one != two]


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Tables inside tables as one table of dotted keys."""
    keys: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            keys |= flat(value, f"{prefix}{name}.")
        else:
            keys[prefix + name] = value
    return keys
