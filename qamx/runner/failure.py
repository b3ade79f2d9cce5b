"""An environment's own errors."""

from qamx.envs.messages import described
from qamx.envs.process import CONTINUES
from qamx.errors import RunError


def environment_failure(error: Exception, where: str, seed: int) -> RunError:
    """An environment's own error as a run's, with what repeats it; a run's error as it is."""
    if isinstance(error, RunError):
        return error
    return RunError(
        f"the environment failed in {where}, reset seed {seed}: {described(error)}. {CONTINUES}"
    )
