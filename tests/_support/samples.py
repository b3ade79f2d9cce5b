"""Small data of one's own for tests: the settings that read it, and how it is written."""

import warnings
from typing import Any

import gymnasium
import minari
import numpy as np
from minari import DataCollector

from qamx import registry
from qamx.building import build_data
from qamx.config.environments import GymnasiumEnvironmentSettings
from qamx.config.experiment import scheme_of


def settings_of(source: str, **keys: Any) -> Any:
    """The `[data]` section of a source."""
    model = registry.datasets[scheme_of(source)].load_settings()
    return model.model_validate({"source": source, **keys})


def environment(**keys: Any) -> GymnasiumEnvironmentSettings:
    """An `[environment]` section; the environment itself is never made."""
    return GymnasiumEnvironmentSettings(id="gymnasium:Pendulum-v1", **keys)


def source_of(source: str, env: dict[str, Any] | None = None, **keys: Any) -> Any:
    """The data source that a file names, with the keys of both sections."""
    return build_data(settings_of(source, **keys), environment(**(env or {})))


class Tape(gymnasium.Wrapper):
    """An environment that writes down what it gives."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.rows: list[tuple] = []

    def reset(self, **keywords: Any) -> Any:
        self._seen, info = self.env.reset(**keywords)
        return self._seen, info

    def step(self, action: Any) -> Any:
        after, reward, terminated, truncated, info = self.env.step(action)
        done = terminated or truncated
        self.rows.append((self._seen, action, reward, not terminated, done, after))
        self._seen = after
        return after, reward, terminated, truncated, info


def collect(env: gymnasium.Env, name: str, episodes: int, seed: int = 0) -> list[tuple]:
    """Records random episodes as a Minari data set; returns the transitions as they were."""
    tape = Tape(env)
    collector = DataCollector(tape, record_infos=True)
    for episode in range(episodes):
        collector.reset(seed=seed + episode)
        collector.action_space.seed(seed + episode)
        done = False
        while not done:
            _, _, terminated, truncated, _ = collector.step(collector.action_space.sample())
            done = terminated or truncated
    with warnings.catch_warnings():  # of what a published data set should say about itself
        warnings.simplefilter("ignore")
        collector.create_dataset(name, algorithm_name="random actions")
    collector.close()
    assert name in minari.list_local_datasets()
    return tape.rows


def columns(rows: list[tuple]) -> list[np.ndarray]:
    """The arrays of `qamx.data.transitions.Transitions`, of rows."""
    return [np.asarray(column, np.float32) for column in zip(*rows, strict=True)]
