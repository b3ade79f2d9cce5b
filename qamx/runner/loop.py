"""The loop of a run: phases, and the events between updates."""

import math
import signal
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qamx.agents import create_state
from qamx.data.replay import Replay
from qamx.data.sequences import Transitions
from qamx.envs import Environment
from qamx.errors import RunError, UserError
from qamx.runner.checkpoint import Checkpoints, OnlineRows
from qamx.runner.collect import EVALUATION_STREAM, Collector, derived_seed
from qamx.runner.display import Display, make_display
from qamx.runner.evaluate import play_episodes, summarise
from qamx.runner.logs import Logs
from qamx.runner.plan import RunPlan
from qamx.runner.step import Trainer, Training
from qamx.schedules import Offline, Online, is_due, next_due

DONE, INTERRUPTED = 0, 75
"""Exit codes: complete, and stopped on request with all state saved (EX_TEMPFAIL)."""

DISPATCH_SECONDS = 0.25
"""Updates go to the device in portions of about this long, so that progress stays live."""


class Divergence(RunError):
    """A metric is no longer finite."""


class Runner:
    """Carries out a plan in a directory, from its latest checkpoint on.

    The same plan in the same directory continues; the result does not depend on where a run was
    interrupted.
    """

    def __init__(self, plan: RunPlan, directory: Path, logs: Logs):
        self._plan, self._logs = plan, logs
        keys = jax.random.split(jax.random.key(plan.seed), 5)
        agent_key, update_key, batch_key, self._act_key, self._evaluation_key = keys
        self._checkpoints = Checkpoints(directory / "checkpoints", plan.keep_checkpoints)
        self._online_rows = OnlineRows(directory / "replay")
        self._environments: list[Environment] = []
        self._collector: Collector | None = None
        self._stop_requested = False
        self._step = self._checkpoints.latest_step() or 0
        self._shard = self._shard_at(self._updates_at(self._step))
        offline = plan.data.load(self._shard)
        self._check_sizes(offline)
        agent = plan.make_agent(offline.observations.shape[1], offline.actions.shape[1], agent_key)
        state = create_state(agent, plan.optimiser, update_key)
        self._trainer = Trainer(state, plan.optimiser, plan.sampling, batch_key)
        self._replay = Replay.create(offline, plan.schedule.online_steps)
        self._training = self._trainer.begin(self._replay)
        self._saved_rows = 0

    @property
    def training(self) -> Training:
        """The present state of training."""
        return self._training

    @property
    def replay(self) -> Replay:
        """The present replay buffer."""
        return self._replay

    @property
    def trainer(self) -> Trainer:
        """What acts and updates."""
        return self._trainer

    def run(self) -> int:
        """Runs all phases from the present step on; returns an exit code."""
        if self._step:
            self._restore()
        else:  # What a run wrote that ended before its first checkpoint is written again.
            self._logs.cut({"metrics": 0, "evaluations": 0})
            self._online_rows.discard_after(0)
        display = make_display(self._plan.schedule.steps, self._step)
        previous = [signal.signal(s, self._request_stop) for s in (signal.SIGINT, signal.SIGTERM)]
        try:
            for index, phase in enumerate(self._plan.schedule.phases):
                end = self._plan.schedule.start(index) + phase.steps
                if self._step >= end or self._stop_requested:
                    continue
                if isinstance(phase, Offline):
                    self._run_offline(phase, end, display)
                else:
                    self._run_online(phase, end, display)
            self._checkpoints.wait()
        finally:
            display.close()
            for number, handler in zip((signal.SIGINT, signal.SIGTERM), previous, strict=True):
                signal.signal(number, handler)
            self._checkpoints.close()
            for closing in (*self._environments, *filter(None, [self._collector])):
                closing.close()
        return INTERRUPTED if self._stop_requested else DONE

    # --- phases ---

    def _run_offline(self, phase: Offline, end: int, display: Display) -> None:
        portion = 1
        while self._step < end and not self._stop_requested:
            self._use_shard()
            stop = next_due(self._step, self._event_intervals(), end)
            updates = min(portion, stop - self._step)
            began = time.monotonic()
            self._training = self._trainer.run(self._training, self._replay, updates)
            jax.block_until_ready(self._training.counted)
            self._step += updates
            rate = updates / (time.monotonic() - began)
            portion = max(1, int(rate * DISPATCH_SECONDS))
            self._events(phase.name, end, display)

    def _run_online(self, phase: Online, end: int, display: Display) -> None:
        begin = end - phase.steps
        if self._collector is None:
            self._collector = Collector(self._plan.make_environment(), self._plan.seed)
        while self._step < end and not self._stop_requested:
            self._use_shard()
            self._replay = self._replay.append(self._collector.step(self._act))
            self._step += 1
            if self._step - begin > phase.warmup:
                self._training = self._trainer.run(
                    self._training, self._replay, phase.updates_per_step
                )
            self._events(phase.name, end, display)

    def _act(self, observations: np.ndarray, call: int) -> np.ndarray:
        key = jax.random.fold_in(self._act_key, call)
        return self._trainer.act(self._training, observations, key)

    # --- shards ---

    def _updates_at(self, step: int) -> int:
        """Gradient updates that have been made when the run reaches `step`."""
        updates = 0
        for index, phase in enumerate(self._plan.schedule.phases):
            done = min(max(step - self._plan.schedule.start(index), 0), phase.steps)
            if isinstance(phase, Online):
                done = max(done - phase.warmup, 0) * phase.updates_per_step
            updates += done
        return updates

    def _shard_at(self, updates: int) -> int:
        every = self._plan.data.updates_per_shard
        return 0 if every is None else updates // every % self._plan.data.shards

    def _use_shard(self) -> None:
        """Puts the shard of the present update in the place of the one before."""
        shard = self._shard_at(self._updates_at(self._step))
        if shard != self._shard:
            self._replay = self._replay.replace_offline(self._plan.data.load(shard))
            self._shard = shard

    def _event_intervals(self) -> tuple[int, ...]:
        intervals = self._plan.intervals
        shard = self._plan.data.updates_per_shard
        events = (intervals.logging, intervals.evaluation, intervals.checkpoint)
        return events if shard is None else (*events, shard)

    # --- events ---

    def _events(self, phase: str, end: int, display: Display) -> None:
        """Logs, evaluates and saves where it is due, in this order."""
        intervals, step = self._plan.intervals, self._step
        if is_due(step, intervals.logging, end):
            self._log(phase)
        if is_due(step, intervals.evaluation, end):
            self._evaluate(phase, display)
        if is_due(step, intervals.checkpoint, end) or self._stop_requested:
            self._save()
        display.advance(phase, step)

    def _log(self, phase: str) -> None:
        if int(self._training.counted) == 0:
            return
        means = self._training.means()
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            raise Divergence(
                f"step {self._step:,}: {', '.join(broken)} not finite. The last checkpoint is of "
                f"step {self._checkpoints.latest_step() or 0:,}; look at the data's range, lower "
                "the learning rate or the inverse temperature"
            )
        self._logs.write_metrics({"step": self._step, "phase": phase, **means})
        self._training = self._training.cleared()

    def _evaluate(self, phase: str, display: Display) -> None:
        results = self.evaluate()
        row: dict[str, Any] = {"step": self._step, "phase": phase, **results}
        self._logs.write_evaluation(row)
        said = f"step {self._step:>9,}  {phase:<7}  success {results['success']:.2f}"
        if "behaviour_success" in results:
            said += f"  (behaviour cloning {results['behaviour_success']:.2f})"
        display.say(f"{said}  return {results['return']:.1f}")

    def evaluate(self) -> dict[str, float]:
        """The protocol's episodes with the present policy, the same reset seeds each time."""
        results = self._play(behaviour=False)
        if self._plan.evaluation.behaviour:
            cloned = self._play(behaviour=True)
            results |= {f"behaviour_{name}": value for name, value in cloned.items()}
        return results

    def _play(self, *, behaviour: bool) -> dict[str, float]:
        evaluation, seed = self._plan.evaluation, self._plan.seed
        count = min(evaluation.environments, evaluation.episodes)
        while len(self._environments) < count:
            self._environments.append(self._plan.make_environment())
        key = jax.random.fold_in(self._evaluation_key, self._step)

        def act(observations: np.ndarray, call: int) -> np.ndarray:
            chunk_key = jax.random.fold_in(key, call)
            return self._trainer.act(self._training, observations, chunk_key, behaviour=behaviour)

        seeds = [derived_seed(seed, EVALUATION_STREAM, i) for i in range(evaluation.episodes)]
        return summarise(play_episodes(act, self._environments, seeds))

    # --- saving ---

    def _save(self) -> None:
        count = int(self._replay.size) - self._replay.offline_size
        self._online_rows.save(self._saved_rows, self._replay.online_rows(self._saved_rows, count))
        self._saved_rows = count
        position = {
            "online_rows": count,
            "logs": self._logs.positions(),
            "collector": None if self._collector is None else self._collector.position(),
        }
        self._checkpoints.save(self._step, self._training, position)

    def _restore(self) -> None:
        self._training, position = self._checkpoints.restore(self._step, self._training)
        self._logs.cut(position["logs"])
        count = self._saved_rows = position["online_rows"]
        self._online_rows.discard_after(count)
        rows = self._online_rows.load(count)
        if rows is not None:
            self._replay = self._replay.append(rows)
        if position["collector"] is not None:
            self._collector = Collector(self._plan.make_environment(), self._plan.seed)
            length = position["collector"]["length"]
            actions = rows.actions[count - length :] if rows is not None else np.zeros((0, 0))
            self._collector.restore(position["collector"], np.asarray(actions))

    # --- guards ---

    def _request_stop(self, number: int, frame: object) -> None:
        if self._stop_requested:
            raise KeyboardInterrupt
        self._stop_requested = True

    def _check_sizes(self, offline: Transitions) -> None:
        horizon = self._plan.sampling.horizon
        if len(offline) < horizon:
            raise UserError(
                f"the data holds {len(offline)} transitions, fewer than one chunk of {horizon}"
            )
        probe = self._plan.make_environment()
        wanted = (probe.observation_size, probe.action_size)
        found = (offline.observations.shape[1], offline.actions.shape[1])
        self._environments.append(probe)
        if wanted != found:
            raise UserError(
                f"the data has observations of {found[0]} and actions of {found[1]} entries, the "
                f"environment {wanted[0]} and {wanted[1]}; name data of this environment"
            )
