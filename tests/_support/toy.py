"""A small problem for the runner's tests: a point that must reach the corner of a square."""

import jax
import numpy as np
from corner import LIMIT, Corner

from qamx import QAM, QAMFQL, Backup, Integrator, Networks, Parts, QAMEdit
from qamx.agents import adam
from qamx.data.replay import UniformSampling
from qamx.data.transitions import Transitions
from qamx.schedules import Constant, LinearSchedule, Offline, Online, Schedule
from qamx.training.plan import Evaluation, Intervals, RunPlan

HORIZON, DISCOUNT = 3, 0.9
OPTIMISER = adam(1e-3, 1.0)


class RandomWalks:
    """Shards of random behaviour in the corner problem."""

    def __init__(self, shards=2, updates_per_shard=None, episodes=20):
        self.shards, self.updates_per_shard = shards, updates_per_shard
        self._episodes = episodes
        self.loaded = []

    def load(self, shard):
        self.loaded.append(shard)
        rng, env = np.random.default_rng(shard), Corner()
        rows = []
        while len(rows) < self._episodes * LIMIT:
            x, done = env.reset(int(rng.integers(2**31))), False
            while not done and len(rows) < self._episodes * LIMIT:
                action = rng.uniform(-1, 1, 2).astype(np.float32)
                step = env.step(action)
                done = step.done or len(rows) + 1 == self._episodes * LIMIT
                rows.append((x, action, step.reward, 1 - step.terminated, done, step.observation))
                x = step.observation
        columns = [np.asarray(column, np.float32) for column in zip(*rows, strict=True)]
        return Transitions(*columns)


def make_parts(observation_size, action_size, hidden=(16,)):
    networks = Networks(observation_size, HORIZON * action_size, hidden, hidden, ensemble_size=2)
    return Parts(networks, Backup(DISCOUNT, HORIZON, 0.5), Integrator(3), target_rate=0.05)


def make_agent(observation_size, action_size, key):
    parts = make_parts(observation_size, action_size)
    return QAM(parts, inverse_temperature=Constant(1.0), key=key)


def make_strong_agent(observation_size, action_size, key):
    parts = make_parts(observation_size, action_size, (64, 64))
    return QAM(parts, inverse_temperature=Constant(20.0), key=key)


def make_edit_agent(observation_size, action_size, key):
    parts, tau = make_parts(observation_size, action_size), LinearSchedule(0.0, 2.0, 50)
    return QAMEdit(
        parts, inverse_temperature=tau, edit_scale=0.2, target_entropy_scale=0.5, key=key
    )


def make_fql_agent(observation_size, action_size, key):
    parts, tau = make_parts(observation_size, action_size), Constant(1.0)
    return QAMFQL(parts, inverse_temperature=tau, distill_weight=3.0, key=key)


def make_plan(offline=40, online=40, warmup=5, every=10, data=None, seed=0, **changes):
    values = {
        "seed": seed,
        "make_agent": make_agent,
        "optimiser": OPTIMISER,
        "sampling": UniformSampling(8, HORIZON, DISCOUNT),
        "schedule": Schedule((Offline(offline), Online(online, warmup, 1))),
        "data": RandomWalks() if data is None else data,
        "make_environment": Corner,
        "intervals": Intervals(logging=7, evaluation=20, checkpoint=every),
        "evaluation": Evaluation(episodes=3, environments=2, behaviour=True),
        "keep_checkpoints": 2,
    }
    return RunPlan(**(values | changes))


def leaves(runner):
    """Every array of training and of the replay, by name, as NumPy arrays."""
    tree = (runner.training, runner.replay)
    named = jax.tree.leaves_with_path(tree)
    arrays = {}
    for path, leaf in named:
        is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        arrays[jax.tree_util.keystr(path)] = np.asarray(
            jax.random.key_data(leaf) if is_key else leaf
        )
    return arrays
