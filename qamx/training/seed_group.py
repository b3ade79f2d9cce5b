"""One seed or several trained as one: stacking, saving, collecting."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from qamx.data.transitions import Transitions
from qamx.envs import Player, close_players
from qamx.errors import RunError, UserError
from qamx.schedules import next_due
from qamx.training.checkpoint import Checkpoints, Saved
from qamx.training.collector import Collector
from qamx.training.logs import FROZEN, Logs
from qamx.training.online_rows import OnlineRows, Record
from qamx.training.plan import RunPlan, evaluation_seeds, keys_of
from qamx.training.state import Trainer, Training


class Member:
    """A run as its folder holds it; the runner trains one, or a group of them that differ in
    their seeds alone.

    **Arguments:** `plan` holds the seed, `directory` is the run's folder, `logs` its records.
    """

    def __init__(self, plan: RunPlan, directory: Path, logs: Logs):
        self.plan, self.directory, self.logs = plan, directory, logs
        self.index: int | None = None
        """The place in the group; None for a run by itself."""
        self.agent_key, self.update_key, self.batch_key, self.collect_key, self.evaluation_key = (
            keys_of(plan.seed)
        )
        self.checkpoints = Checkpoints(directory / "checkpoints", plan.keep_checkpoints)
        self.collector: Collector | None = None
        self._online_rows = OnlineRows(directory / "replay")
        self._records: list[Record] = []
        self._saved_rows = 0
        self.frozen: str | None = None
        """Why this member of a group does not go on."""

    @property
    def seed(self) -> int:
        """The seed of every draw of this run."""
        return self.plan.seed

    @property
    def place(self) -> int:
        """Where this member's entry stands in a list of all."""
        return self.index or 0

    def join(self, index: int) -> None:
        """Takes a place in a group, for good if the run has left it before."""
        self.index = index
        # A kill between two members' saves must leave the step before to each of them.
        self.checkpoints.keep = max(2, self.plan.keep_checkpoints)
        mark = self.directory / FROZEN
        if mark.exists():
            self.frozen = json.loads(mark.read_bytes())["why"]
            print(f"seed {self.seed} stays out of the group: {self.frozen}", flush=True)

    def go_alone(self) -> None:
        """Forgets that a group went on without this run."""
        (self.directory / FROZEN).unlink(missing_ok=True)

    def freeze(self, why: str) -> None:
        """Leaves the group: what is saved stays as it is."""
        self.frozen = why
        (self.directory / FROZEN).write_text(json.dumps({"why": why}), encoding="utf-8")

    # --- acting ---

    def evaluation_seeds(self) -> Sequence[int]:
        """The reset seeds of every evaluation."""
        return evaluation_seeds(self.seed, self.plan.evaluation.episodes)

    def collect_in(self, player: Player) -> Collector:
        """Begins to collect data in an environment."""
        self.collector = Collector(player, self.seed, self.plan.scale_rewards)
        return self.collector

    # --- saving ---

    def newest(self, limit: int | None = None) -> Saved | None:
        """The newest intact checkpoint, of step `limit` at most."""
        return self.checkpoints.newest(self._verify_rows, limit)

    def save(
        self,
        step: int,
        training: Training,
        position: dict[str, Any],
        waiting: dict[str, Any],
        rows: Callable[[int, int], Transitions],
        collected: int,
    ) -> None:
        """Saves in the background; `rows` copies online transitions to the host."""
        new, first = rows(self._saved_rows, collected), self._saved_rows
        position = {
            **position,
            "online_rows": collected,
            "logs": self.logs.positions(),
            "collector": None if self.collector is None else self.collector.position(),
        }

        def write_rows() -> dict[str, Any]:
            self._records += self._online_rows.save(first, new)
            return {"replay": self._records}

        self.checkpoints.save(step, training, position, write_rows, waiting)
        self._saved_rows = collected

    def restore(self, saved: Saved) -> Transitions | None:
        """Puts records back where the checkpoint left them; returns the online transitions."""
        position = saved.position
        self.logs.cut(position["logs"])
        self.checkpoints.drop_after(saved.step)
        self._saved_rows, self._records = position["online_rows"], position["replay"]
        self._online_rows.keep_only(self._records)
        return self._online_rows.load(self._records, self._saved_rows)

    def resume_collecting(self, saved: Saved, rows: Transitions, player: Player) -> None:
        """Goes back to the middle of the episode that was being played."""
        place = saved.position["collector"]
        episode = rows.actions[self._saved_rows - place["length"] :]
        self.collect_in(player).restore(place, np.asarray(episode))

    def clear(self) -> None:
        """Removes what a run wrote that ended before its first checkpoint."""
        intervals, schedule = self.plan.intervals, self.plan.schedule
        every, end = (intervals.checkpoint,), schedule.phases[0].steps
        # A second save waits for the first, so that rows beyond it prove that there was one.
        second = next_due(next_due(0, every, end), every, end)
        reached = max((row["step"] for row in self.logs.metrics.rows()), default=0)
        if reached > second:
            raise UserError(
                f"{self.directory} has logs up to step {reached:,} but no checkpoint to go on "
                "from; restore its folder checkpoints, or name another directory with --out"
            )
        self.logs.cut({"metrics": 0, "evaluations": 0})
        self.checkpoints.drop_after(0)
        self._online_rows.keep_only([])

    def _verify_rows(self, saved: Saved) -> None:
        self._online_rows.verify(saved.position["replay"])


def common_checkpoints(members: Sequence[Member]) -> list[Saved] | None:
    """The newest checkpoint of each, all of one step; None if the runs have not saved yet.

    **Raises:** `UserError` if the runs stand at steps that no kill of the group explains.
    """
    limit: int | None = None
    while True:
        found = [member.newest(limit) for member in members]
        steps = [0 if saved is None else saved.step for saved in found]
        if min(steps) == max(steps):
            return [saved for saved in found if saved is not None] or None
        _check_steps(members, steps)
        limit = min(steps)
        if limit == 0:
            return None


def _check_steps(members: Sequence[Member], steps: Sequence[int]) -> None:
    """A group saves its members one after the other: they may be one save apart, not more."""
    plan, low = members[0].plan, min(steps)
    phases, start = plan.schedule.phases, plan.schedule.start
    ends = [start(index) + phase.steps for index, phase in enumerate(phases)]
    end = next((end for end in ends if end > low), plan.schedule.steps)
    if max(steps) <= next_due(low, (plan.intervals.checkpoint,), end):
        return
    places = ", ".join(
        f"seed {member.seed} at step {step:,}" for member, step in zip(members, steps, strict=True)
    )
    raise UserError(
        f"the runs of this group stand at different steps ({places}); continue the ones behind by "
        "themselves (--seed), or use --seeds-mode sequential, or name new folders with --out"
    )


def all_diverged(members: Sequence[Member]) -> RunError | None:
    """The error of a group of which no member goes on."""
    if any(member.frozen is None for member in members):
        return None
    lines = (f"seed {member.seed}: {member.frozen}" for member in members)
    return RunError("no seed of the group goes on:\n" + "\n".join(lines))


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
