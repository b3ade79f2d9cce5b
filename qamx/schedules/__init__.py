"""Schedules: training phases, intervals and inverse temperatures."""

from qamx.schedules.intervals import is_due, next_due
from qamx.schedules.phases import Offline, Online, Phase, Schedule
from qamx.schedules.temperature import AbstractInverseTemperature, Constant, Linear

__all__ = [
    "AbstractInverseTemperature",
    "Constant",
    "Linear",
    "Offline",
    "Online",
    "Phase",
    "Schedule",
    "is_due",
    "next_due",
]
