"""A problem with a known optimum that every method must solve: two steps, four modes.

A context c = 1 or -1 is shown. The second entry of the first action, times c, is the stake w of the
second step; there the first entry of the action, times c, is rewarded: r = (1 + w)(1 + c a_0). The
data's actions have four modes, of which two are right at each step, so that the behaviour is right
half of the time, and the mean of its actions is between right and wrong. The second step is a
contextual bandit; the first has no reward of its own and is learned by bootstrapping alone.
"""

import jax
import jax.numpy as jnp
import numpy as np

from qamx import Backup, Integrator, Networks, Parts
from qamx.data.replay import UniformSampling
from qamx.data.transitions import Transitions

DISCOUNT = 0.9
OBSERVATION, ACTION = 3, 2


def observation(step, context, stake):
    """What is seen: the step (0 or 1), the context, and the stake (0 at the first step)."""
    return np.stack(np.broadcast_arrays(step, context, stake), axis=-1).astype(np.float32)


def behaviour(rng, count):
    """Actions of the data: four modes of deviation 0.2."""
    modes = rng.choice([-0.5, 0.5], (count, ACTION))
    return np.clip(modes + rng.normal(0, 0.2, (count, ACTION)), -0.999, 0.999).astype(np.float32)


def dataset(episodes=5_000, seed=0):
    """The transitions of `episodes` of the behaviour."""
    rng = np.random.default_rng(seed)
    context = rng.choice([-1.0, 1.0], episodes)
    first, second = behaviour(rng, episodes), behaviour(rng, episodes)
    stake = context * first[:, 1]
    reward = (1 + stake) * (1 + context * second[:, 0])
    begin, middle = observation(0, context, 0), observation(1, context, stake)
    pairs = {
        "observations": (begin, middle),
        "actions": (first, second),
        "rewards": (np.zeros(episodes), reward),
        "masks": (np.ones(episodes), np.zeros(episodes)),
        "ends": (np.zeros(episodes), np.ones(episodes)),
        "next_observations": (middle, middle),
    }
    columns = {
        name: np.stack(pair, axis=1).reshape(2 * episodes, *pair[0].shape[1:])
        for name, pair in pairs.items()
    }
    return Transitions(**{name: np.asarray(c, np.float32) for name, c in columns.items()})


def make_parts(flow_steps):
    networks = Networks(OBSERVATION, ACTION, (32, 32), (32, 32), ensemble_size=2)
    return Parts(networks, Backup(DISCOUNT, 1, 0.0), Integrator(flow_steps), target_rate=0.02)


def windows_of(batch_size):
    return UniformSampling(batch_size, 1, DISCOUNT)


def right_choices(agent, key, count=500):
    """The shares of right actions at the first and at the second step."""
    context = np.where(np.arange(count) % 2, 1.0, -1.0)
    one, two = jax.random.split(key)
    act = jax.jit(lambda obs, key: agent.act_in_evaluation(obs, key))
    first = np.asarray(act(jnp.asarray(observation(0, context, 0)), one))
    second = np.asarray(act(jnp.asarray(observation(1, context, 0.5)), two))
    return float(np.mean(context * first[:, 1] > 0)), float(np.mean(context * second[:, 0] > 0))
