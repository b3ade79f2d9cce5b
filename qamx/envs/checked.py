"""The checked adapter of an environment, and how one is opened and closed."""

import contextlib
import reprlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from qamx._utils.processes import Marked
from qamx.envs.base import Environment, Step
from qamx.envs.protocol import EnvError, format_exception
from qamx.envs.spaces import named_leaves
from qamx.errors import UserError, no_exit

LARGEST = float(np.finfo(np.float32).max)


def checked_reset(environment: Environment, seed: int) -> Float[np.ndarray, " obs"]:
    """The first observation of an episode, a copy that the environment does not write to.

    **Raises:** as `checked_step`.
    """
    observation = environment.reset(seed)
    return vector("reset", "an observation", observation, (environment.observation_size,))


def checked_step(environment: Environment, action: Float[np.ndarray, " act"]) -> Step:
    """A step of plain numbers; neither action nor observation is shared with the environment.

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
    """Whether all of a value's numbers are above 0, in nested dictionaries too.

    **Arguments:** `name` is what messages call it.

    **Raises:** `UserError` for what holds no numbers, or a NaN.
    """
    leaves = named_leaves(value)
    arrays = [numbers(leaf) for leaf in leaves.values()]
    for key, leaf, array in zip(leaves, leaves.values(), arrays, strict=True):
        if array is None or array.size == 0 or np.isnan(array).any():
            whole = f"{name}, entry {key!r}" if key else name
            raise UserError(
                f"{whole}: found {shown(leaf)}; give True or a number above 0 where the task is "
                "solved, else False or 0"
            )
    if not arrays:
        raise UserError(f"{name}: found a dictionary without entries; give at least one")
    return all(bool(np.all(array > 0)) for array in arrays if array is not None)


def number(call: str, what: str, value: Any) -> float:
    """One number, of an array with one entry too.

    **Arguments:** `call` is what returned it, `what` what it is called in messages.

    **Raises:** `UserError` for anything else, `EnvError` if it is not finite in float32.
    """
    array = numbers(value)
    if array is None or array.shape not in ((), (1,)):
        raise refused(call, f"{what} that is {shown(value)}", "return one number")
    found = float(array.reshape(()))
    if not abs(found) <= LARGEST:
        raise _not_finite(call, f"{what} of {found:g}")
    return found


def flag(call: str, name: str, value: Any) -> bool:
    """True or False, of 1 or 0 and of an array with one entry too.

    **Raises:** `UserError` for anything else.
    """
    array = numbers(value)
    if array is None or array.shape not in ((), (1,)) or array.reshape(()) not in (0, 1):
        raise refused(call, f"{name} that is {shown(value)}", "return True or False")
    return bool(array.reshape(()))


def vector(
    call: str, what: str, value: Any, shape: tuple[int, ...]
) -> Float[np.ndarray, " entries"]:
    """A flat copy in float32 of an array of numbers of this shape; arguments as of `number`.

    **Raises:** `UserError` for anything else, `EnvError` if an entry is not finite in float32.
    """
    array = numbers(value)
    if array is None or array.shape != shape:
        raise refused(
            call, f"{what} that is {shown(value)}", f"it must be numbers of shape {shape}"
        )
    with np.errstate(over="ignore"):
        copy = np.array(array, np.float32).reshape(-1)
    if not (finite := np.isfinite(copy)).all():
        entry = int(np.argmin(finite))
        raise _not_finite(call, f"{what} with {array.reshape(-1)[entry]:g} in entry {entry}")
    return copy


def numbers(value: Any) -> np.ndarray | None:
    """The array of real numbers that a value is, or None.

    It may be an array of another library, a list, or anything that `float` takes but a string. A
    masked entry is no number.
    """
    if np.ma.is_masked(value):
        return None
    try:
        array = np.asarray(value)
    except Exception:  # whatever a foreign array's own code raises
        array = np.asarray(None)
    if array.dtype.kind in "OV" and not isinstance(value, np.ndarray):
        with contextlib.suppress(Exception):
            array = np.asarray(float(value))
    return array if array.dtype.kind in "biuf" else None


def refused(call: str, found: str, wanted: str) -> UserError:
    """The error about an answer of the environment that is not what its interface promises."""
    return UserError(f"environment.id: its {call} returned {found}; {wanted}")


def shown(value: Any) -> str:
    """A value as messages show it, in one line."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None and np.size(value) != 1:
        kind = "a masked array" if np.ma.is_masked(value) else "an array"
        return f"{kind} of shape {tuple(shape)} and type {dtype}"
    return " ".join(f"{reprlib.repr(value)} ({type(value).__name__})".split())


def _not_finite(call: str, what: str) -> EnvError:
    return EnvError(f"its {call} returned {what}, which is not finite in float32")


CLOSE_SECONDS = 3.0
"""How long an environment may wait, in its `close`, for what it has started."""


def close(environment: Environment) -> None:
    """Closes an environment; an error of it is said, and is none of what was played."""
    try:
        with no_exit():
            environment.close()
    except Exception as error:
        print(
            f"warning: the environment failed while it was closed: {format_exception(error)}",
            file=sys.stderr,
            flush=True,
        )


def close_with(environment: Environment, started: Marked) -> None:
    """Closes an environment of this process, and ends what it has started and left.

    That is ended in mid-close too: a simulator that does not hear SIGTERM is waited for in vain.
    """
    try:
        with started.ended_after(CLOSE_SECONDS):
            close(environment)
    finally:
        started.end()


@contextlib.contextmanager
def opened(make_environment: Callable[[], Environment]) -> Iterator[Environment]:
    """An environment in this process, closed after the block with what it has started."""
    started = Marked()
    with started.ended_at_error(), started.noting(), no_exit():
        environment = make_environment()
    try:
        with started.noting(), no_exit():
            yield environment
    finally:
        close_with(environment, started)
