"""OGBench's data sets by download: resumed, verified, and recorded."""

from qamx.data.download.command import download, unfinished
from qamx.data.download.hashes import check_recorded
from qamx.data.download.origin import is_generated
from qamx.data.download.patience import Patience

__all__ = ["Patience", "check_recorded", "download", "is_generated", "unfinished"]
