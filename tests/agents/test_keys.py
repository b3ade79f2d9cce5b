"""Random keys: each is drawn from or split at most once, in updates, batches and acting."""

from collections import Counter

import equinox as eqx
import jax
import numpy as np
import pytest
from toy import DISCOUNT, HORIZON, RandomWalks, make_parts

from qamx import agents
from qamx.agents import adam, create_state
from qamx.data.replay import BalancedSampling, Replay, UniformSampling
from qamx.schedules import Constant
from qamx.training.plan import evaluation_seeds, keys_of
from qamx.training.state import Trainer

WALKS = RandomWalks().load(0)
UPDATES = 2

# Between them they have every kind of draw: ensembles' backups, paths of the SDE, edits and other
# Gaussian actors, diffusion chains, refinements, batches of two parts, several draws an action.
METHODS = {
    "QAMEdit": {
        "inverse_temperature": Constant(1.0),
        "edit_scale": 0.2,
        "target_entropy_scale": 0.5,
    },
    "DAC": {"bc_weight": 1.0, "diffusion_steps": 3},
    "IFQL": {"expectile": 0.9, "best_of_n": 4},
    "PReFlow": {"inverse_temperature": 1.0, "refinement_scale": 0.2, "proposals": 3},
    "RLPD": {"bc_weight": 1.0, "target_entropy_scale": 0.5},
}


class Uses:
    """Counts what draws from a key or splits it while a program runs."""

    CONSUMERS = ("normal", "uniform", "randint", "bernoulli", "choice", "permutation", "split")

    def __init__(self, patch):
        self.counted = Counter()
        for name in self.CONSUMERS:
            patch.setattr(jax.random, name, self._watched(getattr(jax.random, name)))

    def _watched(self, draw):
        def watched(key, *arguments, **keywords):
            jax.debug.callback(self._count, jax.random.key_data(key))
            return draw(key, *arguments, **keywords)

        return watched

    def _count(self, key):
        self.counted[tuple(np.asarray(key).tolist())] += 1

    def repeated(self):
        jax.effects_barrier()
        return {key: count for key, count in self.counted.items() if count > 1}


@pytest.mark.parametrize("name", METHODS)
def test_no_key_is_used_twice_by_a_run(name, monkeypatch):
    uses = Uses(monkeypatch)
    keys = keys_of(3)
    agent = getattr(agents, name)(make_parts(2, 2), **METHODS[name], key=keys.agent)
    state = create_state(agent, optimiser := adam(1e-3), keys.update)
    sampler = BalancedSampling if name == "RLPD" else UniformSampling
    trainer = Trainer(state, optimiser, sampler(8, HORIZON, DISCOUNT))
    replay = Replay.create(WALKS, capacity=8)
    arrays, key = eqx.filter(state, eqx.is_array), keys.batch
    one = jax.jit(trainer._one)
    for _ in range(UPDATES):
        arrays, key, _ = one(arrays, key, replay)
    observations = np.zeros((4, 2), np.float32)
    for step in (10, 20):
        act = trainer.acting.in_evaluation(arrays.agent, keys.evaluation, step, "evaluate")
        act(observations, 0)
        act(observations, 1)
    for chunk in range(2):
        trainer.acting.collect(arrays.agent, observations[0], keys.collect, np.asarray(chunk))
    assert len(uses.counted) > 3 * UPDATES
    assert uses.repeated() == {}


def test_streams_of_neighbouring_seeds_are_uncorrelated():
    streams = [jax.random.normal(key, (10_000,)) for seed in range(4) for key in keys_of(seed)]
    correlation = np.corrcoef(np.stack(streams)) - np.eye(len(streams))
    assert np.abs(correlation).max() < 5 / np.sqrt(10_000)


def test_evaluations_of_neighbouring_seeds_share_no_episode():
    seeds = [reset for seed in range(20) for reset in evaluation_seeds(seed, 50)]
    assert len(set(seeds)) == len(seeds)
