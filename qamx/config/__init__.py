"""Experiment files: typed, validated, free of JAX.

`load` turns a TOML file into an `Experiment`. The settings classes are what a plugin
subclasses for a method, schedule, environment or data source of its own.
"""

from qamx.config.agents import (
    AdjointMatchingSettings,
    AgentSettings,
    QAMEditSettings,
    QAMFQLSettings,
    QAMSettings,
)
from qamx.config.experiment import Experiment
from qamx.config.fields import (
    Allowed,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Settings,
)
from qamx.config.loader import load
from qamx.config.ogbench import OGBenchDataSettings, OGBenchEnvironmentSettings
from qamx.config.problems import ConfigError, Problem
from qamx.config.schedules import OfflineSettings, OfflineToOnlineSettings
from qamx.config.sections import (
    CheckpointSettings,
    DataSettings,
    EnvironmentSettings,
    EvaluationSettings,
    LoggingSettings,
    ScheduleSettings,
)
from qamx.config.temperatures import (
    ConstantTemperature,
    InverseTemperature,
    LinearTemperature,
    TemperatureSettings,
)

__all__ = [
    "AdjointMatchingSettings",
    "AgentSettings",
    "Allowed",
    "CheckpointSettings",
    "ConfigError",
    "ConstantTemperature",
    "DataSettings",
    "EnvironmentSettings",
    "EvaluationSettings",
    "Experiment",
    "InverseTemperature",
    "LinearTemperature",
    "LoggingSettings",
    "NonNegativeFloat",
    "OGBenchDataSettings",
    "OGBenchEnvironmentSettings",
    "OfflineSettings",
    "OfflineToOnlineSettings",
    "PositiveFloat",
    "PositiveInt",
    "Problem",
    "QAMEditSettings",
    "QAMFQLSettings",
    "QAMSettings",
    "ScheduleSettings",
    "Settings",
    "TemperatureSettings",
    "load",
]
