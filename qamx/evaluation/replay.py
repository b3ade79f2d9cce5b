"""Episodes that are played again, to be looked at."""

import numpy as np

from qamx.config import EnvironmentSettings
from qamx.config.gymnasium import GymnasiumEnvironmentSettings
from qamx.envs import Environment, Renderable
from qamx.envs.rendering import Image
from qamx.errors import RunError, UserError
from qamx.evaluation.play import Played
from qamx.evaluation.subject import Subject
from qamx.runner.evaluate import Episode


class Again:
    """An episode that was played, step by step once more, with images.

    An episode is a function of its seed and its actions. So what is seen is what was played, no
    matter with how many others and where, which is checked at each step.

    **Raises:** `UserError` if the environment draws nothing.
    """

    def __init__(self, played: Played, episode: Episode, size: int):
        self.played, self.episode, self._size = played, episode, size
        self._env = _drawn(played.subject, played.environment)
        self.step = 0
        self._check(self._env.reset(episode.seed))

    @property
    def over(self) -> bool:
        """Whether the last step has been played."""
        return self.step == self.episode.length

    def advance(self) -> None:
        """Plays the next step.

        **Raises:** `RunError` if something else comes of it than before.
        """
        if not self.over:
            seen = self._env.step(self.episode.actions[self.step])
            self.step += 1
            self._check(seen.observation)

    def image(self) -> Image:
        """What the environment looks like now."""
        assert isinstance(self._env, Renderable)
        return self._env.render(self._size)

    @property
    def steps_per_second(self) -> float | None:
        """The environment's rate, if it knows one."""
        return self._env.steps_per_second if isinstance(self._env, Renderable) else None

    def close(self) -> None:
        """Frees the environment."""
        self._env.close()

    def _check(self, observation: np.ndarray) -> None:
        if not np.array_equal(observation, self.episode.observations[self.step], equal_nan=True):
            raise RunError(
                f"step {self.step} of the episode with reset seed {self.episode.seed} is another "
                "when it is played again: the environment is not a function of seed and actions"
            )


def _drawn(subject: Subject, settings: EnvironmentSettings) -> Environment:
    """The environment, made so that it draws."""
    env = subject.make_environment(_with_images(settings))()
    if not isinstance(env, Renderable):
        env.close()
        raise UserError(
            f"{settings.id} draws no images: give its environment a method render(size) that "
            "returns one, and an attribute steps_per_second"
        )
    return env


def _with_images(settings: EnvironmentSettings) -> EnvironmentSettings:
    """Gymnasium's environments are asked for images where they are made."""
    if not isinstance(settings, GymnasiumEnvironmentSettings):
        return settings
    arguments = {"render_mode": "rgb_array", **settings.arguments}
    return settings.model_copy(update={"arguments": arguments})
