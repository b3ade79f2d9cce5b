"""Replay of evaluation episodes with images, and the choice of MuJoCo's backend."""

import os
import sys
import traceback
import warnings
from typing import Protocol, cast

import numpy as np

from qamx._utils.processes import ChildProcesses, find_renderer
from qamx.config import EnvironmentSettings
from qamx.config.environments import GymnasiumEnvironmentSettings
from qamx.envs import Environment, Renderable, opened
from qamx.envs.checked import checked_reset, checked_step, close, close_with
from qamx.envs.rendering import Image
from qamx.errors import RunError, UserError
from qamx.evaluation.evaluate import EvaluationResult
from qamx.evaluation.policy_source import PolicySource
from qamx.training.evaluator import PlayedEpisode


class EpisodeReplay:
    """Replays an episode step by step, with images.

    An episode is a function of its seed and its actions: each observation is compared with the
    recorded one.

    **Raises:** `UserError` if the environment draws nothing.
    """

    def __init__(self, result: EvaluationResult, episode: PlayedEpisode, size: int):
        self.result, self.episode, self._size = result, episode, size
        self._started, self.step = ChildProcesses(), 0
        with self._started.end_on_error(), self._started.track():
            self._env = _renderable(result.source, result.environment)
            self._check(checked_reset(self._env, episode.seed))

    @property
    def over(self) -> bool:
        """True after the last step."""
        return self.step == self.episode.length

    def advance(self) -> None:
        """Plays the next step.

        **Raises:** `RunError` if the observation differs from the recorded one.
        """
        if not self.over:
            with self._started.tag():
                seen = checked_step(self._env, self.episode.actions[self.step])
            self.step += 1
            self._check(seen.observation)

    def image(self) -> Image:
        """The current image of the environment."""
        return self._env.render(self._size)

    @property
    def steps_per_second(self) -> float | None:
        """The environment's rate, if it has one."""
        return self._env.steps_per_second

    def close(self) -> None:
        """Frees the environment."""
        close_with(self._env, self._started)

    def _check(self, observation: np.ndarray) -> None:
        if not np.array_equal(observation, self.episode.observations[self.step], equal_nan=True):
            raise RunError(
                f"step {self.step} of the episode with reset seed {self.episode.seed} is another "
                "when it is played again: the environment is not a function of seed and actions"
            )


def check_draws(
    source: PolicySource, settings: EnvironmentSettings, size: int, trouble: str = ""
) -> None:
    """Draws an episode's first state, to fail before any episode is played.

    **Arguments:** `trouble` is the fault of MuJoCo's rendering, if there is one.

    **Raises:** `UserError` if the environment draws nothing, or MuJoCo cannot draw it.
    """
    try:
        with warnings.catch_warnings(), opened(lambda: _renderable(source, settings)) as env:
            warnings.filterwarnings("ignore", message=r"\(\d+\) b'")  # GLFW's, before it fails
            env.reset(0)
            cast(RenderableEnv, env).render(size)
    except UserError:
        raise
    except Exception as error:
        if not trouble:
            raise
        # Half-made objects of the failure are freed without their own complaints.
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            traceback.clear_frames(error.__traceback__)
        finally:
            sys.unraisablehook = hook
        raise UserError(f"{settings.id} cannot be drawn: {trouble}") from error


class RenderableEnv(Environment, Renderable, Protocol):
    """An environment that draws itself."""


def _renderable(source: PolicySource, settings: EnvironmentSettings) -> RenderableEnv:
    """The environment, made for drawing."""
    if isinstance(settings, GymnasiumEnvironmentSettings):  # it asks for images at construction
        arguments = {"render_mode": "rgb_array", **settings.arguments}
        settings = settings.model_copy(update={"arguments": arguments})
    try:
        env = source.make_environment(settings)()
    except UserError as error:
        if not isinstance(settings, GymnasiumEnvironmentSettings):
            raise
        raise UserError(
            f'{settings.id} draws no images: made with render_mode = "rgb_array" it says: {error}'
        ) from error
    if not isinstance(env, Renderable):
        close(env)
        raise UserError(
            f"{settings.id} draws no images: give its environment a method render(size) that "
            "returns one, and an attribute steps_per_second"
        )
    return cast(RenderableEnv, env)


_TRIED: set[str] = set()
"""Values of `MUJOCO_GL` that work in this process."""


def choose_backend(*, required: bool) -> str:
    """Sets `MUJOCO_GL` to a backend that draws here, unless it is set; before MuJoCo's import.

    **Returns:** the fault of rendering with its remedy; empty if it works.

    **Raises:** `UserError` with that fault if the environment needs MuJoCo (`required`).
    """
    if os.environ.get("MUJOCO_GL") in _TRIED:
        return ""
    rendering = find_renderer()
    if rendering.remedy:
        trouble = f"{rendering.said}; {rendering.remedy}; qamx doctor shows what works"
        if required:
            raise UserError(trouble)
        return trouble
    if rendering.backend:
        os.environ["MUJOCO_GL"] = rendering.backend
        _TRIED.add(rendering.backend)
    return ""
