"""Collecting for one run, or for a group of them in step with each other."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float

from qamx.data.transitions import Transitions
from qamx.envs import Player, close_players
from qamx.runner.checkpoint import Saved
from qamx.runner.collect import Collector
from qamx.runner.member import Member
from qamx.runner.step import Trainer, Training

SHORT_EPISODES = 10
"""Episodes online without a whole window after which a run warns of it."""

Place = int | None
"""A member's place in its group; None for a run by itself."""


class Collection:
    """An environment and a collector for each member; one call of the policies serves all.

    **Arguments:** `players` are the members' environments, `width` the size of the group (None
    for a run by itself).
    """

    def __init__(self, members: Sequence[Member], players: Sequence[Player], width: int | None):
        self._members, self._players, self._width = members, players, width
        self._warned = False

    def begin(self) -> None:
        """Begins the first episodes."""
        for member, player in zip(self._members, self._players, strict=True):
            member.collect_in(player)

    def restore(self, saved: Mapping[Place, Saved], rows: Mapping[Place, Transitions]) -> None:
        """Goes back to the middle of the episodes that were being played."""
        for member, player in zip(self._members, self._players, strict=True):
            if member.index in rows:
                member.resume_collecting(saved[member.index], rows[member.index], player)

    def take(
        self, trainer: Trainer, training: Training, check: Callable[[], object]
    ) -> Transitions:
        """The next transition of each member, as `Replay.append` takes them.

        **Arguments:** `check` is called where a policy's action is not finite: the update is to
        blame then, not the environment that would be.
        """
        due = {m.index: c for m, c in self._playing().items() if c.needs_chunk}
        chunks = self._chunks(due, trainer, training) if due else {}
        if not all(np.isfinite(chunk).all() for chunk in chunks.values()):
            check()
        playing = self._playing()
        for member, collector in playing.items():
            if member.index in due:
                collector.load(chunks[member.index])
        taken = {member.index: collector.take() for member, collector in playing.items()}
        self._warn(playing.values())
        return together(taken, self._width)

    def close(self) -> None:
        """Frees the environments."""
        close_players(self._players)

    def _warn(self, collectors: Iterable[Collector]) -> None:
        """Says once that episodes end before a chunk does, which teaches nothing."""
        if self._warned or all((c.short_episodes or 0) < SHORT_EPISODES for c in collectors):
            return
        self._warned = True
        horizon = self._members[0].plan.sampling.horizon
        print(
            f"warning: the first {SHORT_EPISODES} episodes online are all shorter than a chunk of "
            f"{horizon} steps; no window of them is whole, and nothing is learned from them; lower "
            "agent.horizon",
            file=sys.stderr,
            flush=True,
        )

    def _playing(self) -> dict[Member, Collector]:
        return {m: m.collector for m in self._members if m.frozen is None and m.collector}

    def _chunks(
        self, due: dict[Place, Collector], trainer: Trainer, training: Training
    ) -> dict[Place, Float[np.ndarray, " dim"]]:
        if self._width is None:
            collector = due[None]
            key = jax.random.fold_in(self._members[0].collect_key, collector.calls)
            return {None: trainer.acting(training.state.agent, collector.observation[None], key)[0]}
        idle = np.zeros_like(next(iter(due.values())).observation)
        seen = [due[i].observation if i in due else idle for i in range(self._width)]
        calls = [due[i].calls if i in due else 0 for i in range(self._width)]
        keys = [member.collect_key for member in self._members]
        chunks = trainer.act_together(training, np.stack(seen), keys, np.asarray(calls))
        return {index: chunks[index] for index in due if index is not None}


def together(rows: Mapping[Place, Transitions], width: int | None) -> Transitions:
    """Rows of each seed as `Replay.append` takes them; zeros for a seed that has none."""
    if width is None:
        return rows[None]
    idle = jax.tree.map(np.zeros_like, next(iter(rows.values())))
    return jax.tree.map(
        lambda *columns: np.stack(columns), *(rows.get(index, idle) for index in range(width))
    )
