"""The loop of a run: phases, and the events between updates."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qamx.agents import AbstractAgent, clone, create_state, update
from qamx.data.replay import Replay
from qamx.data.sequences import Transitions
from qamx.envs import Environment
from qamx.errors import ExitCode, UserError
from qamx.runner.checkpoint import Checkpoints, Saved
from qamx.runner.collect import EVALUATION_STREAM, Collector, derived_seed
from qamx.runner.display import Display, make_display
from qamx.runner.evaluate import Evaluator, summarise
from qamx.runner.logs import Logs
from qamx.runner.memory import bytes_of, named_memory, replay_size
from qamx.runner.nonfinite import (
    Divergence,
    Mark,
    broken_arrays,
    broken_metrics,
    rows_at,
    write_evidence,
)
from qamx.runner.online_rows import OnlineRows, Record
from qamx.runner.plan import RunPlan
from qamx.runner.step import Role, Trainer, Training
from qamx.runner.stop import Stopped, StopRequest
from qamx.runner.watchdog import Watchdog, WatchedEnvironment
from qamx.schedules import Cloning, Offline, Online, Phase, is_due, next_due

DISPATCH_SECONDS = 0.25
"""Updates go to the device in portions of about this long, so that progress stays live."""


class Runner:
    """Carries out a plan in a directory, from its latest checkpoint on.

    The same plan in the same directory continues; the result does not depend on where a run was
    interrupted.

    **Raises:** `UserError` if data and environment do not fit each other, or the directory's
    checkpoints are gone.
    """

    def __init__(self, plan: RunPlan, directory: Path, logs: Logs):
        self._plan, self._logs, self._directory = plan, logs, directory
        optimiser = plan.optimiser
        keys = jax.random.split(jax.random.key(plan.seed), 5)
        agent_key, update_key, batch_key, self._act_key, self._evaluation_key = keys
        self.stop = StopRequest()
        self._checkpoints = Checkpoints(directory / "checkpoints", plan.keep_checkpoints)
        self._online_rows = OnlineRows(directory / "replay")
        self._records: list[Record] = []
        self._saved_rows = 0
        self._saved = self._checkpoints.newest(self._verify_rows)
        self._saved_step = self._step = 0 if self._saved is None else self._saved.step
        self._evaluation_due = False
        self._shard = self._shard_at(plan.schedule.updates_at(self._step))
        count = min(plan.evaluation.environments, plan.evaluation.episodes)
        self._watchdog = Watchdog()
        self._environments = [self._make_environment() for _ in range(count)]
        self._collector: Collector | None = None
        offline = plan.data.load(self._shard)
        self._check_sizes(offline)
        sizes = offline.observations.shape[1], offline.actions.shape[1]
        self._memory = replay_size(len(offline) + plan.schedule.online_steps, *sizes)
        with named_memory(self._memory):
            self._replay = Replay.create(offline, plan.schedule.online_steps)
            agent = plan.make_agent(*sizes, agent_key)
            self._check_clone(agent)
            fresh = self._saved is None
            state = create_state(plan.initialise(agent) if fresh else agent, optimiser, update_key)
            self._memory += f", the training state {bytes_of(state) / 2**20:,.0f} MiB"
        self._trainers = {
            name: Trainer(state, optimiser, plan.sampling, one)
            for name, one in (("cloning", clone), ("learning", update))
        }
        self._trainer = self._trainer_of(plan.schedule.phase_at(self._step))
        with named_memory(self._memory):
            self._training = self._trainer.begin(state, self._replay, batch_key)
            self._mark = Mark.of(self._step, self._training)

    @property
    def training(self) -> Training:
        """The present state of training."""
        return self._training

    @property
    def replay(self) -> Replay:
        """The present replay buffer."""
        return self._replay

    def run(self) -> ExitCode:
        """Runs all phases from the present step on; returns an exit code."""
        if self._saved is None:
            self._clear()
        else:
            self._restore(self._saved)
            self._saved = None  # a host copy of everything
        display = make_display(self._plan.schedule.steps, self._step)
        try:
            with self.stop.listening(), named_memory(self._memory):
                self._run_phases(display)
                if self.stop.made and self._saved_step != self._step:
                    self._save()
            self._checkpoints.wait()
        finally:
            display.close()
            self._checkpoints.close()
            self._watchdog.close()
            for closing in (*self._environments, *filter(None, [self._collector])):
                closing.close()
        return ExitCode.INTERRUPTED if self.stop.made else ExitCode.DONE

    # --- phases ---

    def _run_phases(self, display: Display) -> None:
        schedule = self._plan.schedule
        if self._evaluation_due:
            self._evaluate(schedule.phase_at(self._step).name, display)
        for index, phase in enumerate(schedule.phases):
            begin = schedule.start(index)
            if self.stop.made or self._step >= begin + phase.steps:
                continue
            self._use_trainer(phase)
            if isinstance(phase, Online):
                self._run_online(phase, begin, display)
            else:
                self._run_offline(phase, begin, display)

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
        end, portion = begin + phase.steps, 1
        intervals = self._plan.intervals
        while self._step < end and not self.stop.made:
            self._use_shard()
            events = (intervals.logging, intervals.evaluation, intervals.checkpoint)
            left = min(next_due(self._step, events, end) - self._step, self._left_of_shard())
            updates = min(portion, left)
            began = time.monotonic()
            self._training = self._trainer.run(self._training, self._replay, updates)
            jax.block_until_ready(self._training.counted)
            self._step += updates
            rate = updates / (time.monotonic() - began)
            portion = max(1, int(rate * DISPATCH_SECONDS))
            self._events(phase.name, end, display)

    def _run_online(self, phase: Online, begin: int, display: Display) -> None:
        end = begin + phase.steps
        if self._collector is None and self._step < end:
            self._collector = Collector(self._make_environment(), self._plan.seed)
        while self._collector is not None and self._step < end and not self.stop.made:
            self._use_shard()
            self._replay = self._replay.append(self._collector.step(self._act))
            self._step += 1
            if self._step - begin > phase.warmup:
                self._training = self._trainer.run(
                    self._training, self._replay, phase.updates_per_step
                )
            self._events(phase.name, end, display)

    def _make_environment(self) -> Environment:
        return WatchedEnvironment(self._plan.make_environment(), self._watchdog)

    def _act(self, observations: np.ndarray, call: int) -> np.ndarray:
        key = jax.random.fold_in(self._act_key, call)
        return self._trainer.act(self._training, observations, key)

    # --- shards ---

    def _shard_at(self, updates: int) -> int:
        every = self._plan.data.updates_per_shard
        return 0 if every is None else updates // every % self._plan.data.shards

    def _left_of_shard(self) -> int:
        """Updates until the next shard takes the place of the present one."""
        every = self._plan.data.updates_per_shard
        done = self._plan.schedule.updates_at(self._step)
        return self._plan.schedule.steps if every is None else every - done % every

    def _use_shard(self) -> None:
        """Puts the shard of the present update in the place of the one before."""
        shard = self._shard_at(self._plan.schedule.updates_at(self._step))
        if shard != self._shard:
            self._check_finite()
            self._replay = self._replay.replace_offline(self._plan.data.load(shard))
            self._shard = shard
            self._mark = Mark.of(self._step, self._training)

    # --- events ---

    def _events(self, phase: str, end: int, display: Display) -> None:
        """Logs, saves and evaluates where it is due, in this order.

        An evaluation changes nothing but its log, so that the state is saved before it, with a
        note that it is due.
        """
        self._checkpoints.check()
        intervals, step = self._plan.intervals, self._step
        if is_due(step, intervals.logging, end):
            self._log(phase)
        self._evaluation_due = is_due(step, intervals.evaluation, end)
        if is_due(step, intervals.checkpoint, end):
            self._save()
        if self._evaluation_due:
            self._evaluate(phase, display)
        display.advance(phase, step)

    def _log(self, phase: str) -> None:
        if int(self._training.counted) == 0:
            return
        self._check_finite()
        self._logs.write_metrics({"step": self._step, "phase": phase, **self._training.means()})
        self._training = self._training.cleared()
        self._mark = Mark.of(self._step, self._training)

    def _evaluate(self, phase: str, display: Display) -> None:
        try:
            results = self.evaluate()
        except Stopped:
            return
        row: dict[str, Any] = {"step": self._step, "phase": phase, **results}
        self._logs.write_evaluation(row)
        self._evaluation_due = False
        said = f"step {self._step:>9,}  {phase:<7}  success {results['success']:.2f}"
        if "behaviour_success" in results:
            said += f"  (behaviour cloning {results['behaviour_success']:.2f})"
        display.say(f"{said}  return {results['return']:.1f}", results["success"])

    def evaluate(self) -> dict[str, float]:
        """The protocol's episodes with the present policy, the same reset seeds each time.

        **Raises:** `Stopped` if a stop is requested meanwhile.
        """
        results = self._play("evaluate")
        if self._plan.evaluation.behaviour:
            cloned = self._play("behaviour")
            results |= {f"behaviour_{name}": value for name, value in cloned.items()}
        return results

    def _play(self, role: Role) -> dict[str, float]:
        key = jax.random.fold_in(self._evaluation_key, self._step)

        def act(observations: np.ndarray, call: int) -> np.ndarray:
            self.stop.check()
            chunk_key = jax.random.fold_in(key, call)
            return self._trainer.act(self._training, observations, chunk_key, role)

        count = range(self._plan.evaluation.episodes)
        seeds = [derived_seed(self._plan.seed, EVALUATION_STREAM, index) for index in count]
        return summarise(Evaluator(self._environments).play(act, seeds))

    # --- saving ---

    def _save(self) -> None:
        self._check_finite()
        self._check_state()
        # Thread and loop share nothing but the records, which `save` waits for.
        self._checkpoints.wait()
        count, saved = int(self._replay.size) - self._replay.offline_size, self._saved_rows
        rows = self._replay.online_rows(saved, count)
        position = {
            "online_rows": count,
            "logs": self._logs.positions(),
            "evaluation_due": self._evaluation_due,
            "collector": None if self._collector is None else self._collector.position(),
        }

        def write_rows() -> dict[str, Any]:
            self._records += self._online_rows.save(saved, rows)
            return {"replay": self._records}

        self._checkpoints.save(self._step, self._training, position, write_rows)
        self._saved_rows, self._saved_step = count, self._step

    def _verify_rows(self, saved: Saved) -> None:
        self._online_rows.verify(saved.position["replay"])

    def _restore(self, saved: Saved) -> None:
        self._training, position = saved.fit(self._training), saved.position
        self._logs.cut(position["logs"])
        self._evaluation_due = position["evaluation_due"]
        self._saved_rows, self._records = position["online_rows"], position["replay"]
        self._online_rows.keep_only(self._records)
        rows = self._online_rows.load(self._records, self._saved_rows)
        if rows is not None:
            self._replay = self._replay.append(rows)
        if position["collector"] is not None and rows is not None:
            self._collector = Collector(self._make_environment(), self._plan.seed)
            episode = rows.actions[self._saved_rows - position["collector"]["length"] :]
            self._collector.restore(position["collector"], np.asarray(episode))
        self._mark = Mark.of(self._step, self._training)

    def _clear(self) -> None:
        """Removes what a run wrote that ended before its first checkpoint."""
        every, end = (self._plan.intervals.checkpoint,), self._plan.schedule.phases[0].steps
        # A second save waits for the first, so that rows beyond it prove that there was one.
        second = next_due(next_due(0, every, end), every, end)
        reached = max((row["step"] for row in self._logs.metrics.rows()), default=0)
        if reached > second:
            raise UserError(
                f"{self._directory} has logs up to step {reached:,} but no checkpoint to go on "
                "from; restore its folder checkpoints, or name another directory with --out"
            )
        self._logs.cut({"metrics": 0, "evaluations": 0})
        self._online_rows.keep_only([])

    # --- guards ---

    def _check_finite(self) -> None:
        broken = broken_metrics(self._training)
        if not broken:
            return
        # The compiled loop ended with the offending update.
        offending = int(self._training.state.updates)
        schedule = self._plan.schedule
        mark = self._mark.before(offending, self._trainer, self._replay, schedule)
        directory = self._directory / "nonfinite" / f"step-{mark.step}"
        replay = rows_at(self._replay, schedule, mark.step)
        found = write_evidence(directory, offending, broken, mark, self._trainer, replay)
        raise Divergence(
            f"step {mark.step:,}, update {offending:,}: {', '.join(broken)} not finite; {found}. "
            f"{self._last_saved()}; look at the data's range, lower the learning rate or the "
            "inverse temperature"
        )

    def _check_state(self) -> None:
        broken = broken_arrays(self._training)
        if broken:
            raise Divergence(
                f"step {self._step:,}: {', '.join(broken)} not finite, though every metric is. "
                f"{self._last_saved()}; lower the learning rate, or clip gradients"
            )

    def _last_saved(self) -> str:
        return f"The last checkpoint is of step {self._saved_step:,}"

    def _check_clone(self, agent: AbstractAgent) -> None:
        if self._plan.evaluation.behaviour and agent.policy.behaviour is None:
            raise UserError(
                "evaluation.behaviour: found true, but this method keeps no clone of the data "
                "apart from what it improves; write false"
            )

    def _check_sizes(self, offline: Transitions) -> None:
        horizon = self._plan.sampling.horizon
        if len(offline) < horizon:
            raise UserError(
                f"the data holds {len(offline)} transitions, fewer than one chunk of {horizon}"
            )
        env = self._environments[0]
        wanted = (env.observation_size, env.action_size)
        found = (offline.observations.shape[1], offline.actions.shape[1])
        if wanted != found:
            raise UserError(
                f"the data has observations of {found[0]} and actions of {found[1]} entries, the "
                f"environment {wanted[0]} and {wanted[1]}; name data of this environment"
            )
