"""Where data sets live."""

import os
from pathlib import Path


def default_directory() -> Path:
    """Where data sets live: `$QAMX_DATA` if it is set, else OGBench's own `~/.ogbench/data`."""
    return Path(os.environ.get("QAMX_DATA") or "~/.ogbench/data").expanduser()
