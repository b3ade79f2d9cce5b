"""Executors of action chunks: open loop, receding horizon, ensemble, real time."""

import math
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qamx.deploy.loading import ChunkPolicy, checked


class Execution(Protocol):
    """The time of the next chunk, and the action from the chunks so far."""

    def needs_chunk(self, age: int, horizon: int) -> bool:
        """True if a new chunk is requested `age` steps after the last one."""
        ...

    def action(self, proposals: Sequence[np.ndarray]) -> np.ndarray:
        """The action of a step from each chunk's proposal, the oldest first."""
        ...


@dataclass(frozen=True)
class OpenLoop:
    """Plays each chunk to its end, as training and evaluations do."""

    def needs_chunk(self, age: int, horizon: int) -> bool:
        return age >= horizon

    def action(self, proposals: Sequence[np.ndarray]) -> np.ndarray:
        return proposals[-1]


@dataclass(frozen=True)
class RecedingHorizon:
    """Plays the first `steps` actions of each chunk.

    **Raises:** `ValueError` if `steps` is not positive.

    **Source:** Chi et al., arXiv 2303.04137, section III.
    """

    steps: int

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps: found {self.steps}; write a positive integer")

    def needs_chunk(self, age: int, horizon: int) -> bool:
        return age >= min(self.steps, horizon)

    def action(self, proposals: Sequence[np.ndarray]) -> np.ndarray:
        return proposals[-1]


@dataclass(frozen=True)
class TemporalEnsemble:
    r"""A chunk at every step; the mean of proposals, weights \(e^{-m i}\), i = 0 the oldest.

    **Arguments:** `decay` is m: 0 weighs all chunks alike, larger ones trust older chunks more.

    **Raises:** `ValueError` if the decay is negative or not finite.

    **Source:** Zhao et al., arXiv 2304.13705, section IV.
    """

    decay: float = 0.01

    def __post_init__(self):
        if not (math.isfinite(self.decay) and self.decay >= 0):
            raise ValueError(f"decay: found {self.decay}; write 0 or a positive number")

    def needs_chunk(self, age: int, horizon: int) -> bool:
        return age >= 1

    def action(self, proposals: Sequence[np.ndarray]) -> np.ndarray:
        weights = np.exp(-self.decay * np.arange(len(proposals)))
        return np.average(proposals, axis=0, weights=weights).astype(np.float32)


class ChunkExecutor:
    """Acts at every step of an episode, and waits for each new chunk.

    **Arguments:** `execution` turns chunks into actions, `seed` is that of the draws.
    """

    def __init__(self, policy: ChunkPolicy, execution: Execution | None = None, seed: int = 0):
        self._policy = policy
        self._execution = OpenLoop() if execution is None else execution
        self._horizon = policy.metadata.horizon
        self.reset(seed)

    def reset(self, seed: int | None = None) -> None:
        """Begins an episode; the default seed is that of the last one plus 1."""
        self._seed = self._seed + 1 if seed is None else seed
        self._calls, self._step = 0, 0
        self._chunks: deque[tuple[int, np.ndarray]] = deque()

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action [act], in the environment's units, for an observation [obs]."""
        last = self._chunks[-1][0] if self._chunks else -self._horizon
        if self._execution.needs_chunk(self._step - last, self._horizon):
            chunk = self._policy.act(np.asarray(observation)[None], self._seed, self._calls)[0]
            self._chunks.append((self._step, chunk))
            self._calls += 1
        while self._chunks[0][0] + self._horizon <= self._step:
            self._chunks.popleft()
        proposals = [chunk[self._step - start] for start, chunk in self._chunks]
        self._step += 1
        return self._execution.action(proposals)


@dataclass(frozen=True)
class TimedAction:
    """An action with its age.

    **Arguments:** `age` is the number of steps since the observation of its chunk; `late` is true
    if a new chunk missed the budget, `held` if no chunk covers the step, so that the fallback is
    played.
    """

    action: np.ndarray
    age: int
    late: bool
    held: bool


class RealTimeExecutor:
    """Acts at every step within `budget` seconds; a thread computes the chunks.

    A chunk is requested `steps` steps after the last one, with a timeout of the budget. While it
    is late, the rest of the previous chunk is played; a late chunk is played from the action of
    the current step, so that time stays aligned. After the end of the previous chunk `fallback`
    is played, or without one the last action (zeros before the first).

    **Arguments:** `steps` is at most the horizon; a lower value leaves more actions for a late
    chunk (default: half the horizon, rounded up). `fallback` is an action in the environment's
    units; a robot driven by torques needs one, since its last action may be a push.

    **Raises:** `ValueError` for a budget, `steps` or a fallback that cannot be.
    """

    def __init__(
        self,
        policy: ChunkPolicy,
        budget: float,
        steps: int | None = None,
        fallback: np.ndarray | None = None,
        seed: int = 0,
    ):
        horizon = policy.metadata.horizon
        steps = (horizon + 1) // 2 if steps is None else steps
        if not (budget > 0 and math.isfinite(budget)):
            raise ValueError(f"budget: found {budget}; write a number of seconds, e.g. 0.02")
        if not 1 <= steps <= horizon:
            raise ValueError(f"steps: found {steps}; write an integer from 1 to {horizon}")
        self._policy, self._budget, self._steps, self._horizon = policy, budget, steps, horizon
        self._fallback = _fallback(fallback, policy.metadata.action_size)
        self._worker = ThreadPoolExecutor(1, "qamx-policy")
        self._running: Future[np.ndarray] | None = None
        policy.act(np.zeros((1, policy.metadata.observation_size), np.float32), 0)  # compiles
        self.reset(seed)

    def reset(self, seed: int | None = None) -> None:
        """Begins an episode; the default seed is that of the last one plus 1.

        Waits for a running chunk without a timeout.
        """
        if self._running is not None:
            wait([self._running])  # a chunk of the last episode; the worker takes one at a time
        self._seed = self._seed + 1 if seed is None else seed
        self._calls, self._step = 0, 0
        self._running, self._asked = None, 0
        self._chunk, self._start = np.zeros((0, self._policy.metadata.action_size)), 0
        zeros = np.zeros(self._policy.metadata.action_size, np.float32)
        self._last = zeros if self._fallback is None else self._fallback

    def act(self, observation: np.ndarray) -> TimedAction:
        """The action for an observation [obs]; returns within the budget.

        **Raises:** `ValueError` for an observation that cannot be, and the policy's errors; the
        next call asks it again.
        """
        # A copy: a driver may write the next observation into the same memory.
        rows = checked(self._policy.metadata, np.array(observation, np.float32)[None])
        age = self._step - self._start
        if self._running is None and (not len(self._chunk) or age >= self._steps):
            self._ask(rows)
        late = self._running is not None and not self._collect()
        if self._running is None and self._step - self._start >= len(self._chunk):
            # The chunk came too late for any of its actions.
            self._ask(rows)
            late = True
        index = self._step - self._start
        held = index >= len(self._chunk)
        if not held:
            self._last = self._chunk[index]
        elif self._fallback is not None:
            self._last = self._fallback
        self._step += 1
        return TimedAction(self._last.copy(), index, late, held)

    def close(self) -> None:
        """Ends the thread after the running chunk."""
        self._worker.shutdown(cancel_futures=True)

    def _ask(self, rows: np.ndarray) -> None:
        self._running = self._worker.submit(self._policy.act, rows, self._seed, self._calls)
        self._asked = self._step
        self._calls += 1

    def _collect(self) -> bool:
        """Takes the requested chunk if it comes within the budget."""
        running = self._running
        if running is None or not wait([running], self._budget).done:
            return False
        self._running = None
        self._chunk, self._start = running.result()[0], self._asked
        return True


def _fallback(action: np.ndarray | None, size: int) -> np.ndarray | None:
    """A validated copy of the fallback."""
    if action is None:
        return None
    copy = np.array(action, np.float32)
    if copy.shape != (size,) or not np.isfinite(copy).all():
        raise ValueError(f"fallback: found {copy}; give {size} finite numbers")
    return copy
