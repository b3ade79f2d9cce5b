"""Experiment files: typed, validated, free of JAX.

`load` turns a TOML file into an `Experiment`, `load_suite` one that lists runs into a `Suite`;
`find_experiment` and `find_suite` say which file a name means. The settings classes are what a
plugin subclasses for a method, schedule, environment or data source.
"""

from qamx.config.agents import AgentSettings, QAMEditSettings, QAMFQLSettings, QAMSettings
from qamx.config.datasets import OGBenchDataSettings
from qamx.config.environments import OGBenchEnvironmentSettings
from qamx.config.experiment import (
    CheckpointSettings,
    ComputeSettings,
    DataSettings,
    EnvironmentSettings,
    EvaluationSettings,
    Experiment,
    LoggingSettings,
    ScheduleSettings,
)
from qamx.config.fields import Allowed, NonNegativeFloat, PositiveFloat, PositiveInt, Settings
from qamx.config.inverse_temperature import (
    ConstantTemperature,
    InverseTemperature,
    LinearTemperature,
    TemperatureSettings,
)
from qamx.config.loader import load
from qamx.config.messages import ConfigError, ConfigProblem
from qamx.config.schedules import OfflineSettings, OfflineToOnlineSettings
from qamx.config.suite import Suite, SuiteRun, is_suite_file, load_suite
from qamx.config.toml import find_experiment, find_suite

__all__ = [
    "AgentSettings",
    "Allowed",
    "CheckpointSettings",
    "ComputeSettings",
    "ConfigError",
    "ConfigProblem",
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
    "QAMEditSettings",
    "QAMFQLSettings",
    "QAMSettings",
    "ScheduleSettings",
    "Settings",
    "Suite",
    "SuiteRun",
    "TemperatureSettings",
    "find_experiment",
    "find_suite",
    "is_suite_file",
    "load",
    "load_suite",
]
