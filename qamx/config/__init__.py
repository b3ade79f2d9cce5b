"""Experiment files: typed, validated, free of JAX.

`load` turns a TOML file into an `Experiment`, `load_suite` one that lists runs into a `Suite`;
`find_experiment` and `find_suite` say which file a name means. The settings classes are what a
plugin subclasses for a method, schedule, environment or data source.
"""

from qamx.config.agents import AgentSettings as AgentSettings
from qamx.config.agents import QAMEditSettings as QAMEditSettings
from qamx.config.agents import QAMFQLSettings as QAMFQLSettings
from qamx.config.agents import QAMSettings as QAMSettings
from qamx.config.datasets import OGBenchDataSettings as OGBenchDataSettings
from qamx.config.environments import OGBenchEnvironmentSettings as OGBenchEnvironmentSettings
from qamx.config.experiment import CheckpointSettings as CheckpointSettings
from qamx.config.experiment import ComputeSettings as ComputeSettings
from qamx.config.experiment import DataSettings as DataSettings
from qamx.config.experiment import EnvironmentSettings as EnvironmentSettings
from qamx.config.experiment import EvaluationSettings as EvaluationSettings
from qamx.config.experiment import Experiment as Experiment
from qamx.config.experiment import LoggingSettings as LoggingSettings
from qamx.config.experiment import ScheduleSettings as ScheduleSettings
from qamx.config.fields import Allowed as Allowed
from qamx.config.fields import NonNegativeFloat as NonNegativeFloat
from qamx.config.fields import PositiveFloat as PositiveFloat
from qamx.config.fields import PositiveInt as PositiveInt
from qamx.config.fields import Settings as Settings
from qamx.config.inverse_temperature import ConstantTemperature as ConstantTemperature
from qamx.config.inverse_temperature import InverseTemperature as InverseTemperature
from qamx.config.inverse_temperature import LinearTemperature as LinearTemperature
from qamx.config.inverse_temperature import TemperatureSettings as TemperatureSettings
from qamx.config.loader import load as load
from qamx.config.messages import ConfigError as ConfigError
from qamx.config.messages import ConfigProblem as ConfigProblem
from qamx.config.schedules import OfflineSettings as OfflineSettings
from qamx.config.schedules import OfflineToOnlineSettings as OfflineToOnlineSettings
from qamx.config.suite import Suite as Suite
from qamx.config.suite import SuiteRun as SuiteRun
from qamx.config.suite import is_suite_file as is_suite_file
from qamx.config.suite import load_suite as load_suite
from qamx.config.toml import find_experiment as find_experiment
from qamx.config.toml import find_suite as find_suite
