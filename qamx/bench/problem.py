"""A method in a benchmark: its sizes, and random data of the right shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

from qamx import registry
from qamx.agents import TrainState, create_state
from qamx.assembly import build_agent, build_optimiser, build_sampling
from qamx.config.agents import AgentSettings
from qamx.data.replay import Replay, Sampling
from qamx.data.transitions import Transitions

EPISODE = 1_000
"""Rows of a trajectory of the random data."""


@dataclass(frozen=True)
class Size:
    """Entries of an observation and of an action, keys of `[agent]`, updates of a timed call."""

    observation: int
    action: int
    agent: Mapping[str, Any]
    updates: int


def _small(width: int, batch: int) -> dict[str, Any]:
    return {
        "actor_hidden": (width, width),
        "critic_hidden": (width, width),
        "ensemble_size": 2,
        "flow_steps": 5,
        "batch_size": batch,
    }


SIZES = {
    "paper": Size(55, 5, {}, 2),
    "quickstart": Size(2, 2, _small(128, 128), 50),
    "tiny": Size(2, 2, _small(32, 64), 200),
}
"""The paper's networks on cube-quadruple, those of `experiments/quickstart.toml`, smaller ones."""


def settings_of(method: str, **values: Any) -> AgentSettings:
    """A method at its defaults; required keys, which change no size, as their examples.

    **Raises:** `UserError` if there is no method of that name.
    """
    model = registry.agents[method].load_settings()
    required = {
        key: (field.examples or [method])[0]
        for key, field in model.model_fields.items()
        if field.is_required()
    }
    settings = model.model_validate({**required, **values})
    assert isinstance(settings, AgentSettings)
    return settings


@dataclass(frozen=True)
class Problem:
    """What a training run needs, on random data."""

    settings: AgentSettings
    observation: int
    action: int

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """The method's."""
        return build_optimiser(self.settings)

    @property
    def sampling(self) -> Sampling:
        """The method's."""
        return build_sampling(self.settings)

    def state(self, key: jax.Array) -> TrainState:
        """Before the first update."""
        agent_key, update_key = jax.random.split(key)
        agent = build_agent(self.settings, self.observation, self.action, agent_key)
        return create_state(agent, self.optimiser, update_key)

    def transitions(self, rows: int = 10 * EPISODE) -> Transitions:
        """Unstructured data."""
        rng = np.random.default_rng(0)
        ends = np.zeros(rows, np.float32)
        ends[EPISODE - 1 :: EPISODE] = 1
        return Transitions(
            rng.standard_normal((rows, self.observation), np.float32),
            rng.uniform(-1, 1, (rows, self.action)).astype(np.float32),
            -np.ones(rows, np.float32),
            np.ones(rows, np.float32),
            ends,
            rng.standard_normal((rows, self.observation), np.float32),
        )

    def replay(self, members: int | None = None) -> Replay:
        """The data on the device, for one seed or a group of them."""
        return Replay.create(self.transitions(), 0, members)
