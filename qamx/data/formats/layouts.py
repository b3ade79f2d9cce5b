"""Where the episodes of a table end, which its arrays tell in one of three layouts.

- OGBench's: `terminals` alone marks the last row of each episode. That row is an observation
  without a step, unless `next_observations` are stored; `masks` are 0 where nothing is
  bootstrapped.
- D4RL's: `terminals` where the task ended, `timeouts` where time was up.
- Gymnasium's: `terminations` and `truncations`, which mean the same as D4RL's two.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from qamx.data.archive_checks import check_terminals
from qamx.data.checks import require_marks
from qamx.errors import UserError

MARKS = ("terminals", "timeouts", "terminations", "truncations")
PAIRS = (("terminals", "timeouts"), ("terminations", "truncations"))
"""Names in D4RL's and in Gymnasium's layout: ended by the task, ended by time."""


class Marks(NamedTuple):
    """Where episodes end and where they terminate.

    **Arguments:** `bare_ends` says that the last row of an episode is an observation without a
    step, `pairs` that each row has its next observation beside it.
    """

    ends: Bool[np.ndarray, " rows"]
    terminations: Bool[np.ndarray, " rows"] | None
    bare_ends: bool
    pairs: bool


def marks_of(where: str, arrays: Mapping[str, Any]) -> Marks:
    """The marks of a table; `where` is what messages call it.

    **Raises:** `UserError` if there are none, or they may be read in two ways.
    """
    found = [name for name in MARKS if name in arrays]
    pairs = any(name.split("/")[0] == "next_observations" for name in arrays)
    if found == ["terminals"]:
        return _ogbench(where, arrays, pairs)
    for names in PAIRS:
        if found == list(names) and "masks" not in arrays:
            return _two_marks(where, names, arrays, pairs)
    raise UserError(f"{where}: {_unclear(found, 'masks' in arrays)}")


def _ogbench(where: str, arrays: Mapping[str, Any], pairs: bool) -> Marks:
    if "rewards" in arrays and "masks" not in arrays:
        raise UserError(
            f"{where}: terminals: it is not clear whether they mark the last row of each episode "
            "(OGBench's layout) or where the task ended (D4RL's); add masks, 0 where the task is "
            "solved and else 1, in the first case, and timeouts, 1 where an episode was cut, in "
            "the second"
        )
    terminals = _column(where, arrays, "terminals")
    check_terminals(where, terminals)
    terminations = _column(where, arrays, "masks") == 0 if "masks" in arrays else None
    return Marks(terminals > 0, terminations, bare_ends=not pairs, pairs=pairs)


def _two_marks(where: str, names: tuple[str, str], arrays: Mapping[str, Any], pairs: bool) -> Marks:
    terminations, timeouts = (_column(where, arrays, name) > 0 for name in names)
    if len(terminations) != len(timeouts):
        raise UserError(
            f"{where}: {names[1]}: {len(timeouts):,} rows, and {names[0]} have "
            f"{len(terminations):,}; every array has one row a step"
        )
    ends = terminations | timeouts
    if not ends.any():
        raise UserError(
            f"{where}: {names[0]} and {names[1]}: no row of {len(ends):,} ends an episode, so that "
            f"action chunks would reach from one into the next; write 1 in {names[1]} on the last "
            "row of each"
        )
    return Marks(ends, terminations, bare_ends=False, pairs=pairs)


def _unclear(found: list[str], masks: bool) -> str:
    """Why the marks that were found, perhaps beside masks, do not say where episodes end."""
    if not found:
        return (
            "no array marks the ends of episodes; add terminations, 1 where the task ended, and "
            "truncations, 1 where an episode was cut, or OGBench's terminals, 1 on each last row"
        )
    for names in PAIRS:
        if len(found) == 1 and found[0] in names:
            missing = names[found == [names[0]]]
            return (
                f"{found[0]}: found without {missing}; add it, so that {names[0]} are 1 where the "
                f"task ended, and {names[1]} where an episode was cut"
            )
        if found == list(names) and masks:
            return (
                f"masks: found beside {names[0]}, which say where nothing is bootstrapped too; "
                "leave the masks out"
            )
    return f"{', '.join(found)}: they mark ends in two ways; keep {' and '.join(PAIRS[1])} alone"


def _column(where: str, arrays: Mapping[str, Any], name: str) -> np.ndarray:
    column = np.atleast_1d(arrays[name])
    if column.dtype.kind not in "fiub" or column.size != len(column):
        raise UserError(
            f"{where}: {name}: found {column.dtype} of shape {column.shape}; write one number a row"
        )
    require_marks(where, name, column)
    return column.reshape(-1)
