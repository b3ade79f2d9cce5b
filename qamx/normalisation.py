"""Normalisation of observations, actions and rewards."""

import functools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
from jaxtyping import Float

from qamx._utils.files import atomic_write
from qamx._utils.units import Units
from qamx.envs.base import Environment, Step, step_limit
from qamx.envs.checked import checked_reset, checked_step
from qamx.envs.rendering import Image, Renderable
from qamx.errors import UserError

FILE_NAME = "scaling.json"

Vector: TypeAlias = Float[np.ndarray, " entries"]
VECTORS = tuple(vector.name for vector in fields(Units))


@dataclass(frozen=True)
class Normalisation(Units):
    """The normalisation of a run: units, and rewards learned as scale · r + shift."""

    reward_scale: float = 1.0
    reward_shift: float = 0.0

    @property
    def is_identity(self) -> bool:
        """True if nothing is changed."""
        return not (
            self.observation_mean.size
            or self.action_low.size
            or (self.reward_scale, self.reward_shift) != (1.0, 0.0)
        )

    def has_units_of(self, other: Units) -> bool:
        """True if observations and actions have the same units."""
        return all(np.array_equal(getattr(self, v), getattr(other, v)) for v in VECTORS)

    @functools.cached_property
    def units(self) -> Units:
        """The maps of observations and actions alone."""
        return Units(*(getattr(self, vector) for vector in VECTORS))

    def rewards(self, raw: Float[np.ndarray, "*rows"]) -> Float[np.ndarray, "*rows"]:
        """Rewards in the units of learning."""
        return (self.reward_scale * raw + self.reward_shift).astype(np.float32)

    def save(self, directory: Path) -> None:
        """Writes `scaling.json` into a run's folder, unless nothing is changed."""
        if not self.is_identity:
            text = json.dumps(asdict(self), indent=2, default=np.ndarray.tolist)
            atomic_write(directory / FILE_NAME, text)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """The normalisation of a run, the identity where its folder has none.

        **Raises:** `UserError` for a damaged file.
        """
        path = directory / FILE_NAME
        if not path.exists():
            return cls()
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            mean, deviation, low, high = (np.asarray(table[v], np.float32) for v in VECTORS)
            scale, shift = float(table["reward_scale"]), float(table["reward_shift"])
            return cls(mean, deviation, low, high, scale, shift)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}: cannot be read ({type(error).__name__}: {error}); restore it: without "
                "it, the policy's units are not known"
            ) from error


class NormalisedEnvironment:
    """An environment in a policy's units: observations normalised, actions in [-1, 1].

    Rewards are not normalised: an evaluation reports them, and the collector scales them.

    **Arguments:** `make` makes the inner environment.
    """

    def __init__(self, make: Callable[[], Environment], scaling: Normalisation):
        self._env, self._scaling = make(), scaling
        self.observation_size = self._env.observation_size
        self.action_size = self._env.action_size
        self.max_episode_steps = step_limit(self._env)

    def reset(self, seed: int) -> Float[np.ndarray, " obs"]:
        return self._scaling.observations(checked_reset(self._env, seed))

    def step(self, action: Float[np.ndarray, " act"]) -> Step:
        step = checked_step(self._env, self._scaling.to_environment(action))
        return replace(step, observation=self._scaling.observations(step.observation))

    @property
    def steps_per_second(self) -> float | None:
        return self._env.steps_per_second if isinstance(self._env, Renderable) else None

    def render(self, size: int) -> Image:
        """The inner environment's image.

        **Raises:** `UserError` if it draws none.
        """
        if not isinstance(self._env, Renderable):
            raise UserError(
                f"{type(self._env).__name__} draws no images: give it a method render(size) that "
                "returns one, and an attribute steps_per_second"
            )
        return self._env.render(size)

    def close(self) -> None:
        self._env.close()
