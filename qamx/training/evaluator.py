"""Evaluation: compiled acting, and the episodes played with it."""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from qamx._types import Key
from qamx.agents import AbstractAgent
from qamx.envs import EnvHandle
from qamx.envs.protocol import environment_errors
from qamx.nn import Precision, matmul_precision

Act = Callable[[Float[np.ndarray, "batch obs"], int], Float[np.ndarray, "batch dim"]]
"""Action chunks for observations; the number counts the calls and seeds the draw."""


@dataclass
class PlayedEpisode:
    """The episode of a reset seed; all observations and actions are in the policy's units."""

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

    def locate(self) -> tuple[str, int]:
        """The present step in words, and the reset seed, for error messages."""
        return f"evaluation episode {self.index}, step {len(self.observations)}", self.seed


def _announced(
    episodes: Sequence[PlayedEpisode], begun: Callable[[int], object]
) -> Iterator[PlayedEpisode]:
    for episode in episodes:
        begun(episode.index)
        yield episode


class Evaluator:
    """Plays an episode from each reset seed, as many at a time as there are environments.

    An episode is a success if its last step is. The environments are two halves that take turns:
    while one half plays its chunks, the policy is asked for the other's, in one batched call. An
    environment whose episode has ended begins the next one at its half's turn. Turns follow each
    other in a fixed order, so that the result does not depend on the processes.
    """

    def __init__(self, environments: Sequence[EnvHandle]):
        self._environments = environments
        # The compiled policy has one batch shape: rows without an episode are padding.
        self._rows = -(-len(environments) // 2)

    def play(
        self, act: Act, seeds: Sequence[int], begun: Callable[[int], object] = lambda index: None
    ) -> list[PlayedEpisode]:
        """One episode for each seed, in their order.

        **Arguments:** `begun` is called with the index of each episode when it begins.
        """
        episodes = [PlayedEpisode(index, seed) for index, seed in enumerate(seeds)]
        waiting, calls = _announced(episodes, begun), itertools.count()
        halves = self._environments[: self._rows], self._environments[self._rows :]
        turns = deque(self._turns(half, act, waiting, calls) for half in halves if half)
        while turns:
            half = turns.popleft()
            if next(half, False):
                turns.append(half)
        return episodes

    def _turns(
        self,
        environments: Sequence[EnvHandle],
        act: Act,
        waiting: Iterator[PlayedEpisode],
        calls: Iterator[int],
    ) -> Iterator[bool]:
        """Plays episodes in one half of the environments; yields while they are busy."""
        playing = dict(zip(range(len(environments)), waiting, strict=False))
        for i, episode in playing.items():
            _begin(environments[i], episode)
        yield True
        observations = np.zeros((self._rows, environments[0].observation_size), np.float32)
        while playing:
            for i, episode in playing.items():
                with environment_errors(episode.locate):
                    if not episode.observations:
                        episode.observations.append(environments[i].observation())
                observations[i] = episode.observations[-1]
            flat = np.asarray(act(observations, next(calls)), np.float32)
            chunks = flat.reshape(self._rows, -1, environments[0].action_size)
            for i, episode in playing.items():
                with environment_errors(episode.locate):
                    environments[i].play(chunks[i], together=True)
            yield True
            for i, episode in list(playing.items()):
                if not _play_chunk(environments[i], chunks[i], episode):
                    continue
                following = next(waiting, None)
                if following is None:
                    del playing[i]
                else:
                    playing[i] = following
                    _begin(environments[i], following)


def _begin(env: EnvHandle, episode: PlayedEpisode) -> None:
    with environment_errors(episode.locate):
        env.reset(episode.seed)


def _play_chunk(env: EnvHandle, chunk: Float[np.ndarray, "n act"], episode: PlayedEpisode) -> bool:
    """Takes the steps of a chunk up to its end or the episode's; true at the latter."""
    with environment_errors(episode.locate):
        for action in chunk:
            step = env.step()
            episode.actions.append(action)
            episode.observations.append(step.observation)
            episode.total_reward += step.reward
            if step.done:
                episode.success = bool(step.success)
                return True
    return False


def validate_environment(env: EnvHandle, seed: int) -> None:
    """Plays the episode of a seed, with actions of 0, until its success is known.

    That is one step where the environment reports success at each.

    **Raises:** `UserError` for an environment that breaks its interface, `RunError` for one that
    fails.
    """
    episode, still = PlayedEpisode(0, seed), np.zeros((1, env.action_size), np.float32)
    with environment_errors(episode.locate):
        env.reset(seed)
        episode.observations.append(env.observation())
        known = False
        while not known:
            env.play(still, together=True)
            step = env.step()
            episode.observations.append(step.observation)
            known = step.done or step.success is not None


def summarise(episodes: Sequence[PlayedEpisode]) -> dict[str, float]:
    """Success rate, and mean return and length of the episodes."""
    return {
        "success": float(np.mean([episode.success for episode in episodes])),
        "return": float(np.mean([episode.total_reward for episode in episodes])),
        "length": float(np.mean([episode.length for episode in episodes])),
    }


Role: TypeAlias = Literal["collect", "evaluate", "behaviour"]
"""The purpose of acting: new data, an evaluation, or an evaluation of the clone of the data."""


class Acting:
    """Compiled action chunks of agents of one structure.

    **Arguments:** `agent` has their structure (its arrays are not kept), `precision` is that of
    matrix products; `of_seeds` turns a function of one seed's trees into one of joined trees.
    """

    def __init__(
        self,
        agent: AbstractAgent,
        precision: Precision,
        of_seeds: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function,
    ):
        _, self._static = eqx.partition(agent, eqx.is_array)
        self._precision: Precision = precision
        # Compiled with JAX's own options, as exported policies are, which act bitwise as these do.
        self._act = jax.jit(self.actions, static_argnums=3)
        self._collect = jax.jit(of_seeds(self._chunk))

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

    def collect(
        self,
        agents: AbstractAgent,
        observations: Float[np.ndarray, "*seeds obs"],
        keys: Key,
        calls: Int[np.ndarray, "*seeds"],
    ) -> Float[np.ndarray, "*seeds dim"]:
        """A chunk of each seed's policy to collect data with; the arguments are joined trees.

        **Arguments:** a draw is seeded by the seed's key and the number of its call.
        """
        with matmul_precision(self._precision):
            return np.asarray(self._collect(agents, observations, keys, calls))

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

    def _chunk(
        self, agent: AbstractAgent, observation: Array, key: Key, call: Array
    ) -> PyTree[Array]:
        key = jax.random.fold_in(key, call)
        return self.actions(agent, observation[None], key, "collect")[0]

    def in_evaluation(self, agent: AbstractAgent, key: Key, step: int, role: Role) -> Act:
        """The policy of the evaluation at `step`.

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
