"""Making in other processes an environment that is known in this one."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from qamx.envs.base import Environment
from qamx.errors import UserError, named, no_exit


@dataclass(frozen=True)
class AfterPlugins:
    """Makes an environment, in whatever process, where the plugins have been imported.

    One that does not import there matters only if the environment cannot be made: a session may
    have loaded plugins that this experiment does without.

    **Raises:** `UserError` that names such a plugin.
    """

    plugins: tuple[str, ...]
    make: Callable[[], Environment]

    def __call__(self) -> Environment:
        failures = [failure for module in self.plugins if (failure := _import_failure(module))]
        try:
            return self.make()
        except Exception as error:
            raise (UserError("; ".join(failures)) if failures else error) from error


def _import_failure(module: str) -> str:
    """The message about a plugin that cannot be imported here, empty for one that can."""
    try:
        with no_exit():
            importlib.import_module(module)
    except Exception as error:
        return (
            f'plugin "{module}" does not import in the processes that play the environment '
            f"({named(error)}); let it, or write evaluation.workers = 0"
        )
    return ""


@dataclass(frozen=True)
class RegisteredHere:
    """Makes an environment whose id the process that made this object knows.

    **Raises:** `UserError` in one that does not know it.
    """

    name: str
    make: Callable[[], Environment]

    def __call__(self) -> Environment:
        if not is_registered(self.name):
            raise UserError(
                f"environment.id: found {self.name!r}, which is known here, and not in the "
                "processes that play it: a script's own names are the script's alone; register it "
                "in a module and list that under plugins, write "
                f'"gymnasium:MODULE:{self.name}" or "gymnasium:MODULE:CLASS", or write '
                "evaluation.workers = 0 (qamx eval: --workers 0)"
            )
        return self.make()


def is_registered(name: str) -> bool:
    """Whether Gymnasium knows an id here, or some version of one without its version."""
    import gymnasium

    return any(name in (known, known.rpartition("-v")[0]) for known in gymnasium.registry)
