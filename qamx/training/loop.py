"""The loop of a run, or of a group of them: phases, and the events between updates."""

import contextlib
import time
from collections.abc import Sequence
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from qamx._utils.backend import check_jax
from qamx._utils.terminal import Display, make_display
from qamx.agents import AbstractAgent, clone, create_state, update
from qamx.data.replay import Replay
from qamx.data.shards import Shards
from qamx.data.transitions import Transitions
from qamx.envs import Player, close_players
from qamx.errors import ExitCode, UserError
from qamx.schedules import Cloning, Offline, Online, Phase, is_due, next_due
from qamx.training.async_evaluation import Due, Evaluations, Result
from qamx.training.checkpoint import Saved
from qamx.training.divergence import (
    Divergence,
    Mark,
    broken_arrays,
    broken_metrics,
    rows_at,
    write_evidence,
)
from qamx.training.evaluator import validate_environment
from qamx.training.guards import (
    Stopped,
    StopRequest,
    Watchdog,
    bytes_of,
    named_memory,
    open_watched_players,
    replay_size,
)
from qamx.training.seed_group import (
    Collection,
    Member,
    Place,
    all_diverged,
    common_checkpoints,
    together,
)
from qamx.training.state import Trainer, Training, stacked

T = TypeVar("T", bound=PyTree)

DISPATCH_SECONDS = 0.25
"""Updates go to the device in portions of about this long, so that progress stays live."""


class Runner:
    """Carries out a plan in a folder, from its latest checkpoint on.

    The same plan in the same folder continues; the result does not depend on where a run was
    interrupted.

    **Arguments:** `members` are one run, or several of different seeds that are trained together
    as one program; each has its own folder, records and checkpoints, as if it ran alone.

    **Raises:** `UserError` if data and environment do not fit each other, a folder's checkpoints
    are gone, or the members stand at different steps.
    """

    def __init__(self, members: Sequence[Member]):
        self._members, self._plan = members, (plan := members[0].plan)
        self._width = None if len(members) == 1 else len(members)
        if self._width is None:
            members[0].go_alone()
        else:
            for index, member in enumerate(members):
                member.join(index)
        if error := all_diverged(members):
            raise error
        self.stop = StopRequest()
        self._saved = common_checkpoints(self._living)
        self._saved_step = self._step = 0 if self._saved is None else self._saved[0].step
        total = plan.schedule.updates_at(plan.schedule.steps)
        self._shards = Shards(plan.data, self._updates, total)
        evaluation = plan.evaluation
        count = min(evaluation.environments, evaluation.episodes)
        self._watchdog = Watchdog()
        self._players = self._open(count, evaluation.workers)
        self._collection: Collection | None = None
        try:
            check_jax()  # after the environment's own imports, which may turn its switches
            self._prepare()
        except BaseException:
            close_players(self._players)
            raise

    def _prepare(self) -> None:
        """Loads the data and puts the state of before the first update on the device."""
        plan, members = self._plan, self._members
        offline = self._shards.first()
        self._check_sizes(offline)
        self._check_episodes()
        if self._saved is None:
            validate_environment(self._players[0], members[0].evaluation_seeds()[0])
        sizes = offline.observations.shape[1], offline.actions.shape[1]
        room = plan.schedule.online_steps
        rows = len(offline) * (1 + self._shards.ahead) + room * len(members)
        self._memory = replay_size(rows, *sizes)
        with named_memory(self._memory):
            self._replay = Replay.create(offline, room, self._width)
            agents = [plan.make_agent(*sizes, member.agent_key) for member in members]
            self._check_clone(agents[0])
            if self._saved is None:
                agents = [plan.initialise(agent) for agent in agents]
            states = [
                create_state(agent, plan.optimiser, member.update_key)
                for agent, member in zip(agents, members, strict=True)
            ]
            _, static = eqx.partition(states[0], eqx.is_array)
            state = eqx.combine(self._joined([eqx.filter(s, eqx.is_array) for s in states]), static)
            self._memory += f", the training state {bytes_of(state) / 2**20:,.0f} MiB"
        self._trainers = {
            name: Trainer(state, plan.optimiser, plan.sampling, one, plan.precision, self._width)
            for name, one in (("cloning", clone), ("learning", update))
        }
        self._trainer = self._trainer_of(plan.schedule.phase_at(self._step))
        self._evaluations = Evaluations(self._players, members, self._trainer)
        with named_memory(self._memory):
            key = self._joined([member.batch_key for member in members])
            self._training = self._trainer.begin(state, self._replay, key)
            self._mark = Mark.of(self._step, self._training)

    @property
    def training(self) -> Training:
        """The present state of training."""
        return self._training

    @property
    def replay(self) -> Replay:
        """The present replay buffer."""
        return self._replay

    @property
    def _living(self) -> list[Member]:
        return [member for member in self._members if member.frozen is None]

    def _joined(self, parts: Sequence[T]) -> T:
        """A part of each member as the trainer takes them."""
        return parts[0] if self._width is None else stacked(parts)

    def run(self) -> ExitCode:
        """Runs all phases from the present step on; returns an exit code."""
        with self.stop.listening(), contextlib.ExitStack() as held:
            held.callback(self._close)
            if self._saved is None:
                for member in self._living:
                    member.clear()
            else:
                self._restore(self._saved)
                self._saved = None  # a host copy of everything
            display = make_display(self._plan.schedule.steps, self._step)
            held.callback(display.close)
            with named_memory(self._memory):
                self._run_phases(display)
                if self.stop.made and self._saved_step != self._step:
                    self._save()
            for member in self._members:
                member.checkpoints.wait()
            stopped = self.stop.made
        if stopped:
            return ExitCode.INTERRUPTED
        return ExitCode.FAILED if len(self._living) < len(self._members) else ExitCode.DONE

    def _close(self) -> None:
        """Ends all that the run holds, whatever fails on the way; saves go first."""
        with contextlib.ExitStack() as held:  # in the opposite order
            held.callback(self._watchdog.close)
            if self._collection is not None:
                held.callback(self._collection.close)
            held.callback(self._evaluations.close)
            held.callback(self._shards.close)
            for member in self._members:
                held.callback(member.checkpoints.close)

    # --- phases ---

    def _run_phases(self, display: Display) -> None:
        schedule = self._plan.schedule
        try:
            self._record(self._evaluations.begin(self.stop), display)
            for index, phase in enumerate(schedule.phases):
                begin = schedule.start(index)
                if self.stop.made or self._step >= begin + phase.steps:
                    continue
                self._use_trainer(phase)
                if isinstance(phase, Online):
                    self._run_online(phase, begin, display)
                else:
                    self._run_offline(phase, begin, display)
            self._record(self._evaluations.finish(self.stop), display)
        except Stopped:
            return

    def _trainer_of(self, phase: Phase) -> Trainer:
        return self._trainers["cloning" if isinstance(phase, Cloning) else "learning"]

    def _use_trainer(self, phase: Phase) -> None:
        """At the end of cloning, goes over to the method's own objective with a fresh optimiser."""
        trainer = self._trainer_of(phase)
        if trainer is not self._trainer:
            self._training = trainer.take_over(self._training, self._replay)
            self._trainer = trainer
            self._mark = Mark.of(self._step, self._training)

    def _run_offline(self, phase: Cloning | Offline, begin: int, display: Display) -> None:
        end, portion = begin + phase.steps, self._plan.updates_per_dispatch or 1
        intervals = self._plan.intervals
        while self._step < end and not self.stop.made:
            self._use_shard()
            events = (intervals.logging, intervals.evaluation, intervals.checkpoint)
            left = min(
                next_due(self._step, events, end) - self._step, self._shards.left(self._updates)
            )
            updates = min(portion, left)
            began = time.monotonic()
            self._training = self._trainer.run(self._training, self._replay, updates)
            jax.block_until_ready(self._training.counted)
            self._step += updates
            rate = updates / (time.monotonic() - began)
            portion = self._plan.updates_per_dispatch or max(1, int(rate * DISPATCH_SECONDS))
            self._events(phase.name, end, display)

    def _run_online(self, phase: Online, begin: int, display: Display) -> None:
        end = begin + phase.steps
        if self._collection is None:
            self._collection = self._open_collection()
            self._collection.begin()
        while self._step < end and not self.stop.made:
            self._use_shard()
            new = self._collection.take(self._trainer, self._training, self._check_finite)
            self._replay = self._replay.append(new)
            self._step += 1
            taken = self._step - begin
            updates = phase.updates_after(taken) - phase.updates_after(taken - 1)
            if updates:
                # The call returns before the device is done: environments step meanwhile.
                self._training = self._trainer.run(self._training, self._replay, updates)
            self._events(phase.name, end, display)

    def _open_collection(self) -> Collection:
        count = len(self._members)
        workers = count if self._plan.evaluation.workers else 0
        return Collection(self._members, self._open(count, workers), self._width)

    def _open(self, count: int, workers: int) -> list[Player]:
        make = self._plan.make_environment
        return open_watched_players(make, count, workers, self._watchdog)

    @property
    def _updates(self) -> int:
        """Gradient updates up to the present step."""
        return self._plan.schedule.updates_at(self._step)

    def _use_shard(self) -> None:
        """Puts the shard of the present update in the place of the one before."""
        updates = self._updates
        if self._shards.is_due(updates):
            self._check_finite()
            self._replay = self._replay.replace_offline(self._shards.swap(updates))
            self._mark = Mark.of(self._step, self._training)
        self._shards.prepare(updates)

    # --- events ---

    def _events(self, phase: str, end: int, display: Display) -> None:
        """Logs, begins an evaluation and saves where it is due, in this order.

        An evaluation changes nothing but its log. A checkpoint that is saved before its end
        holds what it takes to begin it again.
        """
        for member in self._living:
            member.checkpoints.check()
        intervals, step = self._plan.intervals, self._step
        self._record(self._evaluations.poll(), display)
        if is_due(step, intervals.logging, end):
            self._log(phase)
        if is_due(step, intervals.evaluation, end):
            self._begin_evaluation(phase, end, display)
        elif is_due(step, intervals.checkpoint, end):
            self._save()
        display.advance(phase, step)

    def _log(self, phase: str) -> None:
        if np.asarray(self._training.counted).max() == 0:
            return
        means = self._check_finite()
        for member in self._living:
            row = {"step": self._step, "phase": phase, **means[member.place]}
            member.logs.write_metrics(row)
        self._training = self._training.cleared()
        self._mark = Mark.of(self._step, self._training)

    def _begin_evaluation(self, phase: str, end: int, display: Display) -> None:
        agents = jax.tree.map(jnp.copy, self._training.state.agent)
        due = Due(self._step, phase, agents)
        self._evaluations.add(due)
        if is_due(self._step, self._plan.intervals.checkpoint, end):
            self._save()
        self._record(self._evaluations.begin(self.stop), display)

    def _record(self, results: list[Result], display: Display) -> None:
        for result in results:
            row = result.row
            result.member.logs.write_evaluation(row)
            said = f"step {row['step']:>9,}  {row['phase']:<7}  success {row['success']:.2f}"
            if self._width is not None:
                said = f"seed {result.member.seed:>6}  {said}"
            if "behaviour_success" in row:
                said += f"  (behaviour cloning {row['behaviour_success']:.2f})"
            display.say(f"{said}  return {row['return']:.1f}", row["success"])

    # --- saving ---

    def _save(self) -> None:
        self._check_finite()
        for member in self._living:
            # Thread and loop share nothing but the records, which a save waits for.
            member.checkpoints.wait()
        collected = int(self._replay.size) - self._replay.offline_size
        position = {"evaluations_due": self._evaluations.position()}
        for member in self._living:
            index = member.index
            training = self._training.of(index)
            if broken := broken_arrays(training):
                self._leave(member, self._spoilt(broken))
                continue
            member.save(
                self._step,
                training,
                position,
                self._evaluations.waiting(self._step, index),
                lambda first, last, i=index: self._replay.online_rows(first, last, i),
                collected,
            )
        self._saved_step = self._step

    def _restore(self, found: Sequence[Saved]) -> None:
        saved: dict[Place, Saved] = {
            member.index: one for member, one in zip(self._living, found, strict=True)
        }
        parts = []
        for member in self._members:
            one, training = saved.get(member.index), self._training.of(member.index)
            parts.append(training if one is None else one.fit(training))
        # Records are cut back only now: a checkpoint of another experiment has been refused.
        rows = {m.index: one for m in self._living if (one := m.restore(saved[m.index]))}
        self._training = self._joined(parts)
        self._evaluations.restore(saved, [part.state.agent for part in parts])
        if rows:
            self._replay = self._replay.append(together(rows, self._width))
            self._collection = self._open_collection()
            self._collection.restore(saved, rows)
        self._mark = Mark.of(self._step, self._training)

    # --- guards ---

    def _check_finite(self) -> list[dict[str, float]]:
        """The metrics' means, a table a member; one with a mean that is not finite leaves."""
        means = self._training.means()
        for member in self._living:
            if broken := broken_metrics(means[member.place]):
                self._leave(member, self._explain(member, broken))
        return means

    def _explain(self, member: Member, broken: list[str]) -> str:
        """Writes the evidence of a metric that is not finite."""
        schedule, index = self._plan.schedule, member.index
        offending = self._mark.offending(self._training, index)
        before = self._mark.before(offending, self._trainer, self._replay, schedule)
        mark = Mark(before.step, before.training.of(index))
        replay = rows_at(self._replay.of(index), schedule, mark.step)
        directory = member.directory / "nonfinite" / f"step-{mark.step}"
        found = write_evidence(directory, offending, broken, mark, self._trainer, replay)
        return (
            f"step {mark.step:,}, update {offending:,}: {', '.join(broken)} not finite; {found}. "
            f"{self._last_saved()}; look at the data's range, lower the learning rate or the "
            "inverse temperature"
        )

    def _spoilt(self, broken: list[str]) -> str:
        return (
            f"step {self._step:,}: {', '.join(broken)} not finite, though every metric is. "
            f"{self._last_saved()}; lower the learning rate, or clip gradients"
        )

    def _leave(self, member: Member, why: str) -> None:
        """A run by itself ends; a group goes on without the member."""
        if self._width is None:
            raise Divergence(why)
        member.freeze(why)
        print(f"seed {member.seed} does not go on: {why}", flush=True)
        if error := all_diverged(self._members):
            raise error

    def _last_saved(self) -> str:
        return f"The last checkpoint is of step {self._saved_step:,}"

    def _check_clone(self, agent: AbstractAgent) -> None:
        if self._plan.evaluation.behaviour and agent.policy.behaviour is None:
            raise UserError(
                "evaluation.behaviour: found true, but this method keeps no clone of the data "
                "apart from what it improves; write false"
            )

    def _check_episodes(self) -> None:
        """Refuses episodes too short for a window, as the data's are."""
        horizon, limit = self._plan.sampling.horizon, self._players[0].max_episode_steps
        if self._plan.schedule.online_steps and limit is not None and limit < horizon:
            raise UserError(
                f"agent.horizon: found {horizon}, and an episode of the environment has {limit} "
                "steps at most; no window online is whole, and nothing is learned from it; write "
                f"agent.horizon = {limit} or less, or raise environment.max_episode_steps"
            )

    def _check_sizes(self, offline: Transitions) -> None:
        horizon = self._plan.sampling.horizon
        if len(offline) < horizon:
            raise UserError(
                f"the data holds {len(offline)} transitions, fewer than one chunk of {horizon}"
            )
        env = self._players[0]
        wanted = (env.observation_size, env.action_size)
        found = (offline.observations.shape[1], offline.actions.shape[1])
        if wanted != found:
            raise UserError(
                f"the data has observations of {found[0]} and actions of {found[1]} entries, the "
                f"environment {wanted[0]} and {wanted[1]}; name data of this environment"
            )
