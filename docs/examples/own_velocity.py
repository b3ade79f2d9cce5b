"""Swaps the velocity network of QAM for a residual one that [s, t] modulates (FiLM)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from build_and_update import ACTION_SIZE, HORIZON, OBSERVATION_SIZE, make_batch
from jaxtyping import Array

import qamx
from qamx.nn import AbstractVelocityField, Linear
from qamx.policies import AdjointMatchedFlow, BehaviourFlow, TargetBehaviourFlow
from qamx.schedules import Constant
from qamx.training.state import flatten

DIM = HORIZON * ACTION_SIZE


# --8<-- [start:network]
class FiLMVelocity(AbstractVelocityField):
    """Residual blocks on x, each scaled and shifted by [s, t] (Perez et al., arXiv 1709.07871)."""

    inlet: Linear
    conditions: list[Linear]
    blocks: list[Linear]
    outlet: Linear

    def __init__(self, observation_size: int, dim: int, width: int, depth: int, *, key: Array):
        inlet_key, outlet_key, *keys = jax.random.split(key, 2 + 2 * depth)
        self.inlet = Linear(dim, width, key=inlet_key)
        self.conditions = [Linear(observation_size + 1, 2 * width, key=k) for k in keys[:depth]]
        self.blocks = [Linear(width, width, key=k) for k in keys[depth:]]
        self.outlet = Linear(width, dim, key=outlet_key)

    def __call__(self, observation: Array, x: Array, t: Array) -> Array:
        time = jnp.broadcast_to(t, x.shape[:-1])[..., None]
        context = jnp.concatenate([observation, time], axis=-1)
        hidden = self.inlet(x)
        for condition, block in zip(self.conditions, self.blocks, strict=True):
            scale, shift = jnp.split(condition(context), 2, axis=-1)
            hidden = hidden + block(jax.nn.gelu((1.0 + scale) * hidden + shift))
        return self.outlet(hidden)


# --8<-- [end:network]


# --8<-- [start:agent]
def make_agent(parts: qamx.Parts, key: Array) -> qamx.Agent:
    critic_key, behaviour_key, velocity_key = jax.random.split(key, 3)
    behaviour_velocity = FiLMVelocity(OBSERVATION_SIZE, DIM, 64, 2, key=behaviour_key)
    velocity = FiLMVelocity(OBSERVATION_SIZE, DIM, 64, 2, key=velocity_key)
    behaviour = BehaviourFlow(behaviour_velocity, parts.integrator, DIM)
    base = TargetBehaviourFlow(parts.with_target(behaviour))
    policy = AdjointMatchedFlow(base, velocity, Constant(3.0))
    return qamx.Agent(parts.temporal_difference(critic_key), policy)


# --8<-- [end:agent]


def main() -> None:
    networks = qamx.Networks(OBSERVATION_SIZE, DIM, (64, 64), (64, 64), ensemble_size=2)
    backup, integrator = qamx.Backup(0.99, HORIZON), qamx.Integrator(steps=5)
    parts = qamx.Parts(networks, backup, integrator, target_rate=0.005)
    agent_key, batch_key, update_key = jax.random.split(jax.random.key(0), 3)
    optimiser = qamx.adam(1e-3, gradient_clip=1.0)
    state = qamx.create_state(make_agent(parts, agent_key), optimiser, update_key)
    batch, update = make_batch(batch_key), eqx.filter_jit(qamx.update)
    losses = []
    for _ in range(200):
        state, metrics = update(state, batch, optimiser)
        losses.append(float(flatten(metrics)["behaviour_flow/loss"]))
    first, last = sum(losses[:20]) / 20, sum(losses[-20:]) / 20
    print(f"flow-matching loss: {first:.3f} in the first 20 updates, {last:.3f} in the last 20")
    assert last < 0.8 * first


if __name__ == "__main__":
    main()
