"""Random steps of a walker, to begin learning from."""

import numpy as np

from qamx.data.sequences import Transitions
from qamx.envs.walk import WalkEnvironment, Walker

SEED = 0


class RandomSteps:
    """The first steps that OGBench's experts learn from: uniform random actions.

    They are played when they are loaded, the same ones each time: a continued run needs no file.

    **Arguments:** `steps` is their number; the last episode is cut there.
    """

    shards = 1
    updates_per_shard = None

    def __init__(self, walker: Walker, steps: int):
        self._walker: Walker = walker
        self._steps = steps

    def load(self, shard: int) -> Transitions:
        environment = WalkEnvironment(self._walker)
        try:
            return _played(environment, self._steps)
        finally:
            environment.close()


def _played(environment: WalkEnvironment, steps: int) -> Transitions:
    generator = np.random.default_rng(SEED)
    observation, episode, rows = environment.reset(0), 0, []
    for index in range(steps):
        action = generator.uniform(-1.0, 1.0, environment.action_size).astype(np.float32)
        step = environment.step(action)
        mask = 0.0 if step.terminated else 1.0
        end = 1.0 if step.done or index + 1 == steps else 0.0
        rows.append((observation, action, step.reward, mask, end, step.observation))
        observation = step.observation
        if step.done:
            episode += 1
            observation = environment.reset(episode)
    return Transitions(*(np.asarray(column, np.float32) for column in zip(*rows, strict=True)))
