"""Collecting transitions in the environments, chunk by chunk."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from qamx._utils.defaults import TRAINING_STREAM, derived_seed
from qamx.data.transitions import Transitions
from qamx.envs import ActionQueue, EnvHandle, Step, close_envs
from qamx.envs.protocol import environment_errors
from qamx.training.checkpoint import Saved
from qamx.training.seed_group import SeedGroup, SeedRun
from qamx.training.state import Trainer, Training

_LOG = logging.getLogger("qamx")

SHORT_EPISODES = 10
"""Episodes online without a whole window after which a run warns of it."""


class Collector:
    """Plays the present policy, one environment step at a time.

    A chunk is played whole before the next is drawn; the end of an episode drops the rest. The
    environment has all of a chunk at once and may be ahead of the steps that are taken. All
    randomness is a function of `seed` and of counters, so that `position` and the actions of the
    episode in progress restore it exactly.

    **Arguments:** `scale_rewards` turns the environment's rewards into those that are learned.
    """

    def __init__(
        self,
        env: EnvHandle,
        seed: int,
        scale_rewards: Callable[[np.ndarray], np.ndarray] = lambda rewards: rewards,
    ):
        self._env, self._seed, self._scale_rewards = env, seed, scale_rewards
        self._queue = ActionQueue(env.action_size)
        self._episode, self._length = 0, 0
        self.calls = 0
        """The number of chunks loaded."""
        self.short_episodes: int | None = 0
        """Episodes that ended within their first chunk; None once a chunk was played whole."""
        self._observation: Float[np.ndarray, " obs"] | None = None
        self._begin()

    @property
    def needs_chunk(self) -> bool:
        """True where `load` must come before the next `take`."""
        return self._queue.needs_chunk

    @property
    def observation(self) -> Float[np.ndarray, " obs"]:
        """The present observation; waits for the first one of a new episode."""
        if self._observation is None:
            with environment_errors(self._locate):
                self._observation = self._env.observation()
        return self._observation

    def load(self, chunk: Float[np.ndarray, " dim"]) -> None:
        """Begins a flat chunk."""
        self._queue.load(chunk)
        self.calls += 1
        self._play(self._queue.rest)

    def take(self) -> Transitions:
        """Waits for the next step of the chunk and returns it as one transition."""
        before, action = self.observation, self._queue.pop()
        step = self._take_step()
        if self._queue.needs_chunk:
            self.short_episodes = None
        if step.done:
            if self.short_episodes is not None:
                self.short_episodes += 1
            self._episode += 1
            self._begin()
        return Transitions(
            observations=before[None],
            actions=action[None],
            rewards=self._scale_rewards(np.asarray([step.reward], np.float32)),
            masks=np.asarray([not step.terminated], np.float32),
            ends=np.asarray([step.done], np.float32),
            next_observations=step.observation[None],
        )

    def position(self) -> dict[str, Any]:
        """The collector's state, apart from the actions of the present episode."""
        return {
            "episode": self._episode,
            "calls": self.calls,
            "length": self._length,
            "chunk": self._queue.rest.tolist(),
            "short_episodes": self.short_episodes,
        }

    def restore(self, position: dict[str, Any], actions: Float[np.ndarray, "length act"]) -> None:
        """Restores a position by replaying the episode's `actions`.

        **Raises:** `RunError` if the episode ends within them, which it did not before.
        """
        self._episode, self.calls = position["episode"], position["calls"]
        self.short_episodes = position.get("short_episodes")
        self._begin()
        self._play(np.asarray(actions, np.float32))
        ended = any(self._take_step().done for _ in actions)
        with environment_errors(self._locate):
            if ended:
                raise ValueError("the same actions ended the episode earlier")
        if position["chunk"]:
            self._queue.load(np.asarray(position["chunk"], np.float32).reshape(-1))
            self._play(self._queue.rest)

    def _begin(self) -> None:
        """Begins the present episode, without waiting for its first observation."""
        self._length, self._observation = 0, None
        self._queue.drop()
        with environment_errors(self._locate):
            self._env.reset(self._reset_seed)

    def _play(self, actions: Float[np.ndarray, "n act"]) -> None:
        _ = self.observation  # must be received before the first step
        with environment_errors(self._locate):
            self._env.play(actions)

    def _take_step(self) -> Step:
        with environment_errors(self._locate):
            step = self._env.step()
        self._observation = step.observation
        self._length += 1
        return step

    @property
    def _reset_seed(self) -> int:
        return derived_seed(self._seed, TRAINING_STREAM, self._episode)

    def _locate(self) -> tuple[str, int]:
        return f"episode {self._episode}, step {self._length + 1}", self._reset_seed


class GroupCollector:
    """A collector for each run of a group; one call of the policies serves all.

    **Arguments:** `environments` are those of the runs.
    """

    def __init__(self, group: SeedGroup, environments: Sequence[EnvHandle]):
        self._group, self._environments = group, environments
        self._keys = group.stacking.join([run.keys.collect for run in group.runs])
        self._collectors: dict[int, Collector] = {}
        self._warned = False

    def begin(self) -> None:
        """Begins the first episodes."""
        for run in self._group.runs:
            self._open(run)

    def restore(self, saved: Mapping[int, Saved], rows: Mapping[int, Transitions]) -> None:
        """Returns to the middle of the episodes that were being played.

        **Arguments:** `rows` are the online transitions of each run.
        """
        for run in self._group.runs:
            if run.index in rows:
                position = saved[run.index].position["collector"]
                actions = np.asarray(rows[run.index].actions)
                first = len(actions) - position["length"]
                self._open(run).restore(position, actions[first:])

    def position(self, run: SeedRun) -> dict[str, Any]:
        """The position of a run's collector, for a checkpoint."""
        return self._collectors[run.index].position()

    def take(
        self, trainer: Trainer, training: Training, check_finite: Callable[[], object]
    ) -> Transitions:
        """The next transition of each run, as `Replay.append` takes them.

        **Arguments:** `check_finite` is called where a policy's action is not finite: the update
        is to blame then, not the environment.
        """
        waiting = {i: c for i, c in self._active().items() if c.needs_chunk}
        chunks = self._chunks(waiting, trainer, training) if waiting else {}
        if not all(np.isfinite(chunk).all() for chunk in chunks.values()):
            check_finite()
        active = self._active()
        for index, chunk in chunks.items():
            if index in active:
                active[index].load(chunk)
        taken = {index: collector.take() for index, collector in active.items()}
        self._warn(active.values())
        return self._group.rows(taken)

    def close(self) -> None:
        """Closes the environments."""
        close_envs(self._environments)

    def _open(self, run: SeedRun) -> Collector:
        collector = Collector(self._environments[run.index], run.seed, run.plan.scale_rewards)
        self._collectors[run.index] = collector
        return collector

    def _active(self) -> dict[int, Collector]:
        runs = (run for run in self._group.active if run.index in self._collectors)
        return {run.index: self._collectors[run.index] for run in runs}

    def _chunks(
        self, waiting: dict[int, Collector], trainer: Trainer, training: Training
    ) -> dict[int, Float[np.ndarray, " dim"]]:
        # The compiled policies act for all seeds: others' observations and calls are not used.
        size, count = self._environments[0].observation_size, len(self._group.runs)
        observations, calls = np.zeros((count, size), np.float32), np.zeros(count, int)
        for index, collector in waiting.items():
            observations[index], calls[index] = collector.observation, collector.calls
        seen, call = (self._group.stacking.join(list(a), np.stack) for a in (observations, calls))
        chunks = trainer.acting.collect(training.state.agent, seen, self._keys, call)
        return {index: chunks.reshape(count, -1)[index] for index in waiting}

    def _warn(self, collectors: Iterable[Collector]) -> None:
        """Warns once that episodes end before a chunk does: no window of them is learned from."""
        if self._warned or all((c.short_episodes or 0) < SHORT_EPISODES for c in collectors):
            return
        self._warned = True
        horizon = self._group.runs[0].plan.sampling.horizon
        _LOG.warning(
            f"warning: the first {SHORT_EPISODES} episodes online are all shorter than a chunk of "
            f"{horizon} steps; no window of them is whole, and nothing is learned from them; lower "
            "agent.horizon"
        )
