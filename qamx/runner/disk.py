"""What a failed write says."""

import errno
import shutil
from pathlib import Path


def explain(error: Exception, directory: Path) -> str:
    """What went wrong with a write below `directory`, and what to do."""
    if not is_full(error):
        return f"{directory}: cannot be written to ({type(error).__name__}: {error})"
    usage = shutil.disk_usage(directory)
    return (
        f"{directory}: the disk is full ({usage.free / 2**20:,.0f} MiB of "
        f"{usage.total / 2**20:,.0f} MiB free, or a quota is reached); make room, for example with "
        "a lower checkpoint.keep or by removing other runs, and run the same command again"
    )


def is_full(error: Exception) -> bool:
    """Whether an error says that no room is left; TensorStore says it in its message alone."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    said = str(error)
    return any(name in said for name in ("ENOSPC", "EDQUOT", "EFBIG", "No space left"))
