"""What transitions must be before they are learned from, whatever source they come from."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Num

from qamx.data.source import DataSource
from qamx.errors import UserError

if TYPE_CHECKING:  # JAX comes with it, and what looks at files alone goes without
    from qamx.data.sequences import Transitions

ACTION_LIMIT = 1.0 - 1e-5
"""Data actions are clipped to this, so that a tanh policy can reach them."""

LARGEST_ACTION = 1.0 + 1e-3
"""Actions beyond this are refused; between it and 1 they are rounding, and clipped."""


class CheckedData:
    """A data source whose shards are checked as they are loaded.

    **Arguments:** `name` is what messages call the source, `horizon` the length of the windows
    that will be drawn.

    **Raises:** on `load`, `UserError` for a value that is not finite, an action outside [-1, 1],
    or episodes that are all shorter than a window.
    """

    def __init__(self, source: DataSource, name: str, horizon: int):
        self._source, self._name, self._horizon = source, name, horizon
        self._warned = False

    @property
    def shards(self) -> int:
        return self._source.shards

    @property
    def updates_per_shard(self) -> int | None:
        return self._source.updates_per_shard

    @property
    def files(self) -> tuple[Path, ...]:
        return files_of(self._source)

    def load(self, shard: int) -> "Transitions":
        transitions = self._source.load(shard)
        where = self._name if self.shards == 1 else f"{self._name}, shard {shard}"
        _check_values(where, transitions)
        warning = check_windows(where, np.asarray(transitions.ends), self._horizon)
        if warning and not self._warned:
            self._warned = True
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        actions = np.clip(np.asarray(transitions.actions), -ACTION_LIMIT, ACTION_LIMIT)
        return dataclasses.replace(transitions, actions=actions)


def files_of(source: DataSource) -> tuple[Path, ...]:
    """The data files that a source reads: its attribute `files`, if it has one."""
    return tuple(Path(file) for file in getattr(source, "files", ()))


def _check_values(where: str, transitions: "Transitions") -> None:
    for name, array in vars(transitions).items():
        row = not_finite(np.asarray(array))
        if row is not None:
            raise UserError(f"{where}: {name}: not finite in row {row:,}; mend or drop the episode")
    wild = outside(np.asarray(transitions.actions), LARGEST_ACTION)
    if wild is not None:
        raise UserError(f"{where}: {wild.text(wild.row)}")


def check_windows(where: str, ends: Num[np.ndarray, " size"], horizon: int) -> str | None:
    """What to warn of where episodes are shorter than a window, or None.

    **Raises:** `UserError` if no window lies inside an episode.
    """
    last = np.flatnonzero(np.append(ends[:-1], 1))
    lengths = np.diff(last, prepend=-1)
    short, longest = int(np.sum(lengths < horizon)), int(lengths.max())
    if short == len(lengths):
        raise UserError(
            f"{where}: all {short:,} episodes are shorter than a chunk of {horizon} steps, the "
            f"longest has {longest}; write agent.horizon = {longest} or less"
        )
    if short == 0:
        return None
    starts = len(ends) - horizon + 1
    whole = int(np.sum(np.maximum(lengths - horizon + 1, 0)))
    return (
        f"{where}: {short:,} of {len(lengths):,} episodes are shorter than a chunk of {horizon} "
        f"steps and teach nothing; {1 - whole / starts:.0%} of the windows drawn are cut by an "
        "episode's end"
    )


@dataclass(frozen=True)
class Outside:
    """Actions beyond their range: how many rows of how many, and where the largest is."""

    count: int
    rows: int
    row: int
    largest: float

    def text(self, row: int) -> str:
        """The message, with the row as the reader counts it."""
        return (
            f"actions: {self.count:,} of {self.rows:,} rows lie outside [-1, 1], the farthest by "
            f"an entry of {self.largest:.4g} in row {row:,}; scale the actions to [-1, 1], or have "
            'their range scaled: data.scale_actions = "data"'
        )


def outside(actions: Float[np.ndarray, "size act"], limit: float) -> Outside | None:
    """The actions with an entry beyond ±`limit`, if there are any."""
    # No row is looked at where the extremes are inside: two passes without a copy.
    if len(actions) == 0 or max(actions.max(), -actions.min()) <= limit:
        return None
    reach = np.abs(actions).max(axis=1)
    row = int(np.argmax(reach))
    largest = actions[row, np.argmax(np.abs(actions[row]))]
    return Outside(int(np.sum(reach > limit)), len(actions), row, float(largest))


def not_finite(array: np.ndarray) -> int | None:
    """The first row with a NaN or an infinity, or None."""
    # A sum is finite only if all terms are; it costs one pass and no copy. (A sum may overflow
    # where no term is infinite: then the rows decide.)
    with np.errstate(over="ignore", invalid="ignore"):
        if array.dtype.kind != "f" or np.isfinite(np.sum(array)):
            return None
    return first_row(np.any(~np.isfinite(array.reshape(len(array), -1)), axis=1))


def first_row(marked: Bool[np.ndarray, " rows"]) -> int | None:
    """The first marked row, or None."""
    return int(np.argmax(marked)) if marked.any() else None
