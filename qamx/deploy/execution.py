"""From chunks of actions to one action a step."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qamx.deploy.loading import ChunkPolicy


class Execution(Protocol):
    """When a chunk is asked for, and which action the chunks so far make."""

    def due(self, age: int, horizon: int) -> bool:
        """Whether a chunk is asked for, `age` steps after the last one."""
        ...

    def action(self, proposals: Sequence[np.ndarray]) -> np.ndarray:
        """The action of a step from what each chunk says of it, the oldest chunk first."""
        ...


@dataclass(frozen=True)
class OpenLoop:
    """A chunk is played to its end, as it is in training and evaluations."""

    def due(self, age: int, horizon: int) -> bool:
        return age >= horizon

    def action(self, proposals: Sequence[np.ndarray]) -> np.ndarray:
        return proposals[-1]


@dataclass(frozen=True)
class RecedingHorizon:
    """The first `steps` actions of a chunk are played, then the next one is asked for.

    **Raises:** `ValueError` if `steps` is not positive.

    **Source:** Chi et al., arXiv 2303.04137, section III.
    """

    steps: int

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps: found {self.steps}; write a positive integer")

    def due(self, age: int, horizon: int) -> bool:
        return age >= min(self.steps, horizon)

    def action(self, proposals: Sequence[np.ndarray]) -> np.ndarray:
        return proposals[-1]


@dataclass(frozen=True)
class TemporalEnsemble:
    r"""A chunk at every step; the mean of what all of them say, weights \(e^{-m i}\), i = 0 the
    oldest chunk.

    **Arguments:** `decay` is m: 0 weighs all chunks alike, larger ones trust older chunks more.

    **Raises:** `ValueError` if the decay is negative or not finite.

    **Source:** Zhao et al., arXiv 2304.13705, section IV.
    """

    decay: float = 0.01

    def __post_init__(self):
        if not (math.isfinite(self.decay) and self.decay >= 0):
            raise ValueError(f"decay: found {self.decay}; write 0 or a positive number")

    def due(self, age: int, horizon: int) -> bool:
        return age >= 1

    def action(self, proposals: Sequence[np.ndarray]) -> np.ndarray:
        weights = np.exp(-self.decay * np.arange(len(proposals)))
        return np.average(proposals, axis=0, weights=weights).astype(np.float32)


class ChunkExecutor:
    """Acts at every step of an episode; the policy is asked where a chunk is due, and waited for.

    **Arguments:** `execution` says how chunks become actions, `seed` begins the draws.
    """

    def __init__(self, policy: ChunkPolicy, execution: Execution | None = None, seed: int = 0):
        self._policy = policy
        self._execution = OpenLoop() if execution is None else execution
        self._horizon = policy.metadata.horizon
        self.reset(seed)

    def reset(self, seed: int | None = None) -> None:
        """Begins an episode; without a seed, with that of the last one plus 1."""
        self._seed = self._seed + 1 if seed is None else seed
        self._calls, self._step = 0, 0
        self._chunks: deque[tuple[int, np.ndarray]] = deque()

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action [act], in the environment's units, for an observation [obs]."""
        last = self._chunks[-1][0] if self._chunks else -self._horizon
        if self._execution.due(self._step - last, self._horizon):
            chunk = self._policy.act(np.asarray(observation)[None], self._seed, self._calls)[0]
            self._chunks.append((self._step, chunk))
            self._calls += 1
        while self._chunks[0][0] + self._horizon <= self._step:
            self._chunks.popleft()
        proposals = [chunk[self._step - start] for start, chunk in self._chunks]
        self._step += 1
        return self._execution.action(proposals)
