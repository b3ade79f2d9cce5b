"""Errors that are the user's to mend: shown as one message, without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake the user can correct; its message says what to do instead."""


class RunError(Exception):
    """A run that cannot go on, through no mistake in its file; its message says what was seen."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to write for a name that is not known: the nearest one, or else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.55)
    return f'did you mean "{near[0]}"?' if near else "known: " + ", ".join(names)
