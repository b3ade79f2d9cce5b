"""Schedules: training phases, intervals and inverse temperatures."""

from qamx.schedules.inverse_temperature import (
    AbstractInverseTemperature,
    Constant,
    LinearSchedule,
    TrustRegion,
)
from qamx.schedules.phases import Cloning, Offline, Online, Phase, Schedule, is_due, next_due

__all__ = [
    "AbstractInverseTemperature",
    "Cloning",
    "Constant",
    "LinearSchedule",
    "Offline",
    "Online",
    "Phase",
    "Schedule",
    "TrustRegion",
    "is_due",
    "next_due",
]
