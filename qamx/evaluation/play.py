"""Playing a subject's episodes on a task."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qamx.config import EnvironmentSettings
from qamx.envs import close_players
from qamx.errors import UserError
from qamx.evaluation.subject import Subject, task_of
from qamx.training.evaluator import Episode, Evaluator, Role
from qamx.training.guards import Watchdog, open_watched_players
from qamx.training.plan import evaluation_seeds


@dataclass(frozen=True)
class Played:
    """The episodes of a policy, or of its clone of the data, on a task."""

    subject: Subject
    environment: EnvironmentSettings
    role: Role
    seed: int
    episodes: list[Episode]
    seconds: float

    @property
    def task(self) -> int | None:
        """The task that was played, where the environment has several."""
        return task_of(self.environment)

    @property
    def policy(self) -> str:
        """Who played, in a word."""
        return "behaviour" if self.role == "behaviour" else self.subject.method

    @property
    def solved(self) -> int:
        """How many episodes ended in success."""
        return sum(episode.success for episode in self.episodes)

    @property
    def returns(self) -> np.ndarray:
        """The return of each episode."""
        return np.array([episode.total_reward for episode in self.episodes])


def settings_for(subject: Subject, tasks: Sequence[int]) -> list[EnvironmentSettings]:
    """The environment for each task, or for the trained one where none is named."""
    return [subject.for_task(task) for task in tasks or (None,)]


def roles_for(subject: Subject, behaviour: bool) -> tuple[Role, ...]:
    """Who plays: the policy, and its clone of the data beside it if that is asked for.

    **Raises:** `UserError` if the method keeps no clone.
    """
    if behaviour and not subject.has_behaviour:
        raise UserError(
            f"--behaviour: {subject.name} holds no clone of the data apart from the policy that "
            "acts; leave it out, or, of an exported policy, name its run"
        )
    return ("evaluate", "behaviour") if behaviour else ("evaluate",)


def play(
    subject: Subject, environment: EnvironmentSettings, roles: Sequence[Role], seed: int
) -> Iterator[Played]:
    """Plays the subject's number of episodes in each role, as its run's evaluations do.

    **Arguments:** `seed` determines the reset seeds and the policy's draws; with the run's own
    (and its environment and number of episodes) this is the evaluation of the run.
    """
    evaluation, watchdog = subject.evaluation, Watchdog()
    seeds = evaluation_seeds(seed, evaluation.episodes)
    count = min(evaluation.environments, evaluation.episodes)
    players = open_watched_players(
        subject.make_environment(environment), count, evaluation.workers, watchdog
    )
    try:
        for role in roles:
            began = time.monotonic()
            episodes = Evaluator(players).play(subject.policies.act(seed, role), seeds)
            seconds = time.monotonic() - began
            yield Played(subject, environment, role, seed, episodes, seconds)
    finally:
        close_players(players)
        watchdog.close()
