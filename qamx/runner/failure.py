"""An environment's own errors."""

import traceback

from qamx.errors import RunError


def environment_failure(error: Exception, where: str, seed: int) -> RunError:
    """An environment's own error as a run's, with what repeats it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return RunError(
        f"the environment failed in {where}, reset seed {seed}: {type(error).__name__}: "
        f"{error}{place}. The same command continues from the last checkpoint"
    )
