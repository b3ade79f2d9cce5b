"""Playing evaluation episodes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from qamx.envs import ChunkExecutor, Environment
from qamx.errors import RunError
from qamx.runner.failure import environment_failure

Act = Callable[[Float[np.ndarray, "batch obs"], int], Float[np.ndarray, "batch dim"]]
"""Action chunks for observations; the number counts the calls and seeds the draw."""


@dataclass
class Episode:
    """What came of the episode that `seed` begins; `observations` holds every one that was seen."""

    index: int
    seed: int
    success: bool = False
    total_reward: float = 0.0
    observations: list[Float[np.ndarray, " obs"]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Environment steps."""
        return len(self.observations) - 1


class Evaluator:
    """Plays an episode from each reset seed, as many at a time as there are environments.

    An episode is a success if its last step is. Episodes that begin together stay on the same
    chunk boundary, so that one batched call of the policy serves them all.
    """

    def __init__(self, environments: Sequence[Environment]):
        self._environments = environments

    def play(self, act: Act, seeds: Sequence[int]) -> list[Episode]:
        """One episode for each seed, in their order."""
        episodes: list[Episode] = []
        calls = 0
        for first in range(0, len(seeds), len(self._environments)):
            group = [
                Episode(first + i, seed)
                for i, seed in enumerate(seeds[first : first + len(self._environments)])
            ]
            calls = self._play_together(act, group, calls)
            episodes += group
        return episodes

    def _play_together(self, act: Act, episodes: list[Episode], calls: int) -> int:
        """Plays a group to its end; returns the number of policy calls so far."""
        shape = (len(self._environments), self._environments[0].observation_size)
        # The compiled policy has one batch shape: rows of finished episodes are padding.
        observations = np.zeros(shape, np.float32)
        for env, episode in zip(self._environments, episodes, strict=False):
            _begin(env, episode)
        active = list(range(len(episodes)))
        while active:
            for i in active:
                observations[i] = episodes[i].observations[-1]
            chunks = act(observations, calls)
            calls += 1
            active = [
                i for i in active if not _play_chunk(self._environments[i], chunks[i], episodes[i])
            ]
        return calls


def _begin(env: Environment, episode: Episode) -> None:
    try:
        episode.observations.append(env.reset(episode.seed))
    except Exception as error:
        raise _failure(error, episode) from error


def _failure(error: Exception, episode: Episode) -> RunError:
    where = f"evaluation episode {episode.index}, step {len(episode.observations)}"
    return environment_failure(error, where, episode.seed)


def _play_chunk(env: Environment, chunk: Float[np.ndarray, " dim"], episode: Episode) -> bool:
    """Plays a chunk to its end or the episode's; says whether the episode ended."""
    executor = ChunkExecutor(env.action_size)
    executor.load(chunk)
    while not executor.needs_chunk:
        try:
            step = env.step(executor.pop())
        except Exception as error:
            raise _failure(error, episode) from error
        episode.observations.append(step.observation)
        episode.total_reward += step.reward
        if step.done:
            episode.success = step.success
            return True
    return False


def summarise(episodes: Sequence[Episode]) -> dict[str, float]:
    """Success rate, and mean return and length of the episodes."""
    return {
        "success": float(np.mean([episode.success for episode in episodes])),
        "return": float(np.mean([episode.total_reward for episode in episodes])),
        "length": float(np.mean([episode.length for episode in episodes])),
    }
