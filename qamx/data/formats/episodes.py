"""Episodes as a format stores them, and the reader that turns them into transitions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import numpy as np
from jaxtyping import Bool, Float

from qamx._utils.finding import counted, joined
from qamx.data.transitions import Transitions
from qamx.data.validation import is_numeric, require_column, require_flags, require_rows, warn_once
from qamx.envs.spaces import PLAIN, concat, is_image, named_leaves, select_keys
from qamx.errors import UserError

Flags: TypeAlias = Bool[np.ndarray, " t"]
Terminal: TypeAlias = Literal["data", "success", "never"]


@dataclass(frozen=True)
class StoredEpisode:
    """An episode, row by row.

    **Arguments:**

    - `observations`: an array, or (nested) dictionaries of arrays, with a row for each action and,
      where the format stores it, one more that follows the last action.
    - `actions`: the T actions.
    - `rewards`, `terminations`, `success`: T numbers each, or None where the source has none;
      `terminations` are true where the task itself ended (not a time limit), `success` where it
      was solved.
    - `next_observations`: structured as `observations`, for formats that store both.
    - `name`: its name in messages; by default its number.
    """

    observations: np.ndarray | Mapping
    actions: np.ndarray
    rewards: np.ndarray | None = None
    terminations: np.ndarray | None = None
    success: np.ndarray | None = None
    next_observations: np.ndarray | Mapping | None = None
    name: str = ""


@dataclass(frozen=True)
class EpisodeReader:
    """Turns episodes into transitions.

    **Arguments:**

    - `observation_keys`: the entries of dictionary observations, in their order; None for all, in
      alphabetical order.
    - `environment_keys`: those of the environment's section, for dictionary observations whose
      keys the data's section does not name.
    - `solved_at_last`: every episode solves the task in its last step, as demonstrations do.
    - `sparse`: the reward is 0 where the task is solved, else -1.
    - `terminal`: nothing is bootstrapped where the data says that an episode terminated, where the
      task is solved, or nowhere.
    """

    observation_keys: tuple[str, ...] | None = None
    environment_keys: tuple[str, ...] | None = None
    solved_at_last: bool = False
    sparse: bool = False
    terminal: Terminal = "data"

    def transitions(self, where: str, episodes: Iterable[StoredEpisode]) -> Transitions:
        """The transitions of all episodes, one after the other.

        The last step of an episode is left out if no observation follows it and the next one
        matters, because it did not terminate. Episodes without a step are left out, with a note.

        **Arguments:** `where` names the source in messages.

        **Raises:** `UserError` naming the episode and the array: missing rewards, terminations or
        successes, arrays of unequal length, a missing observation, a solved step that would be
        left out in every episode.
        """
        read, empty, cut, steps = [], [], 0, 0
        for index, episode in enumerate(episodes):
            name = episode.name or f"episode {index}"
            part = self._read(f"{where}, {name}", episode) if len(episode.actions) else ()
            if len(part):
                read.append(part)
                steps += len(episode.actions)
                cut += len(part) < len(episode.actions)
            else:
                empty.append(name)
        if empty:
            warn_once(f"note: {where}: leaves out what holds no whole step: {joined(empty)}")
        if not read:
            raise UserError(f"{where}: no episode with a step; name a data set that has some")
        sizes = {part.observations.shape[1:] + part.actions.shape[1:] for part in read}
        if len(sizes) > 1:
            raise UserError(
                f"{where}: episodes have observations and actions of different sizes: "
                f"{', '.join(map(str, sorted(sizes)))}; name the entries that all of them have in "
                "data.observation_keys"
            )
        transitions = jax.tree.map(lambda *columns: np.concatenate(columns), *read)
        if cut:
            warn_once(
                f"note: {where}: {steps:,} steps give {len(transitions):,} transitions: no "
                f"observation follows the last step of {counted(cut, 'episode')}"
            )
        return transitions

    @np.errstate(over="ignore")  # infinities are found where the transitions are checked
    def _read(self, where: str, episode: StoredEpisode) -> Transitions:
        actions = np.asarray(episode.actions)
        if not is_numeric(actions.dtype) or not actions.ndim:
            found = f"{actions.dtype} of shape {actions.shape}"
            raise UserError(f"{where}: actions: found {found}; store it as numbers, one row a step")
        steps = len(actions)
        success = self._success(where, episode)
        rewards = self._rewards(where, episode, success)
        stops = self._stops(where, episode, success)
        before, after = self._observations(where, episode)
        if len(after) < steps and self.solved_at_last and not stops[-1]:
            raise UserError(
                f"{where}: no observation follows the last step, which would be left out, and it "
                'solves the task (data.success = "last"); write data.terminal = "success"'
            )
        if len(after) < steps and stops[-1]:
            after = np.concatenate([after, before[-1:]])  # never used: nothing is bootstrapped
        kept = min(steps, len(after))
        ends = np.zeros(kept, np.float32)
        ends[-1:] = 1.0
        return Transitions(
            before[:kept],
            actions.astype(np.float32).reshape(steps, -1)[:kept],
            rewards[:kept],
            1.0 - stops[:kept].astype(np.float32),
            ends,
            after[:kept],
        )

    def _observations(
        self, where: str, episode: StoredEpisode
    ) -> tuple[Float[np.ndarray, "t obs"], Float[np.ndarray, "after obs"]]:
        """The observation before each step, and the one after it, if there is one."""
        steps = len(episode.actions)
        leaves = named_leaves(episode.observations)
        if not leaves:
            raise UserError(f"{where}: observations: there are none; add them, or drop the episode")
        keys, named_by = self.observation_keys, f"{where}: data.observation_keys"
        if keys is None and PLAIN not in leaves:
            keys, named_by = self.environment_keys, f"{named_by}, by default the environment's"
        keys = select_keys(leaves, keys, named_by)
        _require_vectors(f"{where}: observations", leaves, keys, steps, (steps, steps + 1))
        rows = min(len(leaves[key]) for key in keys)
        vectors = concat({key: leaves[key][:rows] for key in keys}, keys, rows)
        if episode.next_observations is None:
            return vectors[:steps], vectors[1:]
        following = named_leaves(episode.next_observations)
        select_keys(following, keys, f"{where}: next observations")
        _require_vectors(f"{where}: next observations", following, keys, steps, (steps,))
        return vectors[:steps], concat(following, keys, steps)

    def _success(self, where: str, episode: StoredEpisode) -> Flags | None:
        steps = len(episode.actions)
        if self.solved_at_last:
            return np.arange(steps) == steps - 1
        if episode.success is None:
            return None
        return _column(f"{where}: successes", episode.success, steps, require_flags)

    def _rewards(self, where: str, episode: StoredEpisode, success: Flags | None) -> np.ndarray:
        if self.sparse:
            solved = _require_success(where, success, "environment.reward")
            return np.where(solved, 0.0, -1.0).astype(np.float32)
        if episode.rewards is None:
            raise UserError(
                f'{where}: rewards: missing; write environment.reward = "sparse" to be rewarded '
                "for success (named by data.success), or add the rewards to the data"
            )
        steps = len(episode.actions)
        rewards = _column(f"{where}: rewards", episode.rewards, steps, require_column)
        return rewards.astype(np.float32)

    def _stops(self, where: str, episode: StoredEpisode, success: Flags | None) -> Flags:
        """Marks the steps after which nothing is bootstrapped."""
        steps = len(episode.actions)
        if self.terminal == "never":
            return np.zeros(steps, bool)
        if self.terminal == "success":
            return _require_success(where, success, "data.terminal")
        if episode.terminations is None:
            raise UserError(
                f'{where}: terminations: missing; write data.terminal = "success" to stop where '
                'the task is solved, or "never" if episodes end by time alone'
            )
        return _column(f"{where}: terminations", episode.terminations, steps, require_flags)


def _require_success(where: str, success: Flags | None, key: str) -> Flags:
    if success is None:
        raise UserError(
            f"{where}: successes: missing, and {key} asks for them; name their array in "
            'data.success, or write data.success = "last" if every episode ends with success'
        )
    return success


def _column(
    name: str, array: Any, steps: int, require: Callable[[str, Any], np.ndarray]
) -> np.ndarray:
    if np.ndim(array):
        require_rows(name, array, (steps,), f"there are {steps:,} actions")
    return require(name, array)


def _require_vectors(
    where: str, leaves: Mapping, keys: Iterable[str], steps: int, rows: tuple[int, ...]
) -> None:
    """Refuses entries of observations that are no vectors, or have another number of rows."""
    for key in keys:
        name, array = f"{where} {key}".strip(), leaves[key]
        shape, dtype = getattr(array, "shape", ()), getattr(array, "dtype", None)
        if not shape or dtype is None or not is_numeric(dtype):
            found = dtype if shape else f"a single {dtype}"
            raise UserError(
                f"{name}: found {type(array).__name__ if dtype is None else found}; qamx learns "
                "from arrays of numbers: name other entries in data.observation_keys"
            )
        if is_image(shape[1:], dtype):
            raise UserError(
                f"{name}: images of shape {shape[1:]}; qamx learns from vectors: name other "
                "entries in data.observation_keys"
            )
        require_rows(name, array, rows, f"there are {steps:,} actions")
