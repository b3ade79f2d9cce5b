"""Schedules: training phases, intervals and inverse temperatures."""

from qamx.schedules.intervals import is_due, next_due
from qamx.schedules.phases import Cloning, Offline, Online, Phase, Schedule
from qamx.schedules.temperature import AbstractInverseTemperature, Constant, Linear, TrustRegion

__all__ = [
    "AbstractInverseTemperature",
    "Cloning",
    "Constant",
    "Linear",
    "Offline",
    "Online",
    "Phase",
    "Schedule",
    "TrustRegion",
    "is_due",
    "next_due",
]
