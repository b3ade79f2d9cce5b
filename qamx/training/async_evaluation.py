"""Evaluations beside training: the queue and its thread."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from qamx.agents import AbstractAgent
from qamx.envs import Player, close_players
from qamx.training.checkpoint import Saved
from qamx.training.evaluator import Act, Episode, Evaluator, Role, summarise
from qamx.training.guards import Stopped, StopRequest
from qamx.training.seed_group import Member
from qamx.training.state import Trainer, member_of, stacked

SLICE_SECONDS = 0.1
"""How often a wait looks whether a stop was requested."""
CLOSE_SECONDS = 5.0
"""How long a chunk in progress is waited for before its players are closed."""

Job = tuple[Act, Sequence[int]]
"""A policy and the reset seeds of its episodes."""


class BackgroundEvaluation:
    """Plays evaluations in a thread, with players of its own.

    The players should be those of other processes: the thread does little but wait for them. The
    policies that it is given must not depend on what training changes or donates.
    """

    def __init__(self, players: Sequence[Player]):
        self._players = players
        self._thread: threading.Thread | None = None
        self._cancelled = threading.Event()
        self._episodes: list[list[Episode]] | None = None
        self._error: BaseException | None = None

    @property
    def running(self) -> bool:
        """Whether an evaluation goes on."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, jobs: Sequence[Job]) -> None:
        """Begins to play the jobs, one after the other.

        **Raises:** `ValueError` if those before still go on.
        """
        if self.running:
            raise ValueError("an evaluation goes on; wait for it or cancel it first")
        self._cancelled.clear()
        self._episodes, self._error = None, None
        self._thread = threading.Thread(
            target=self._play, args=(list(jobs),), name="evaluation", daemon=True
        )
        self._thread.start()

    def result(self) -> list[list[Episode]] | None:
        """The episodes of each job, or None while they are played and after `cancel`.

        **Raises:** what ended the evaluation, such as a `RunError` of an environment.
        """
        if self.running:
            return None
        if self._error is not None:
            raise self._error
        return self._episodes

    def wait(self, stop: StopRequest | None = None) -> list[list[Episode]] | None:
        """Waits for the end of the jobs and returns what `result` does.

        **Raises:** `Stopped` if a stop is requested meanwhile; the jobs go on until `cancel`.
        """
        while self._thread is not None and self.running:
            if stop is not None:
                stop.check()
            self._thread.join(SLICE_SECONDS)
        return self.result()

    def cancel(self) -> None:
        """Ends the evaluation at its next chunk boundary, without a result."""
        self._cancelled.set()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Ends the evaluation and its players, within seconds even if a player hangs."""
        self._cancelled.set()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)
        close_players(self._players)

    def _play(self, jobs: list[Job]) -> None:
        evaluator = Evaluator(self._players)
        try:
            self._episodes = [evaluator.play(self._heeding(act), seeds) for act, seeds in jobs]
        except Stopped:
            self._episodes = None
        except BaseException as error:
            self._error = error

    def _heeding(self, act: Act) -> Act:
        """The policy, but for a call after `cancel`."""

        def heeding(
            observations: Float[np.ndarray, "batch obs"], call: int
        ) -> Float[np.ndarray, "batch dim"]:
            if self._cancelled.is_set():
                raise Stopped
            return act(observations, call)

        return heeding


PREFIX = ".evaluating"
"""Of the arrays, in a checkpoint, of a policy that is being evaluated."""


@dataclass(frozen=True)
class Due:
    """An evaluation: `agents` are the policies' arrays as they were at `step`."""

    step: int
    phase: str
    agents: AbstractAgent


@dataclass(frozen=True)
class Result:
    """What one member's policy reached at a step."""

    member: Member
    row: dict[str, Any]


class Evaluations:
    """Plays the evaluations that are due, one after the other, beside training.

    A snapshot of the policies is evaluated, so that training waits only where an evaluation is
    due before the one before it has ended. What an evaluation brings is a function of snapshot,
    step and seed; one that is interrupted is begun again.

    **Arguments:** `players` are the environments (where the plan has them in this process,
    training waits for an evaluation's end), `members` the runs, `trainer` what acts for them.
    """

    def __init__(self, players: Sequence[Player], members: Sequence[Member], trainer: Trainer):
        evaluation = members[0].plan.evaluation
        self._members, self._trainer = members, trainer
        self._roles: tuple[Role, ...] = (
            ("evaluate", "behaviour") if evaluation.behaviour else ("evaluate",)
        )
        self._inline = evaluation.workers == 0
        self._background = BackgroundEvaluation(players)
        self._due: deque[Due] = deque()
        self._playing: list[Member] = []

    def add(self, due: Due) -> None:
        """Puts an evaluation behind those that are due."""
        self._due.append(due)

    def begin(self, stop: StopRequest) -> list[Result]:
        """Begins the last evaluation that is due; returns the results of those before it.

        **Raises:** `Stopped` if a stop is requested before; what is due stays due.
        """
        results = self.finish(stop, left=0 if self._inline else 1)
        self._start()
        return results

    def poll(self) -> list[Result]:
        """The results that have come in."""
        played = self._background.result() if self._playing else None
        return [] if played is None else self._take(played)

    def finish(self, stop: StopRequest, left: int = 0) -> list[Result]:
        """Waits until no more than `left` evaluations are due.

        **Raises:** `Stopped` if a stop is requested before.
        """
        results: list[Result] = []
        while len(self._due) > left:
            self._start()
            results += self._take(self._background.wait(stop) or [])
        return results

    def position(self) -> list[dict[str, Any]]:
        """What is due, for a checkpoint."""
        return [{"step": due.step, "phase": due.phase} for due in self._due]

    def waiting(self, step: int, member: int | None) -> dict[str, AbstractAgent]:
        """The policies that a checkpoint of `step` must hold besides its own."""
        return {
            f"{PREFIX}{due.step}": member_of(due.agents, member)
            for due in self._due
            if due.step != step
        }

    def restore(self, saved: Mapping[int | None, Saved], agents: Sequence[AbstractAgent]) -> None:
        """Takes what is due from checkpoints; `agents` are the members' present arrays."""
        first = next(iter(saved.values()))
        for due in first.position.get("evaluations_due", []):
            parts = []
            for member, agent in zip(self._members, agents, strict=True):
                one = saved.get(member.index)
                if one is not None and due["step"] != one.step:
                    agent = one.fit(agent, prefix=f"{PREFIX}{due['step']}")
                parts.append(agent)
            # A copy: training goes on from the same arrays and gives up its buffers.
            joined = jax.tree.map(jnp.copy, parts[0]) if len(parts) == 1 else stacked(parts)
            self._due.append(Due(due["step"], due["phase"], joined))

    def close(self) -> None:
        """Leaves what is being played, and ends the environments."""
        self._background.close()

    def _start(self) -> None:
        if self._due and not self._playing:
            self._playing = [member for member in self._members if member.frozen is None]
            self._background.start(
                [
                    (self._act(self._due[0], member, role), member.evaluation_seeds())
                    for member in self._playing
                    for role in self._roles
                ]
            )

    def _act(self, due: Due, member: Member, role: Role) -> Act:
        agent = member_of(due.agents, member.index)
        acting = self._trainer.acting
        return acting.in_evaluation(agent, member.evaluation_key, due.step, role)

    def _take(self, played: list[list[Episode]]) -> list[Result]:
        due, members, self._playing = self._due.popleft(), self._playing, []
        results, parts = [], iter(played)
        for member in members:
            row: dict[str, Any] = {"step": due.step, "phase": due.phase, **summarise(next(parts))}
            if "behaviour" in self._roles:
                cloned = summarise(next(parts))
                row |= {f"behaviour_{name}": value for name, value in cloned.items()}
            results.append(Result(member, row))
        self._start()
        return results
