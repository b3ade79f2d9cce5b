"""How batches are drawn from the replay."""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from qamx._types import Batch, Key
from qamx.data.replay import Replay
from qamx.data.sequences import windows


class Sampling(Protocol):
    """Draws batches of action-chunk windows inside a compiled program."""

    @property
    def horizon(self) -> int:
        """Steps of a window."""
        ...

    def draw(self, replay: Replay, key: Key) -> Batch:
        """A batch of windows over the filled rows."""
        ...


@dataclass(frozen=True)
class UniformSampling:
    """`batch_size` windows of `horizon` steps, uniform over all start rows, old and new alike;
    `discount` is per step."""

    batch_size: int
    horizon: int
    discount: float

    def draw(self, replay: Replay, key: Key) -> Batch:
        starts = jax.random.randint(key, (self.batch_size,), 0, replay.size - self.horizon + 1)
        return windows(replay, starts, self.horizon, self.discount)


@dataclass(frozen=True)
class BalancedSampling:
    """Half of each batch from the offline rows and half from the online ones, uniform in each;
    all of it from the offline rows until a whole window was collected.

    **Source:** symmetric sampling, Ball et al., arXiv 2302.02948.
    """

    batch_size: int
    horizon: int
    discount: float

    def draw(self, replay: Replay, key: Key) -> Batch:
        offline_key, online_key = jax.random.split(key)
        first, count = replay.offline_size, self.batch_size // 2
        end = first - self.horizon + 1
        offline = jax.random.randint(offline_key, (self.batch_size,), 0, end)
        last = jnp.maximum(replay.size - self.horizon, first)
        online = jax.random.randint(online_key, (count,), first, last + 1)
        collected = replay.size - first >= self.horizon
        starts = offline.at[:count].set(jnp.where(collected, online, offline[:count]))
        return windows(replay, starts, self.horizon, self.discount)
