"""OGBench's data sets by download: resumed, verified, and recorded."""

from qamx.data.download.command import download, unfinished
from qamx.data.download.hashes import check_recorded
from qamx.data.download.origin import alternative, is_generated
from qamx.data.download.patience import Patience
from qamx.data.download.table import known_names

__all__ = [
    "Patience",
    "alternative",
    "check_recorded",
    "download",
    "is_generated",
    "known_names",
    "unfinished",
]
