"""Playing evaluation episodes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from qamx.envs import ChunkExecutor, Environment

Act = Callable[[Float[np.ndarray, "batch obs"], int], Float[np.ndarray, "batch dim"]]
"""Action chunks for observations; the number counts the calls and seeds the draw."""


@dataclass
class Episode:
    """What came of one episode; `observations` holds every one that was seen."""

    success: bool = False
    total_reward: float = 0.0
    observations: list[Float[np.ndarray, " obs"]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Environment steps."""
        return len(self.observations) - 1


def play_episodes(
    act: Act, environments: Sequence[Environment], seeds: Sequence[int]
) -> list[Episode]:
    """Plays an episode from each reset seed; the policy is called once a chunk for a whole group.

    An episode is a success if its last step is. Episodes that begin together stay on the same
    chunk boundary, so that one batched call serves them all.
    """
    episodes: list[Episode] = []
    calls = 0
    for first in range(0, len(seeds), len(environments)):
        group = seeds[first : first + len(environments)]
        played, calls = _play_group(act, environments[: len(group)], group, calls, environments)
        episodes += played
    return episodes


def _play_group(act, playing, seeds, calls, environments):
    episodes = [
        Episode(observations=[env.reset(seed)]) for env, seed in zip(playing, seeds, strict=True)
    ]
    active = set(range(len(playing)))
    executors = [ChunkExecutor(env.action_size) for env in playing]
    # The compiled policy has one batch shape: rows of finished episodes are padding.
    observations = np.zeros((len(environments), playing[0].observation_size), np.float32)
    while active:
        for i in active:
            observations[i] = episodes[i].observations[-1]
        chunks = act(observations, calls)
        calls += 1
        for i in sorted(active):
            executors[i].load(chunks[i])
            if _play_chunk(playing[i], executors[i], episodes[i]):
                active.discard(i)
    return episodes, calls


def _play_chunk(env: Environment, executor: ChunkExecutor, episode: Episode) -> bool:
    """Plays what is left of a chunk; says whether the episode ended."""
    while not executor.needs_chunk:
        step = env.step(executor.pop())
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
