"""Evaluating while training goes on."""

import threading
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from qamx.envs import Player, close_players
from qamx.runner.evaluate import Act, Episode, Evaluator
from qamx.runner.stop import Stopped, StopRequest

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
