"""The processors of this machine."""

import os


def usable_cores() -> int:
    """Those that a scheduler granted to this process, where the system can tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
