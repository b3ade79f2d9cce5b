"""Evaluations that run in a thread while training continues."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qamx.agents import AbstractAgent
from qamx.envs import EnvHandle, close_envs
from qamx.training.checkpoint import Saved
from qamx.training.evaluator import Act, Evaluator, PlayedEpisode, Role, summarise
from qamx.training.guards import Stopped, StopRequest
from qamx.training.seed_group import SeedGroup, SeedRun
from qamx.training.state import Trainer

SLICE_SECONDS = 0.1
"""Interval at which a wait checks for a requested stop."""
CLOSE_SECONDS = 5.0
"""Timeout for a chunk in progress before its environments are closed."""

Job = tuple[Act, Sequence[int]]
"""A policy and the reset seeds of its episodes."""

Played = list[list[PlayedEpisode]]
"""The episodes of each job."""

Result = tuple[SeedRun, dict[str, Any]]
"""The row of an evaluation of one run's policy."""


class BackgroundEvaluation:
    """Plays evaluations in a thread.

    The environments should be those of other processes: the thread does little but wait for them.
    The policies must not depend on arrays that training changes or donates.
    """

    def __init__(self, environments: Sequence[EnvHandle]):
        self._environments = environments
        self._cancelled = threading.Event()
        self._played: Future[Played | None] | None = None

    @property
    def running(self) -> bool:
        """True while an evaluation is in progress."""
        return self._played is not None and not self._played.done()

    def start(self, jobs: Sequence[Job]) -> None:
        """Begins to play the jobs, one after the other.

        **Raises:** `ValueError` while earlier ones are in progress.
        """
        if self.running:
            raise ValueError("an evaluation is in progress; wait for it first")
        self._played = Future()
        arguments = list(jobs), self._played
        # Not of an executor: the process can end while an environment hangs.
        threading.Thread(target=self._play, args=arguments, name="evaluation", daemon=True).start()

    def result(self) -> Played | None:
        """The episodes of each job, or None while they are played and after `close`.

        **Raises:** the exception that ended the evaluation, such as a `RunError`.
        """
        return None if self._played is None or self.running else self._played.result()

    def wait(self, stop: StopRequest) -> Played | None:
        """Waits for the end of the jobs and returns their `result`.

        **Raises:** `Stopped` if a stop is requested meanwhile; the jobs continue.
        """
        while self._played is not None and self.running:
            stop.check()
            wait([self._played], SLICE_SECONDS)
        return self.result()

    def close(self) -> None:
        """Ends the evaluation at its next chunk boundary and closes its environments, within
        seconds even if one hangs."""
        self._cancelled.set()
        if self._played is not None:
            wait([self._played], CLOSE_SECONDS)
        close_envs(self._environments)

    def _play(self, jobs: list[Job], played: Future[Played | None]) -> None:
        evaluator = Evaluator(self._environments)
        try:
            played.set_result(
                [evaluator.play(self._until_closed(act), seeds) for act, seeds in jobs]
            )
        except Stopped:
            played.set_result(None)
        except BaseException as error:
            played.set_exception(error)

    def _until_closed(self, act: Act) -> Act:
        """The policy; raises `Stopped` after `close`."""

        def act_until_closed(observations: np.ndarray, call: int) -> np.ndarray:
            if self._cancelled.is_set():
                raise Stopped
            return act(observations, call)

        return act_until_closed


PREFIX = ".evaluating"
"""Prefix, in a checkpoint, of the arrays of a policy whose evaluation has not ended."""


@dataclass(frozen=True)
class PendingEvaluation:
    """An evaluation that has not ended; `agents` are the policies' arrays of its step."""

    step: int
    phase: str
    agents: AbstractAgent


class AsyncEvaluations:
    """Queue of evaluations, played one after the other while training continues.

    A snapshot of the policies is evaluated, so that training waits only where an evaluation
    begins before the one before it has ended. The result is a function of snapshot, step and seed;
    an interrupted evaluation is repeated.

    **Arguments:** `environments` are those of the evaluation (where the plan has them in this
    process, training waits for an evaluation's end), `trainer` acts for the runs.
    """

    def __init__(self, environments: Sequence[EnvHandle], group: SeedGroup, trainer: Trainer):
        evaluation = group.runs[0].plan.evaluation
        self._group, self._trainer = group, trainer
        self._roles: tuple[Role, ...] = (
            ("evaluate", "behaviour") if evaluation.behaviour else ("evaluate",)
        )
        self._inline = evaluation.workers == 0
        self._background = BackgroundEvaluation(environments)
        self._pending: deque[PendingEvaluation] = deque()
        self._playing: list[SeedRun] = []

    def add(self, pending: PendingEvaluation) -> None:
        """Appends an evaluation to the queue."""
        self._pending.append(pending)

    def begin(self, stop: StopRequest) -> list[Result]:
        """Begins the last evaluation of the queue; returns the results of those before it.

        **Raises:** `Stopped` if a stop is requested before; the queue is kept.
        """
        results = self.finish(stop, left=0 if self._inline else 1)
        self._start()
        return results

    def poll(self) -> list[Result]:
        """The results that have arrived."""
        played = self._background.result() if self._playing else None
        return [] if played is None else self._take(played)

    def finish(self, stop: StopRequest, left: int = 0) -> list[Result]:
        """Waits until no more than `left` evaluations are pending.

        **Raises:** `Stopped` if a stop is requested before.
        """
        results: list[Result] = []
        while len(self._pending) > left:
            self._start()
            results += self._take(self._background.wait(stop) or [])
        return results

    def position(self) -> list[dict[str, Any]]:
        """The queue, for a checkpoint."""
        return [{"step": pending.step, "phase": pending.phase} for pending in self._pending]

    def arrays(self, step: int, run: SeedRun) -> dict[str, AbstractAgent]:
        """The pending policies that a checkpoint of `step` must hold in addition."""
        return {
            f"{PREFIX}{pending.step}": self._group.stacking.of(pending.agents, run.index)
            for pending in self._pending
            if pending.step != step
        }

    def restore(self, saved: Mapping[int, Saved], agents: Sequence[AbstractAgent]) -> None:
        """Restores the queue from checkpoints; `agents` are the runs' present arrays."""
        first = next(iter(saved.values()))
        for pending in first.position.get("evaluations_due", []):
            parts = []
            for run, agent in zip(self._group.runs, agents, strict=True):
                own = saved.get(run.index)
                if own is not None and pending["step"] != own.step:
                    agent = own.fit(agent, prefix=f"{PREFIX}{pending['step']}")
                parts.append(agent)
            # A copy: training continues from the same arrays and donates them.
            joined = jax.tree.map(jnp.copy, self._group.stacking.join(parts))
            self.add(PendingEvaluation(pending["step"], pending["phase"], joined))

    def close(self) -> None:
        """Cancels the evaluation in progress, and closes the environments."""
        self._background.close()

    def _start(self) -> None:
        if self._pending and not self._playing:
            self._playing = self._group.active
            jobs = [
                (self._act(self._pending[0], run, role), run.evaluation_seeds())
                for run in self._playing
                for role in self._roles
            ]
            self._background.start(jobs)

    def _act(self, pending: PendingEvaluation, run: SeedRun, role: Role) -> Act:
        agent = self._group.stacking.of(pending.agents, run.index)
        key = run.keys.evaluation
        return self._trainer.acting.in_evaluation(agent, key, pending.step, role)

    def _take(self, played: Played) -> list[Result]:
        pending, runs, self._playing = self._pending.popleft(), self._playing, []
        results: list[Result] = []
        jobs = iter(played)
        for run in runs:
            row = {"step": pending.step, "phase": pending.phase, **summarise(next(jobs))}
            if "behaviour" in self._roles:
                cloned = summarise(next(jobs))
                row |= {f"behaviour_{name}": value for name, value in cloned.items()}
            results.append((run, row))
        self._start()
        return results
