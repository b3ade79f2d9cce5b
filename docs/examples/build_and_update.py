"""Builds a QAM agent, makes updates on a synthetic batch, and samples actions."""

import equinox as eqx
import jax
import jax.numpy as jnp

import qamx
from qamx.schedules import Constant
from qamx.training.state import flatten

OBSERVATION_SIZE, ACTION_SIZE, HORIZON, BATCH = 4, 2, 5, 32


# --8<-- [start:agent]
def make_agent(key: jax.Array) -> qamx.QAM:
    networks = qamx.Networks(
        observation_size=OBSERVATION_SIZE,
        action_dim=HORIZON * ACTION_SIZE,
        actor_hidden=(64, 64),
        critic_hidden=(64, 64),
        ensemble_size=2,
    )
    backup = qamx.Backup(discount=0.99, horizon=HORIZON, pessimism=0.5)
    parts = qamx.Parts(networks, backup, qamx.Integrator(steps=5), target_rate=0.005)
    return qamx.QAM(parts, inverse_temperature=Constant(3.0), key=key)


# --8<-- [end:agent]


# --8<-- [start:batch]
def make_batch(key: jax.Array) -> qamx.Batch:
    observation_key, action_key, next_key = jax.random.split(key, 3)
    actions = jax.random.uniform(action_key, (BATCH, HORIZON * ACTION_SIZE), minval=-1.0)
    return qamx.Batch(
        observations=jax.random.normal(observation_key, (BATCH, OBSERVATION_SIZE)),
        actions=actions,
        rewards=-jnp.sum(actions**2, axis=-1),
        masks=jnp.ones(BATCH),
        valid=jnp.ones(BATCH),
        next_observations=jax.random.normal(next_key, (BATCH, OBSERVATION_SIZE)),
    )


# --8<-- [end:batch]


def main() -> None:
    # --8<-- [start:update]
    agent_key, batch_key, update_key, act_key = jax.random.split(jax.random.key(0), 4)
    agent, batch = make_agent(agent_key), make_batch(batch_key)

    optimiser = qamx.adam(learning_rate=3e-4, gradient_clip=1.0)
    state = qamx.create_state(agent, optimiser, update_key)
    update = eqx.filter_jit(qamx.update)
    state, metrics = update(state, batch, optimiser)
    for name, value in flatten(metrics).items():
        print(f"{name:40} {value:10.4f}")

    actions = eqx.filter_jit(state.agent.act)(batch.observations, act_key)
    # --8<-- [end:update]
    print(f"updates made: {state.updates}")
    print(f"actions: {actions.shape}, from {actions.min():.2f} to {actions.max():.2f}")
    assert actions.shape == (BATCH, HORIZON * ACTION_SIZE)
    assert jnp.abs(actions).max() <= 1.0


if __name__ == "__main__":
    main()
