"""Evaluation: compiled acting, and the episodes that are played with it."""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from qamx._types import Key
from qamx.agents import AbstractAgent
from qamx.envs import Player, Step
from qamx.envs.protocol import environment_failure
from qamx.errors import RunError, UserError
from qamx.nn import Precision, matmul_precision

Act = Callable[[Float[np.ndarray, "batch obs"], int], Float[np.ndarray, "batch dim"]]
"""Action chunks for observations; the number counts the calls and seeds the draw."""


@dataclass
class Episode:
    """What came of the episode that `seed` begins.

    `observations` holds every one that was seen, `actions` every one that was played, both in the
    policy's units.
    """

    index: int
    seed: int
    success: bool = False
    total_reward: float = 0.0
    observations: list[Float[np.ndarray, " obs"]] = field(default_factory=list)
    actions: list[Float[np.ndarray, " act"]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Environment steps."""
        return len(self.observations) - 1


class Evaluator:
    """Plays an episode from each reset seed, as many at a time as there are players.

    An episode is a success if its last step is. The players are two halves that take turns: while
    one half plays its chunks, the policy is asked for the other's, in one batched call. A player
    whose episode has ended begins the next one at its half's turn. Turns follow each other in a
    fixed order, so that the result does not depend on where the players play.
    """

    def __init__(self, players: Sequence[Player]):
        self._players = players
        # The compiled policy has one batch shape: rows without an episode are padding.
        self._rows = -(-len(players) // 2)

    def play(self, act: Act, seeds: Sequence[int]) -> list[Episode]:
        """One episode for each seed, in their order."""
        episodes = [Episode(index, seed) for index, seed in enumerate(seeds)]
        waiting, calls = iter(episodes), itertools.count()
        halves = self._players[: self._rows], self._players[self._rows :]
        turns = deque(self._turns(half, act, waiting, calls) for half in halves if half)
        while turns:
            half = turns.popleft()
            if next(half, False):
                turns.append(half)
        return episodes

    def _turns(
        self,
        players: Sequence[Player],
        act: Act,
        waiting: Iterator[Episode],
        calls: Iterator[int],
    ) -> Iterator[bool]:
        """Plays episodes in one half of the players; yields when they have something to do."""
        playing = dict(zip(range(len(players)), waiting, strict=False))
        for i, episode in playing.items():
            _begin(players[i], episode)
        yield True
        observations = np.zeros((self._rows, players[0].observation_size), np.float32)
        while playing:
            for i, episode in playing.items():
                observations[i] = _observation(players[i], episode)
            chunks = act(observations, next(calls))
            for i, episode in playing.items():
                _start_chunk(players[i], chunks[i], episode)
            yield True
            for i, episode in list(playing.items()):
                if not _play_chunk(players[i], chunks[i], episode):
                    continue
                following = next(waiting, None)
                if following is None:
                    del playing[i]
                else:
                    playing[i] = following
                    _begin(players[i], following)


def _failure(error: Exception, episode: Episode) -> RunError | UserError:
    where = f"evaluation episode {episode.index}, step {len(episode.observations)}"
    return environment_failure(error, where, episode.seed)


def _begin(player: Player, episode: Episode) -> None:
    try:
        player.reset(episode.seed)
    except Exception as error:
        raise _failure(error, episode) from error


def _observation(player: Player, episode: Episode) -> Float[np.ndarray, " obs"]:
    """The episode's last observation, for which a new one waits."""
    if not episode.observations:
        try:
            episode.observations.append(player.observation())
        except Exception as error:
            raise _failure(error, episode) from error
    return episode.observations[-1]


def _start_chunk(player: Player, chunk: Float[np.ndarray, " dim"], episode: Episode) -> None:
    try:
        player.play(np.asarray(chunk, np.float32).reshape(-1, player.action_size), together=True)
    except Exception as error:
        raise _failure(error, episode) from error


def _play_chunk(player: Player, chunk: Float[np.ndarray, " dim"], episode: Episode) -> bool:
    """Takes the steps of a chunk to its end or the episode's; says whether the episode ended."""
    for action in np.asarray(chunk, np.float32).reshape(-1, player.action_size):
        step = _take_step(player, action, episode)
        if step.done:
            episode.success = bool(step.success)
            return True
    return False


def _take_step(player: Player, action: Float[np.ndarray, " act"], episode: Episode) -> Step:
    """Takes the next step, which plays `action`."""
    try:
        step = player.step()
    except Exception as error:
        raise _failure(error, episode) from error
    episode.actions.append(action)
    episode.observations.append(step.observation)
    episode.total_reward += step.reward
    return step


def validate_environment(player: Player, seed: int) -> None:
    """Plays the episode that `seed` begins, with actions of 0, until its success is known.

    That is one step where the environment says at each whether the task is solved.

    **Raises:** `UserError` for an environment that does not keep to its interface, `RunError` for
    one that fails.
    """
    episode, still = Episode(0, seed), np.zeros(player.action_size, np.float32)
    _begin(player, episode)
    _observation(player, episode)
    known = False
    while not known:
        _start_chunk(player, still, episode)
        step = _take_step(player, still, episode)
        known = step.done or step.success is not None


def summarise(episodes: Sequence[Episode]) -> dict[str, float]:
    """Success rate, and mean return and length of the episodes."""
    return {
        "success": float(np.mean([episode.success for episode in episodes])),
        "return": float(np.mean([episode.total_reward for episode in episodes])),
        "length": float(np.mean([episode.length for episode in episodes])),
    }


Role: TypeAlias = Literal["collect", "evaluate", "behaviour"]
"""What an agent acts for: new data, an evaluation, or an evaluation of its clone of the data."""


class Acting:
    """The compiled action chunks of agents of one form.

    **Arguments:** `agent` is of that form (its arrays are not kept), `precision` how exact matrix
    products are.
    """

    def __init__(self, agent: AbstractAgent, precision: Precision):
        _, self._static = eqx.partition(agent, eqx.is_array)
        self._precision: Precision = precision
        self._act = jax.jit(self.actions, static_argnums=3)

    def __call__(
        self,
        agent: AbstractAgent,
        observations: Float[np.ndarray, "batch obs"],
        key: Key,
        role: Role = "collect",
    ) -> Float[np.ndarray, "batch dim"]:
        """Action chunks of an agent's arrays, or of its clone of the data."""
        with matmul_precision(self._precision):
            return np.asarray(self._act(agent, observations, key, role))

    def actions(
        self, agent: AbstractAgent, observations: Array, key: Key, role: Role
    ) -> PyTree[Array]:
        """The same, to be compiled as a part of something else."""
        whole = eqx.combine(agent, self._static)
        act = {
            "collect": whole.act,
            "evaluate": whole.act_in_evaluation,
            "behaviour": whole.act_as_behaviour,
        }
        return act[role](observations, key)

    def in_evaluation(self, agent: AbstractAgent, key: Key, step: int, role: Role) -> Act:
        """What plays the evaluation of `step`.

        **Arguments:** `agent` are an agent's arrays as they were at that step, `key` is the
        run's for evaluations.
        """
        key = jax.random.fold_in(key, step)
        if jax.default_backend() != "cpu":
            # The accelerator's queue is full of updates: a handful of observations does not wait.
            # JAX_PLATFORMS can leave the host's processor out.
            with contextlib.suppress(RuntimeError):
                agent, key = jax.device_put((agent, key), jax.devices("cpu")[0])

        def act(observations: np.ndarray, call: int) -> np.ndarray:
            return self(agent, observations, jax.random.fold_in(key, call), role)

        return act
