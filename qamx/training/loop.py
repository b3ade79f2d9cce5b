"""The loop of a run, or of a group of them: phases, and the events between updates."""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qamx._utils.backend import check_jax
from qamx._utils.terminal import Progress
from qamx.agents import AbstractAgent, clone, create_state, update
from qamx.data.replay import Replay
from qamx.data.shards import Shards
from qamx.data.transitions import Transitions
from qamx.envs import EnvHandle, close_envs
from qamx.errors import ExitCode
from qamx.schedules import Cloning, Offline, Online, Phase
from qamx.training.async_evaluation import AsyncEvaluations, PendingEvaluation, Result
from qamx.training.checkpoint import Saved
from qamx.training.collector import GroupCollector
from qamx.training.divergence import FiniteCheck, broken_arrays, last_saved
from qamx.training.evaluator import Acting, validate_environment
from qamx.training.guards import (
    Stopped,
    StopRequest,
    Watchdog,
    acknowledge_interrupts,
    explain_oom,
    open_watched_envs,
    replay_size,
)
from qamx.training.logs import RATE, write_rate
from qamx.training.plan import Event, events, validate_agent, validate_problem
from qamx.training.seed_group import SeedGroup, SeedRun
from qamx.training.state import REPLAY, SHARED, Trainer, Training

_LOG = logging.getLogger("qamx")

DISPATCH_SECONDS = 0.25
"""Updates go to the device in dispatches of about this length, so that progress stays live."""

COMPILING = "compiling (about 30 s)"

PROGRESS_LINE = "{label}: step {done} of {total}, {rate}, {left} left"


RowKind: TypeAlias = Literal["metrics", "evaluation"]
"""The log that a row is written to."""

OnRow: TypeAlias = "Callable[[Runner, SeedRun, RowKind, dict[str, Any]], None]"


class Runner:
    """Carries out a plan in a folder, from its latest checkpoint on.

    The result does not depend on where a run was interrupted.

    **Arguments:** `runs` are one run, or several of different seeds that are trained together as
    one program; each has its own folder, records and checkpoints, as if it ran alone. `on_row` is
    called with each row of metrics or of an evaluation that has been written.

    **Raises:** `UserError` if data and environment do not fit each other, a folder's checkpoints
    are gone, or the runs are at different steps.
    """

    def __init__(self, runs: Sequence[SeedRun], on_row: "OnRow | None" = None):
        self._on_row = on_row
        self.stop = StopRequest()
        self._group, self._plan = SeedGroup(runs), runs[0].plan
        self._saved = self._group.newest_checkpoints()
        self._step = next((saved.step for saved in self._saved.values()), 0)
        self._saved_step = self._step
        self._dispatch = self._plan.updates_per_dispatch or 1
        schedule, evaluation = self._plan.schedule, self._plan.evaluation
        self._progress = Progress(schedule.steps, self._step, unit="steps", line=PROGRESS_LINE)
        self._shards = Shards(self._plan.data, self._updates, schedule.updates_at(schedule.steps))
        self._watchdog = Watchdog()
        self._collector: GroupCollector | None = None
        count = min(evaluation.environments, evaluation.episodes)
        environments = self._open(count, evaluation.workers)
        try:
            check_jax()  # after the environment's imports, which may change JAX's switches
            offline = self._shards.first()
            validate_problem(self._plan, offline, environments[0])
            if not self._saved:
                validate_environment(environments[0], runs[0].evaluation_seeds()[0])
            self._memory, self._trainers, self.replay, self.training = self._start(offline)
            with explain_oom(self._memory):
                self._finite = FiniteCheck(self._group, schedule, self._step, self.training)
        except BaseException:
            close_envs(environments)
            raise
        self._trainer = self._trainers[type(schedule.phase_at(self._step))]
        self._evaluations = AsyncEvaluations(environments, self._group, self._trainer)

    def _start(
        self, offline: Transitions
    ) -> tuple[str, dict[type[Phase], Trainer], Replay, Training]:
        """Puts data and the state before the first update on the device.

        The first part of the result describes the memory that they take.
        """
        plan, runs, stacking = self._plan, self._group.runs, self._group.stacking
        sizes = offline.observations.shape[1], offline.actions.shape[1]
        capacity = plan.schedule.online_steps
        rows = len(offline) * (1 + self._shards.ahead) + capacity * len(runs)
        memory = replay_size(rows, *sizes)
        with explain_oom(memory):
            replay = stacking.put(Replay.create(offline, capacity, stacking.axes), REPLAY)
            agents = [plan.make_agent(*sizes, run.keys.agent) for run in runs]
            validate_agent(plan, agents[0])
            if not self._saved:
                agents = [plan.initialise(agent) for agent in agents]
            states = [
                create_state(agent, plan.optimiser, run.keys.update)
                for agent, run in zip(agents, runs, strict=True)
            ]
            _, static = eqx.partition(states[0], eqx.is_array)
            arrays = stacking.join([eqx.filter(state, eqx.is_array) for state in states])
            state = eqx.combine(arrays, static)
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
            memory += f", the training state {size / 2**20:,.0f} MiB"
        cloning, learning = (
            Trainer(state, plan.optimiser, plan.sampling, step, plan.precision, stacking)
            for step in (clone, update)
        )
        trainers = {Cloning: cloning, Offline: learning, Online: learning}
        with explain_oom(memory):
            key = stacking.join([run.keys.batch for run in runs])
            first = trainers[type(plan.schedule.phase_at(self._step))]
            return memory, trainers, replay, first.begin(state, replay, key)

    def copy_agent(self, run: SeedRun) -> tuple[AbstractAgent, Acting]:
        """A copy of a run's agent as it is now, and the compiled function that acts with it."""
        training = self._group.stacking.of(self.training, run.index)
        return self._trainer.copy_agent(training), self._trainer.acting

    def run(self) -> ExitCode:
        """Runs all phases from the present step on; returns an exit code."""
        stack = contextlib.ExitStack()
        with acknowledge_interrupts(), self.stop.listening(), stack:
            stack.callback(self._close)
            if self._saved:
                self._restore(self._saved)
                self._saved = {}  # a host copy of everything
            else:
                for run in self._group.active:
                    run.clear()
            stack.enter_context(self._progress)
            self._progress.announce(COMPILING)
            with explain_oom(self._memory):
                with contextlib.suppress(Stopped):
                    self._run_phases()
                if self.stop.made and self._saved_step != self._step:
                    self._save()
            for run in self._group.runs:
                run.checkpoints.wait()
                (run.directory / RATE).unlink(missing_ok=True)
            stopped = self.stop.made
        if stopped:
            return ExitCode.INTERRUPTED
        return ExitCode.FAILED if len(self._group.active) < len(self._group.runs) else ExitCode.DONE

    def _close(self) -> None:
        """Closes all parts, whatever fails on the way; saves go first."""
        with contextlib.ExitStack() as stack:  # in the opposite order
            stack.callback(self._watchdog.close)
            if self._collector is not None:
                stack.callback(self._collector.close)
            stack.callback(self._evaluations.close)
            stack.callback(self._shards.close)
            for run in self._group.runs:
                stack.callback(run.checkpoints.close)

    def _open(self, count: int, workers: int) -> list[EnvHandle]:
        return open_watched_envs(self._plan.make_environment, count, workers, self._watchdog)

    # --- phases ---

    def _run_phases(self) -> None:
        self._record(self._evaluations.begin(self.stop))
        for event in events(self._plan.schedule, self._plan.intervals, self._step):
            self._start_phase(event.phase)
            while self._step < event.step:
                if self.stop.made:
                    return
                self._use_shard()
                if isinstance(event.phase, Online):
                    self._collect_and_update()
                else:
                    self._update(event.step)
                self._finish_step(event)
        self._record(self._evaluations.finish(self.stop))

    def _start_phase(self, phase: Phase) -> None:
        """At the end of cloning, goes over to the method's own objective with a fresh optimiser."""
        trainer = self._trainers[type(phase)]
        if trainer is not self._trainer:
            self.training = trainer.start_phase(self.training, self.replay)
            self._trainer = trainer
            self._finite.restart(self._step, self.training)

    def _update(self, end: int) -> None:
        """A dispatch of updates, up to step `end`."""
        updates = min(self._dispatch, end - self._step, self._shards.left(self._updates))
        began = time.monotonic()
        self.training = self._trainer.run(self.training, self.replay, updates)
        jax.block_until_ready(self.training.counted)
        self._step += updates
        if self._plan.updates_per_dispatch is None:
            rate = updates / (time.monotonic() - began)
            self._dispatch = max(1, int(rate * DISPATCH_SECONDS))

    def _collect_and_update(self) -> None:
        """An environment step, and the updates that it brings."""
        if self._collector is None:
            self._collector = self._open_collector()
            self._collector.begin()
        new = self._collector.take(self._trainer, self.training, self._check_finite)
        self.replay = self.replay.append(new)
        before = self._updates
        self._step += 1
        if updates := self._updates - before:
            # The call returns before the device is done: environments step meanwhile.
            self.training = self._trainer.run(self.training, self.replay, updates)

    def _open_collector(self) -> GroupCollector:
        count = len(self._group.runs)
        workers = count if self._plan.evaluation.workers else 0
        return GroupCollector(self._group, self._open(count, workers))

    @property
    def _updates(self) -> int:
        """Gradient updates up to the present step."""
        return self._plan.schedule.updates_at(self._step)

    def _use_shard(self) -> None:
        """Replaces the shard by that of the present update."""
        updates = self._updates
        if self._shards.needs_swap(updates):
            self._check_finite()
            shard = self._group.stacking.put(self._shards.swap(updates), SHARED)
            self.replay = self.replay.replace_offline(shard)
            self._finite.restart(self._step, self.training)
        self._shards.prepare(updates)

    # --- events ---

    def _finish_step(self, event: Event) -> None:
        """Handles the event if its step is reached, and whatever arrived from other threads."""
        for run in self._group.active:
            run.checkpoints.check()
        self._record(self._evaluations.poll())
        if self._step == event.step:
            self._handle(event)
        self._progress.advance(self._step, event.phase.name)

    def _handle(self, event: Event) -> None:
        """Logs, evaluates and saves, in this order.

        An evaluation changes nothing but its log. A checkpoint that is saved before its end
        holds what it takes to repeat it.
        """
        if event.log:
            self._log(event.phase.name)
        if event.evaluate:
            agents = jax.tree.map(jnp.copy, self.training.state.agent)
            self._evaluations.add(PendingEvaluation(self._step, event.phase.name, agents))
        if event.save:
            self._save()
        if event.evaluate:
            self._record(self._evaluations.begin(self.stop))

    def _log(self, phase: str) -> None:
        if np.asarray(self.training.counted).max() == 0:
            return
        means = self._check_finite()
        for run in self._group.active:
            row = {"step": self._step, "phase": phase, **means[run.index]}
            run.logs.write_metrics(row)
            self._notify(run, "metrics", row)
        self._report_rate()
        self.training = self.training.cleared()
        self._finite.restart(self._step, self.training)

    def _report_rate(self) -> None:
        """Leaves the bar's rate to `qamx status` while the run works."""
        with contextlib.suppress(OSError):  # a full disk is met by what matters
            for run in self._group.active:
                write_rate(run.directory, self._progress.rate)

    def _record(self, results: list[Result]) -> None:
        for run, row in results:
            run.logs.write_evaluation(row)
            self._notify(run, "evaluation", row)
            line = f"step {row['step']:>9,}  {row['phase']:<7}  success {row['success']:4.0%}"
            if "behaviour_success" in row:
                line += f"  (behaviour cloning {row['behaviour_success']:.0%})"
            line += f"  return {row['return']:.1f}"
            _LOG.info(self._group.stacking.label(run.seed, line))
            self._progress.note(f"success {row['success']:.0%}")

    def _notify(self, run: SeedRun, kind: "RowKind", row: dict[str, Any]) -> None:
        if self._on_row is not None:
            self._on_row(self, run, kind, row)

    def _check_finite(self) -> list[dict[str, float]]:
        """The metrics' means, a table a run; drops the runs that have diverged."""
        return self._finite.means(self.training, self._trainer, self.replay, self._saved_step)

    # --- saving ---

    def _save(self) -> None:
        self._check_finite()
        for run in self._group.active:
            # Thread and loop share nothing but the records, which a save waits for.
            run.checkpoints.wait()
        collected = int(self.replay.size) - self.replay.offline_size
        evaluations = self._evaluations.position()
        for run in self._group.active:
            training = self._group.stacking.of(self.training, run.index)
            if broken := broken_arrays(training.state):
                self._group.drop(
                    run,
                    f"step {self._step:,}: {', '.join(broken)} not finite, though every metric "
                    f"is. {last_saved(self._saved_step)}; lower the learning rate, or clip "
                    "gradients",
                )
                continue
            position = {
                "evaluations_due": evaluations,
                "online_rows": collected,
                "logs": run.logs.positions(),
                "collector": None if self._collector is None else self._collector.position(run),
            }
            place = self._group.stacking.place(run.index)
            run.save(
                self._step,
                training,
                position,
                self._evaluations.arrays(self._step, run),
                lambda first, last, at=place: self.replay.online_rows(first, last, at),
            )
        self._saved_step = self._step

    def _restore(self, saved: dict[int, Saved]) -> None:
        trainings = [self._group.stacking.of(self.training, run.index) for run in self._group.runs]
        for index, own in saved.items():
            trainings[index] = own.fit(trainings[index])
        # Records are cut back only now: a checkpoint of another experiment has been refused.
        restored = {run.index: run.restore(saved[run.index]) for run in self._group.active}
        rows = {index: own for index, own in restored.items() if own is not None}
        self.training = self._group.stacking.join(trainings)
        self._evaluations.restore(saved, [training.state.agent for training in trainings])
        if rows:
            self.replay = self.replay.append(self._group.rows(rows))
            self._collector = self._open_collector()
            self._collector.restore(saved, rows)
        self._finite.restart(self._step, self.training)
