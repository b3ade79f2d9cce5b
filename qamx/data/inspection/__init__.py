"""What is wrong with a data set, found before anything is trained on it."""

from qamx._utils.finding import LEVELS, Finding, Level, ranked
from qamx.data.inspection.examination import Examination, examine
from qamx.data.inspection.facts import Facts
from qamx.data.inspection.repeats import Shards, leakage

__all__ = [
    "LEVELS",
    "Examination",
    "Facts",
    "Finding",
    "Level",
    "Shards",
    "examine",
    "leakage",
    "ranked",
]
