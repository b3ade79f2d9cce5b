"""Episodes as a format stores them, and what becomes of them: transitions."""

import functools
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from qamx.data.transitions import Transitions
from qamx.data.validation import require_marks
from qamx.envs.spaces import PLAIN, chosen, is_image, joined, named_leaves
from qamx.errors import UserError

Terminal: TypeAlias = Literal["data", "success", "never"]


@dataclass(frozen=True)
class Episode:
    """One episode, row by row.

    **Arguments:**

    - `observations`: an array, or (nested) dictionaries of arrays, with a row for each action and,
      where the format stores it, one more that follows the last action.
    - `actions`: the T actions.
    - `rewards`, `terminations`, `success`: T numbers each, or None where the source has none;
      `terminations` are true where the task itself ended (not a time limit), `success` where it
      was solved.
    - `next_observations`: of the form of `observations`, for formats that store both.
    - `name`: what messages call it; by default its number.
    """

    observations: np.ndarray | Mapping
    actions: np.ndarray
    rewards: np.ndarray | None = None
    terminations: np.ndarray | None = None
    success: np.ndarray | None = None
    next_observations: np.ndarray | Mapping | None = None
    name: str = ""


@dataclass(frozen=True)
class Reading:
    """How episodes become transitions.

    **Arguments:**

    - `observation_keys`: the entries of dictionary observations, in their order; None for all, in
      alphabetical order.
    - `environment_keys`: the same as the environment's section names them, for dictionary
      observations whose keys the data's section does not name.
    - `solved_at_last`: every episode solves the task in its last step, as demonstrations do.
    - `sparse`: the reward is 0 where the task is solved, else -1.
    - `terminal`: where nothing is bootstrapped: where the data says that an episode terminated,
      where the task is solved, or nowhere.
    """

    observation_keys: tuple[str, ...] | None = None
    environment_keys: tuple[str, ...] | None = None
    solved_at_last: bool = False
    sparse: bool = False
    terminal: Terminal = "data"

    def transitions(self, where: str, episodes: Iterable[Episode]) -> Transitions:
        """The transitions of all episodes, one after the other.

        The last step of an episode is left out where no observation follows it and its
        successor matters, because it did not terminate. Episodes without a step are left out,
        with a note.

        **Arguments:** `where` is what messages call the source.

        **Raises:** `UserError` naming the episode and the array: missing rewards, terminations or
        successes, arrays of unequal length, an observation that is not there, a solved step that
        would be left out in every episode.
        """
        parts, empty = [], []
        for index, episode in enumerate(episodes):
            name = episode.name or f"episode {index}"
            part = self._part(f"{where}, {name}", episode) if len(episode.actions) else ()
            if len(part):
                parts.append(part)
            else:
                empty.append(name)
        _note_left_out(where, empty)
        if not parts:
            raise UserError(f"{where}: no episode with a step; name a data set that has some")
        sizes = {part.observations.shape[1:] + part.actions.shape[1:] for part in parts}
        if len(sizes) > 1:
            raise UserError(
                f"{where}: episodes have observations and actions of different sizes: "
                f"{', '.join(map(str, sorted(sizes)))}; name the entries that all of them have in "
                "data.observation_keys"
            )
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Transitions(*(np.concatenate(column) for column in columns))

    @np.errstate(over="ignore")  # infinities are found where the transitions are checked
    def _part(self, where: str, episode: Episode) -> Transitions:
        _require_numbers(where, "actions", episode.actions)
        steps = len(episode.actions)
        actions = np.asarray(episode.actions, np.float32).reshape(steps, -1)
        success = self._success(where, episode, steps)
        rewards = self._rewards(where, episode, success, steps)
        stops = self._stops(where, episode, success, steps)
        before, after = self._observations(where, episode, steps)
        if len(after) < steps and self.solved_at_last and not stops[-1]:
            raise UserError(
                f"{where}: no observation follows the last step, which would be left out, and it "
                'solves the task (data.success = "last"); write data.terminal = "success"'
            )
        if len(after) < steps and stops[-1]:
            after = np.concatenate([after, before[-1:]])  # never looked at: nothing is bootstrapped
        kept = min(steps, len(after))
        ends = np.zeros(kept, np.float32)
        ends[-1:] = 1.0
        return Transitions(
            before[:kept],
            actions[:kept],
            rewards[:kept],
            1.0 - stops[:kept].astype(np.float32),
            ends,
            after[:kept],
        )

    def _observations(
        self, where: str, episode: Episode, steps: int
    ) -> tuple[Float[np.ndarray, "t obs"], Float[np.ndarray, "t obs"]]:
        leaves = named_leaves(episode.observations)
        if not leaves:
            raise UserError(f"{where}: observations: there are none; add them, or drop the episode")
        keys = self._keys(where, leaves)
        for key in keys:
            name = f"observations {key}".strip()
            _require_vectors(where, name, leaves[key])
            _require_rows(where, name, leaves[key], (steps, steps + 1))
        rows = min(len(leaves[key]) for key in keys)
        vectors = joined({key: leaves[key][:rows] for key in keys}, keys, rows)
        if episode.next_observations is None:
            return vectors[:steps], vectors[1:]
        following = named_leaves(episode.next_observations)
        chosen(following, keys, f"{where}: next observations")
        for key in keys:
            name = f"next observations {key}".strip()
            _require_vectors(where, name, following[key])
            _require_rows(where, name, following[key], (steps,))
        return vectors[:steps], joined(following, keys, steps)

    def _keys(self, where: str, leaves: Mapping) -> list[str]:
        if self.observation_keys is None and PLAIN not in leaves:
            named_by = f"{where}: data.observation_keys, by default the environment's"
            return chosen(leaves, self.environment_keys, named_by)
        return chosen(leaves, self.observation_keys, f"{where}: data.observation_keys")

    def _success(self, where: str, episode: Episode, steps: int) -> np.ndarray | None:
        if self.solved_at_last:
            return np.arange(steps) == steps - 1
        if episode.success is None:
            return None
        return _marks(where, "successes", episode.success, steps)

    def _rewards(
        self, where: str, episode: Episode, success: np.ndarray | None, steps: int
    ) -> Float[np.ndarray, " t"]:
        if self.sparse:
            return np.where(_known(where, success, "environment.reward"), 0.0, -1.0).astype(
                np.float32
            )
        if episode.rewards is None:
            raise UserError(
                f'{where}: rewards: missing; write environment.reward = "sparse" to be rewarded '
                "for success (named by data.success), or add the rewards to the data"
            )
        return _column(where, "rewards", episode.rewards, steps).astype(np.float32)

    def _stops(
        self, where: str, episode: Episode, success: np.ndarray | None, steps: int
    ) -> np.ndarray:
        """Whether nothing is bootstrapped after each step."""
        if self.terminal == "never":
            return np.zeros(steps, bool)
        if self.terminal == "success":
            return _known(where, success, "data.terminal")
        if episode.terminations is None:
            raise UserError(
                f'{where}: terminations: missing; write data.terminal = "success" to stop where '
                'the task is solved, or "never" if episodes end by time alone'
            )
        return _marks(where, "terminations", episode.terminations, steps)


def _known(where: str, success: np.ndarray | None, asked_by: str) -> np.ndarray:
    if success is None:
        raise UserError(
            f"{where}: successes: missing, and {asked_by} asks for them; name their array in "
            'data.success, or write data.success = "last" if every episode ends with success'
        )
    return success


def _note_left_out(where: str, names: Sequence[str], most: int = 5) -> None:
    if names:
        more = f" and {len(names) - most:,} more" if len(names) > most else ""
        _note(f"{where}: leaves out what holds no whole step: {', '.join(names[:most])}{more}")


@functools.cache
def _note(text: str) -> None:
    """A note, once a process: a shard is loaded many times."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def _marks(where: str, name: str, array: np.ndarray, steps: int) -> np.ndarray:
    column = _column(where, name, array, steps)
    require_marks(where, name, column)
    return column > 0


def _column(where: str, name: str, array: np.ndarray, steps: int) -> np.ndarray:
    _require_numbers(where, name, array)
    _require_rows(where, name, array, (steps,))
    column = np.asarray(array).reshape(steps, -1)
    if column.shape[1] != 1:
        raise UserError(f"{where}: {name}: shape {np.shape(array)}; write one number a step")
    return column.reshape(steps)


def _require_numbers(where: str, name: str, array: Any) -> None:
    array = np.asarray(array)
    if array.dtype.kind not in "fiub" or not array.ndim:
        found = f"{array.dtype} of shape {array.shape}"
        raise UserError(f"{where}: {name}: found {found}; store it as numbers, one row a step")


def _require_vectors(where: str, name: str, array: Any) -> None:
    shape, dtype = getattr(array, "shape", ()), getattr(array, "dtype", None)
    if not shape or dtype is None or dtype.kind not in "fiub":
        kind = type(array).__name__ if dtype is None else dtype if shape else f"a single {dtype}"
        raise UserError(
            f"{where}: {name}: found {kind}; qamx learns from arrays of numbers: name "
            "other entries in data.observation_keys"
        )
    if is_image(shape[1:], dtype):
        raise UserError(
            f"{where}: {name}: images of shape {shape[1:]}; qamx learns from vectors: "
            "name other entries in data.observation_keys"
        )


def _require_rows(where: str, name: str, array: np.ndarray, allowed: tuple[int, ...]) -> None:
    if len(array) not in allowed:
        raise UserError(
            f"{where}: {name}: {len(array):,} rows, and there are {allowed[0]:,} actions; every "
            "array has one row a step"
        )
