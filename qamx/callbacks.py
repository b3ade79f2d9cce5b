"""Callbacks of `qamx.run`: Python functions that see a run's values while it trains."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from qamx.agents import AbstractAgent
from qamx.trained_policy import TrainedPolicy
from qamx.training.evaluator import Acting
from qamx.training.loop import RowKind, Runner
from qamx.training.seed_group import SeedRun


@dataclass(frozen=True)
class TrainingEvent:
    """A row of a run's records, when it has been written.

    **Arguments:** `kind` is "metrics" for the means since the last such row, or "evaluation";
    `row` has the names of `metrics.jsonl` or `evaluations.jsonl`, `step` and `phase` among them;
    `directory` is the run's folder.
    """

    kind: RowKind
    row: Mapping[str, Any]
    directory: Path
    _policy: Callable[[], TrainedPolicy]
    _stop: Callable[[], None]

    @property
    def step(self) -> int:
        """The step that the row is about; with `evaluation.workers`, training is ahead of it."""
        return self.row["step"]

    @functools.cached_property
    def policy(self) -> TrainedPolicy:
        """A copy of the policy as it is in training when this is first read."""
        return self._policy()

    def stop(self) -> None:
        """Ends `qamx.run` after this step with all state saved; the same call continues."""
        self._stop()


Callback: TypeAlias = Callable[[TrainingEvent], object]
"""A function that is called with each row of a run."""


class Callbacks:
    """Calls functions with each row of a run; an error of theirs stops it with all state saved.

    **Arguments:** `make_policy` makes a trained policy of an agent and its compiled acting.
    """

    def __init__(
        self,
        functions: Sequence[Callback],
        make_policy: Callable[[AbstractAgent, Acting], TrainedPolicy],
    ):
        self._functions, self._make_policy = functions, make_policy
        self._error: Exception | None = None

    def __call__(self, runner: Runner, run: SeedRun, kind: RowKind, row: Mapping[str, Any]) -> None:
        def policy() -> TrainedPolicy:
            return self._make_policy(*runner.copy_agent(run))

        event = TrainingEvent(kind, row, run.directory, policy, runner.stop.make)
        try:
            for function in self._functions if self._error is None else ():
                function(event)
        except Exception as error:
            self._error = error
            runner.stop.make()

    def raise_error(self) -> None:
        """Raises the error of a callback, if there was one."""
        if self._error is not None:
            raise self._error
