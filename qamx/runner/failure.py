"""An environment's own errors."""

from qamx.envs.messages import described
from qamx.envs.process import CONTINUES
from qamx.errors import RunError, UserError


def environment_failure(error: Exception, where: str, seed: int) -> RunError | UserError:
    """An environment's own error as a run's, with what repeats it; a run's error as it is.

    An error that is the user's, such as an answer that the interface does not allow, stays one:
    the same command would meet it again.
    """
    if isinstance(error, RunError):
        return error
    if isinstance(error, UserError):
        return UserError(f"{error} (in {where}, reset seed {seed})")
    return RunError(
        f"the environment failed in {where}, reset seed {seed}: {described(error)}. {CONTINUES}"
    )
