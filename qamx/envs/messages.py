"""What a process that plays environments is told, and what it answers."""

import traceback
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from qamx.envs.base import Step
from qamx.errors import UserError, named


class PlayError(Exception):
    """An environment's error in another process; its text is that of `described`."""


@dataclass(frozen=True)
class Setup:
    """The first message: where imports are found, and how many environments to make.

    **Arguments:** `factory` is what `cloudpickle` makes of the function that makes one.
    """

    path: list[str]
    folder: str
    factory: bytes
    count: int


@dataclass(frozen=True)
class Reset:
    """Begins an episode; answered by its first observation."""

    index: int
    ticket: int
    seed: int


@dataclass(frozen=True)
class Play:
    """Plays actions until they or the episode end; answered by a `Step` for each.

    **Arguments:** `together` has all answers in one message, after the last step.
    """

    index: int
    ticket: int
    actions: Float[np.ndarray, "n act"]
    together: bool


class Leave:
    """The last message."""


@dataclass(frozen=True)
class Sizes:
    """The answer to `Setup`, from each environment; `limit` is that of an episode's steps."""

    observation: int
    action: int
    limit: int | None


@dataclass(frozen=True)
class Failure:
    """The answer where the environment raised an error; `by_user` where that was a `UserError`."""

    text: str
    by_user: bool

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """What tells of an error."""
        by_user = isinstance(error, UserError)
        return cls(str(error) if by_user else described(error), by_user)


Value: TypeAlias = Step | Float[np.ndarray, " obs"] | Sizes | Failure


@dataclass(frozen=True)
class Answer:
    """What came of a message; `ticket` is that of the `Reset` or `Play` it answers. A process
    sends lists of these."""

    index: int
    ticket: int
    value: Value


def described(error: BaseException) -> str:
    """Type, message and place of an error, e.g. `ValueError: unstable (arm.py:12)`."""
    if isinstance(error, PlayError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{named(error)}{place}"
