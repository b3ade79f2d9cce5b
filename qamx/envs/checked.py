"""Validation of environments' results, and opening and closing of environments."""

import contextlib
import logging
import reprlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from qamx._utils.processes import ChildProcesses
from qamx.envs.base import Environment, Step
from qamx.envs.protocol import EnvError, format_exception
from qamx.envs.spaces import named_leaves
from qamx.errors import UserError, no_exit

LARGEST = float(np.finfo(np.float32).max)


def checked_reset(environment: Environment, seed: int) -> Float[np.ndarray, " obs"]:
    """Resets; returns a validated copy of the first observation.

    **Raises:** as `checked_step`.
    """
    observation = environment.reset(seed)
    return vector("reset", "an observation", observation, (environment.observation_size,))


def checked_step(environment: Environment, action: Float[np.ndarray, " act"]) -> Step:
    """Steps; returns validated copies, and gives the environment a copy of the action.

    **Raises:** `UserError` for anything but a `Step` of numbers and flags, `EnvError` for
    numbers that are not finite.
    """
    step = environment.step(np.array(action, np.float32))
    if not isinstance(step, Step):
        raise refused("step", shown(step), "return a qamx.envs.Step")
    terminated = flag("step", "terminated", step.terminated)
    truncated = flag("step", "truncated", step.truncated)
    success = None if step.success is None else solved("success of a step", step.success)
    if success is None and (terminated or truncated):
        raise refused("step", "success None at an episode's end", "return True or False")
    return Step(
        vector("step", "an observation", step.observation, (environment.observation_size,)),
        number("step", "a reward", step.reward),
        terminated,
        truncated,
        success,
    )


def solved(name: str, value: Any) -> bool:
    """True if all of a value's numbers are above 0, in nested dictionaries too.

    **Arguments:** `name` is the value's name in messages.

    **Raises:** `UserError` for a value without numbers, or a NaN.
    """
    above = []
    for key, leaf in named_leaves(value).items():
        array = as_numbers(leaf)
        if array is None or array.size == 0 or np.isnan(array).any():
            whole = f"{name}, entry {key!r}" if key else name
            raise UserError(
                f"{whole}: found {shown(leaf)}; give True or a number above 0 where the task is "
                "solved, else False or 0"
            )
        above.append(bool(np.all(array > 0)))
    if not above:
        raise UserError(f"{name}: found a dictionary without entries; give at least one")
    return all(above)


def number(call: str, what: str, value: Any) -> float:
    """One number, of an array with one entry too.

    **Arguments:** `call` is the method that returned it, `what` its name in messages.

    **Raises:** `UserError` for anything else, `EnvError` if it is not finite in float32.
    """
    array = as_numbers(value)
    if array is None or array.shape not in ((), (1,)):
        raise refused(call, f"{what} that is {shown(value)}", "return one number")
    result = float(array.reshape(()))
    if not abs(result) <= LARGEST:
        raise _not_finite(call, f"{what} of {result:g}")
    return result


def flag(call: str, name: str, value: Any) -> bool:
    """True or False, of 1 or 0 and of an array with one entry too.

    **Raises:** `UserError` for anything else.
    """
    array = as_numbers(value)
    if array is None or array.shape not in ((), (1,)) or array.reshape(()) not in (0, 1):
        raise refused(call, f"{name} that is {shown(value)}", "return True or False")
    return bool(array.reshape(()))


def vector(
    call: str, what: str, value: Any, shape: tuple[int, ...]
) -> Float[np.ndarray, " entries"]:
    """A flat copy in float32 of an array of numbers of this shape; arguments as of `number`.

    **Raises:** `UserError` for anything else, `EnvError` if an entry is not finite in float32.
    """
    array = as_numbers(value)
    if array is None or array.shape != shape:
        wanted = f"it must be numbers of shape {shape}"
        raise refused(call, f"{what} that is {shown(value)}", wanted)
    with np.errstate(over="ignore"):
        copy = np.array(array, np.float32).reshape(-1)
    if not (finite := np.isfinite(copy)).all():
        entry = int(np.argmin(finite))
        raise _not_finite(call, f"{what} with {array.reshape(-1)[entry]:g} in entry {entry}")
    return copy


def as_numbers(value: Any) -> np.ndarray | None:
    """A value as an array of real numbers, or None.

    The value may be an array of another library, a list, or anything that `float` takes but a
    string. A masked entry is no number.
    """
    if np.ma.is_masked(value):
        return None
    try:
        array = np.asarray(value)
    except Exception:  # a foreign array may raise anything
        array = np.asarray(None)
    if array.dtype.kind in "OV" and not isinstance(value, np.ndarray):
        with contextlib.suppress(Exception):
            array = np.asarray(float(value))
    return array if array.dtype.kind in "biuf" else None


def refused(call: str, found: str, wanted: str) -> UserError:
    """The error for a result that the environment's interface does not allow."""
    return UserError(f"environment.id: its {call} returned {found}; {wanted}")


def shown(value: Any) -> str:
    """A value in one line of a message."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None and np.size(value) != 1:
        kind = "a masked array" if np.ma.is_masked(value) else "an array"
        return f"{kind} of shape {tuple(shape)} and type {dtype}"
    return " ".join(f"{reprlib.repr(value)} ({type(value).__name__})".split())


def _not_finite(call: str, what: str) -> EnvError:
    return EnvError(f"its {call} returned {what}, which is not finite in float32")


CLOSE_SECONDS = 3.0
"""Timeout of an environment's `close` that waits for its child processes."""


def close(environment: Environment) -> None:
    """Closes an environment; an error is a warning, as the episodes are played."""
    try:
        with no_exit():
            environment.close()
    except Exception as error:
        logging.getLogger("qamx").warning(
            f"warning: the environment failed while it was closed: {format_exception(error)}"
        )


def close_with(environment: Environment, started: ChildProcesses) -> None:
    """Closes an environment of this process, and ends the child processes that it has left.

    They are ended during a slow close too, which may wait for one that ignores SIGTERM.
    """
    try:
        with started.end_after(CLOSE_SECONDS):
            close(environment)
    finally:
        started.end()


@contextlib.contextmanager
def opened(make_environment: Callable[[], Environment]) -> Iterator[Environment]:
    """An environment in this process, closed after the block with its child processes."""
    started = ChildProcesses()
    with started.end_on_error(), started.track(), no_exit():
        environment = make_environment()
    try:
        with started.track(), no_exit():
            yield environment
    finally:
        close_with(environment, started)
