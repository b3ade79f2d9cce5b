"""Trains QAM with an inverse temperature that rises along a cosine."""

from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
from build_and_update import ACTION_SIZE, HORIZON, OBSERVATION_SIZE, make_batch

import qamx
from qamx.schedules import AbstractInverseTemperature
from qamx.training.state import flatten


# --8<-- [start:schedule]
class Cosine(AbstractInverseTemperature):
    """From `start` to `stop` along half a cosine over `updates` updates, `stop` from then on."""

    start: float
    stop: float
    updates: int
    count: jax.Array  # an integer, so that the optimiser leaves it alone

    def __init__(self, start: float, stop: float, updates: int):
        self.start, self.stop, self.updates = start, stop, updates
        self.count = jnp.zeros((), jnp.int32)

    def value(self) -> jax.Array:
        done = jnp.minimum(self.count / self.updates, 1.0)
        return self.start + (self.stop - self.start) * 0.5 * (1.0 - jnp.cos(jnp.pi * done))

    def advance(self, path_kl: jax.Array) -> Self:
        return eqx.tree_at(lambda schedule: schedule.count, self, self.count + 1)


# --8<-- [end:schedule]


def main() -> None:
    agent_key, batch_key, update_key = jax.random.split(jax.random.key(0), 3)
    dim = HORIZON * ACTION_SIZE
    networks = qamx.Networks(OBSERVATION_SIZE, dim, (64, 64), (64, 64), ensemble_size=2)
    backup = qamx.Backup(0.99, HORIZON, 0.5)
    parts = qamx.Parts(networks, backup, qamx.Integrator(steps=5), target_rate=0.005)
    # --8<-- [start:agent]
    agent = qamx.QAM(parts, inverse_temperature=Cosine(0.0, 4.0, updates=4), key=agent_key)
    # --8<-- [end:agent]
    optimiser = qamx.adam(3e-4, gradient_clip=1.0)
    state = qamx.create_state(agent, optimiser, update_key)
    batch, update = make_batch(batch_key), eqx.filter_jit(qamx.update)
    seen = []
    for _ in range(6):
        state, metrics = update(state, batch, optimiser)
        seen.append(float(flatten(metrics)["adjoint_matching/inverse_temperature"]))
    print("inverse temperature:", [round(tau, 3) for tau in seen])
    assert jnp.allclose(jnp.array(seen), jnp.array([0.0, 0.586, 2.0, 3.414, 4.0, 4.0]), atol=1e-3)


if __name__ == "__main__":
    main()
